"""How x and x' end, with templates that behave like those of today's models.

The templates are our own, as short as the behaviour allows.
"""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from examples.prompts import main
from reward import grade
from support.model import ModelError
from thinkfree import check_prompts, describe_prompts, render, response_text, think_free

USER = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
ASSISTANT = "{% if add_generation_prompt %}<|assistant|>\n"
OFF = "enable_thinking is defined and not enable_thinking"
ON = "enable_thinking is defined and enable_thinking"
BLOCK = "<think>\n\n</think>\n\n"


def bytes_tokenizer(template, special=(), name=""):
    """A tokenizer that writes everything, a byte a token; `special` are special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in ("<|end|>", *special)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", chat_template=template, name_or_path=name
    )


# What stands behind "<|user|>1 + 1?<|end|>\n" in x, and in x'.
FAMILIES = {
    "Qwen3": (
        f"{ASSISTANT}{{% if {OFF} %}}{BLOCK}{{% endif %}}{{% endif %}}",
        "<|assistant|>\n",
        "<|assistant|>\n<think>\n\n</think>\n\n",
    ),
    "Qwen3-Thinking-2507": (
        f"{ASSISTANT}<think>\n{{% endif %}}",
        "<|assistant|>\n<think>\n",
        "<|assistant|>\n<think>\n\n</think>\n\n",
    ),
    "Qwen3.5, small": (  # thinks only when it is told to
        f"{ASSISTANT}{{% if {ON} %}}<think>\n{{% else %}}{BLOCK}{{% endif %}}{{% endif %}}",
        "<|assistant|>\n<think>\n",
        "<|assistant|>\n<think>\n\n</think>\n\n",
    ),
    "Qwen3.5, large": (
        f"{ASSISTANT}{{% if {OFF} %}}{BLOCK}{{% else %}}<think>\n{{% endif %}}{{% endif %}}",
        "<|assistant|>\n<think>\n",
        "<|assistant|>\n<think>\n\n</think>\n\n",
    ),
    "DeepSeek-R1-Distill, first": (
        "{% if add_generation_prompt %}<|Assistant|>{% endif %}",
        "<|Assistant|>",
        "<|Assistant|><think>\n\n</think>\n\n",
    ),
    "DeepSeek-R1-Distill": (
        "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
        "<|Assistant|><think>\n",
        "<|Assistant|><think>\n\n</think>\n\n",
    ),
    "DeepSeek-V3.1": (  # a bare end, and a switch of another name
        "{% if add_generation_prompt %}<|Assistant|>"
        "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
        "<|Assistant|><think>",
        "<|Assistant|></think>",
    ),
    "SmolLM3": (  # one line end behind the block, which is its own
        f"{ASSISTANT}{{% if {OFF} %}}<think>\n\n</think>\n{{% endif %}}{{% endif %}}",
        "<|assistant|>\n",
        "<|assistant|>\n<think>\n\n</think>\n",
    ),
    "GLM-4.5": (
        f"{ASSISTANT}{{% if {OFF} %}}<think></think>{{% endif %}}{{% endif %}}",
        "<|assistant|>\n",
        "<|assistant|>\n<think></think>",
    ),
    "Qwen2.5, SmolLM2, Phi-4-reasoning": (
        f"{ASSISTANT}{{% endif %}}",
        "<|assistant|>\n",
        "<|assistant|>\n<think>\n\n</think>\n\n",
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_how_x_and_its_thinking_free_twin_end(family):
    """The template is asked first; the block is appended, or closed, only where it is silent."""
    template, thinking, free = FAMILIES[family]
    tokenizer = bytes_tokenizer(USER + template)
    check_prompts(tokenizer)
    start = "<|user|>1 + 1?\nReason.<|end|>\n"
    assert render(tokenizer, "1 + 1?", "Reason.", True) == start + thinking
    assert render(tokenizer, "1 + 1?", "Reason.", False) == start + free


@pytest.mark.parametrize(
    "template, name, on, off",
    [
        (
            "",
            "nvidia/Nemotron-Nano-8B-v1",
            "detailed thinking on",
            "detailed thinking off",
        ),
        ("{# detailed thinking #}", "", "detailed thinking on", "detailed thinking off"),
        ("{# /no_think #}", "", "/think", "/no_think"),
    ],
)
def test_a_switch_in_the_system_turn(template, name, on, off):
    """Llama-Nemotron's: the system turn says which mode it is, and the block is its own."""
    template = f"{template}{USER}{ASSISTANT}\n{{% endif %}}"
    tokenizer = bytes_tokenizer(template, name=name)
    check_prompts(tokenizer)
    end = "<|user|>1 + 1?<|end|>\n<|assistant|>\n\n"
    assert render(tokenizer, "1 + 1?", "", True) == f"<|system|>{on}<|end|>\n{end}"
    free = f"<|system|>{off}<|end|>\n{end}<think>\n</think>"
    assert render(tokenizer, "1 + 1?", "", False) == free


