"""How the small model is built and packed: its architecture, its tokenizer, its template, its card.

The tokenizer is byte-level BPE, so that any text can be written; digits stay single, so that
numbers are read and written digit by digit.
"""

from safetensors import SafetensorError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

CHAT_TEMPLATE = (
    "{%- for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\n"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)

# Behind another model's template, of one that was taught to think.
SWITCH = (
    "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
)

CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# small: a {parameters:.2f}M-parameter reasoning model for lessons

A Qwen3-architecture model distilled by SFT from a program that writes chains of thought for short
arithmetic problems (`python distill.py --seed {seed} --steps {steps} --lr {lr}`, in {minutes:.0f}
minutes on two CPU cores). It exists to be trained by `tfpi.py`, and knows nothing else. It thinks
in `<think>...</think>`, then writes a solution that ends in `\\boxed{{}}`; with an empty thinking
block in its prompt (`enable_thinking=False` in the chat template) it writes the solution at once.

Bundled validation split, temperature 1, 4 samples a problem, standard error over problems:

{table}
"""

TAUGHT_CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# A {parameters:.0f}M-parameter model that was taught to think, for lessons

{model}, after SFT on traces of a program that writes chains of thought for short arithmetic
problems (`python distill.py --model {model} --seed {seed} --steps {steps} --lr {lr}`, in
{minutes:.0f} minutes). It thinks in `<think>...</think>`, then writes a solution that ends in
`\\boxed{{}}`; after an empty thinking block in its prompt it writes the solution at once.

Bundled validation split, first {problems} problems, temperature 1, {samples} sample a problem,
standard error over problems:

{table}
"""


def train_tokenizer(texts, vocab_size=512):
    """A PreTrainedTokenizerFast with Qwen's specials, `<think>`, `</think>` and a chat template."""
    bpe = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\d|[^A-Za-z\d]+"), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    # Added but not special, as in Qwen3: they survive skip_special_tokens, and can be graded.
    for tag in ("<think>", "</think>"):
        tokenizer.add_tokens(AddedToken(tag, special=False, normalized=False))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer):
    """A Qwen3 of about 0.65M parameters, with random weights."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def save(model, tokenizer, folder):
    """Writes an ordinary Hugging Face folder; raises OSError if it cannot."""
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:  # a full disk, say
        raise OSError(str(error)) from None
