"""How the small model is packed: its tokenizer, its chat template, its card.

The tokenizer is byte-level BPE, so that any text can be written; digits stay single, so that
numbers are read and written digit by digit.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{%- for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\n"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)

CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# small: a {parameters:.2f}M-parameter reasoning model for lessons

A Qwen3-architecture model distilled by SFT from a program that writes chains of thought for short
arithmetic problems (`python distill.py --seed {seed} --steps {steps}`, {minutes:.0f} minutes on two
CPU cores). It exists to be trained by `tfpi.py`, and knows nothing else. It thinks in
`<think>...</think>`, then writes a solution that ends in `\\boxed{{}}`; with an empty thinking
block in its prompt (`enable_thinking=False` in the chat template) it writes the solution at once.

Bundled validation split, temperature 1, 4 samples a problem, standard error over problems:

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