@pytest.mark.parametrize(
    "template, said",
    [
        (f"{USER}<|assistant|>\n", "ignores add_generation_prompt"),
        (f"{USER}{ASSISTANT}{BLOCK}{{% endif %}}", "thinking block is closed"),
        (f"{USER}{ASSISTANT}</think>{{% endif %}}", "thinking block is closed"),
        (f"{USER}{{# <|channel|>analysis #}}{ASSISTANT}{{% endif %}}", "thinks in <|channel|>"),
        (f"{USER}{{# [THINK] #}}{ASSISTANT}{{% endif %}}", "thinks in [THINK]"),
        ("{{ messages[0].role }}{% if add_generation_prompt %}!{% endif %}", "question out"),
    ],
    ids=range(6),
)
def test_templates_that_are_refused(template, said):
    """One sentence, before anything is sampled: x would be x', or mean nothing to the model."""
    with pytest.raises(ModelError) as error:
        check_prompts(bytes_tokenizer(template))
    assert said in str(error.value)


@pytest.mark.parametrize("space", ["", "\n", "\n\n", " \n\t"])
def test_an_empty_block_of_any_white_space_is_thinking_free_already(space):
    prompt = f"<|assistant|>\n<think>{space}</think>{space}"
    assert think_free(prompt) == prompt


def described(template, stop_ids=None):
    tokenizer = bytes_tokenizer(USER + template)
    return describe_prompts(tokenizer, stop_ids or {tokenizer.eos_token_id})


def test_the_user_is_shown_how_both_prompts_end():
    x, free, *_ = described(FAMILIES["Qwen3"][0])
    assert x.startswith("x  ends in") and x.endswith("<|assistant|>\\n'")
    assert free.startswith("x' ends in") and free.endswith("<think>\\n\\n</think>\\n\\n'")


def test_a_model_that_never_saw_a_block_is_named():
    """Neither its template nor its vocabulary know one."""
    words = "never trained on a thinking block"
    assert any(words in line for line in described(f"{ASSISTANT}{{% endif %}}"))
    assert not any(words in line for line in described(FAMILIES["Qwen3"][0]))


def test_an_end_of_turn_that_stops_nothing_is_named():
    """The model learnt to end its turn with a token that nobody waits for."""
    assert not any("stop ids" in line for line in described(FAMILIES["Qwen3"][0]))
    assert any(
        "'<|end|>\\n', which is not among" in s for s in described(FAMILIES["Qwen3"][0], {7})
    )


# --------------------------------------------------------------------------------------------------
# Responses whose tags are special tokens


def written(tokenizer, prompt, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return response_text(tokenizer, prompt, ids)


def test_special_thinking_tags_are_graded():
    """A box in a thought that was cut off is no answer, whatever the tokenizer calls <think>."""
    tokenizer = bytes_tokenizer("", special=("<think>", "</think>", "<|pad|>"))
    text = written(tokenizer, "assistant:", "<think>\nmaybe \\boxed{7}? no<|pad|>")
    assert text == "<think>\nmaybe \\boxed{7}? no"
    assert grade(text, "7") == (False, 0.0)


def test_other_special_tokens_are_not_graded():
    tokenizer = bytes_tokenizer("", special=("<think>", "</think>"))
    text = written(tokenizer, "assistant:<think>\n", "so</think>\\boxed{7}<|end|>")
    assert text == "<think>\nso</think>\\boxed{7}"
    assert grade(text, "7") == (True, 1.0)


# --------------------------------------------------------------------------------------------------
# The command line: prompts for other trainers

PROBLEMS = [("What is 1 + 1?", "2"), ("Wie groß\u2028ist ½?", "1/2"), ("What is 1 + 1?", "2")]


@pytest.fixture
def written_prompts(tmp_path, capsys):
    """Runs examples/prompts.py on PROBLEMS: the rows that it wrote, and what it said."""

    def call(*options):
        data = tmp_path / "data.jsonl"
        rows = [json.dumps({"question": q, "answer": a}) for q, a in PROBLEMS]
        data.write_text("\n".join(rows))
        out = tmp_path / "new" / "tfpi.jsonl"
        main(["--data", str(data), "--out", str(out), *options])
        assert list(out.parent.iterdir()) == [out]
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        return rows, capsys.readouterr().out

    return call


def test_each_problem_becomes_its_thinking_free_prompt(written_prompts, small):
    """All rows in their order, copies included; that of the preset: no instruction."""
    rows, said = written_prompts("--model", "small")
    expected = [{"prompt": render(small[1], q, "", False), "answer": a} for q, a in PROBLEMS]
    assert rows == expected
    assert "x' ends in" in said and "3 prompts x' in" in said


@pytest.mark.parametrize(
    "options, instruction",
    [
        ([], "Please reason step by step, and put your final answer within \\boxed{}."),
        (["--instruction", "Take care."], "Take care."),
        (["--instruction="], ""),
    ],
)
def test_a_tokenizer_is_enough(options, instruction, written_prompts, tmp_path):
    """A folder without weights; what follows the question is the paper's, or the user's."""
    tokenizer = bytes_tokenizer(USER + FAMILIES["DeepSeek-R1-Distill"][0])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows, said = written_prompts("--model", str(tmp_path / "tokenizer"), *options)
    assert rows[0]["prompt"] == render(tokenizer, PROBLEMS[0][0], instruction, False)
    assert "stop ids" not in said


def test_a_tokenizer_without_a_chat_template_has_no_prompts(tmp_path, refuse):
    tokenizer = bytes_tokenizer("")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "data.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}')
    said = refuse(main, "--data", "data.jsonl", "--model", "tokenizer")
    assert "'tokenizer' has no chat template" in said
