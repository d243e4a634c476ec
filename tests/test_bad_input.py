"""Users' mistakes in data, models and requests; those in options are test_commands.py's.

Each gets one sentence with the way out, and leaves nothing behind.
"""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from shared import new_run, resumed_run
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import tfpi
import thinkfree
from problems import load_problems
from reward import grade
from rollout import generate
from support.memory import memory_advice
from support.model import ModelError, load_model
from support.rows import DataError

ROOT = Path(__file__).parent.parent


# --------------------------------------------------------------------------------------------------
# Data


NO_ANSWER = "without an answer that the grader can read (first: line 1"
NO_QUESTION = "without a question (problem, question, prompt, messages, query) (first: line 1)"
GOOD = '{"problem": "What is 1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "no problems in it"),
        ("\n \n", "no problems in it"),
        ('{"problem": "x"}', NO_ANSWER),
        ('{"answer": "2"}', NO_QUESTION),
        ('{"problem": "  ", "answer": 2}', NO_QUESTION),
        ('{"problem": "x", "answer": [2, 3]}', NO_ANSWER),
        ('{"problem": "x", "answer": true}', NO_ANSWER),
        ('{"problem": "x", "answer": null}', NO_ANSWER),
        ('{"problem": "x", "answer": NaN}', NO_ANSWER),
        ('{"problem": "x", "answer": 1e999}', NO_ANSWER),
        ('{"problem": "\\ud800", "answer": 2}', NO_QUESTION),
        (GOOD + "\n" + GOOD[:20], "line 3: not JSON"),
        ("problem,answer\n1+1,2\n", "line 1: not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["What is 1 + 1?", "2"]', "row 1: not an object"),
        (GOOD.encode() + b'{"problem": "\xff", "answer": 2}', "line 2: not UTF-8"),
        (GOOD.encode("utf-16"), "line 1: not UTF-8"),
    ],
)
def test_lines_of_data(content, said, tmp_path):
    """File and line are named."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        load_problems(path)
    sentence = str(error.value)
    assert said in sentence and str(path) in sentence and sentence.endswith(".")


def test_a_folder_instead_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="is a folder or a data set .* pip install datasets"):
        load_problems(tmp_path)


@pytest.mark.parametrize("content", [GOOD.replace("\n", "\r\n") * 2, "\ufeff" + GOOD * 2])
def test_data_that_is_fine(content, tmp_path):
    """Line ends of Windows, a byte order mark."""
    (tmp_path / "data.jsonl").write_bytes(content.encode())
    found = [(p.problem, p.answer) for p in load_problems(tmp_path / "data.jsonl")]
    assert found == [("What is 1 + 1?", "2")] * 2


# --------------------------------------------------------------------------------------------------
# Models


TEMPLATE = "{{ messages[0].content }}{% if add_generation_prompt %}assistant:{% endif %}"


def word_tokenizer(words=(), **options):
    """A tokenizer of 40 single words; what it does not know becomes w1."""
    words = [*words, *(f"w{i}" for i in range(len(words), 40))]
    vocabulary = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="w1")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(vocabulary),
        **{"eos_token": "w2", "chat_template": TEMPLATE} | options,
    )


@pytest.fixture
def save(make_model, tmp_path):
    """Saves a tiny model with a tokenizer of words; returns the folder."""

    def call(model=None, tokenizer=None, **config):
        (model or make_model(**config)).save_pretrained(tmp_path / "model")
        (tokenizer or word_tokenizer()).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return call


def keep_only_pickle(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def truncate(name):
    def spoil(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:200])

    return spoil


def drop_a_weight(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def set_config(**values):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


@pytest.mark.parametrize(
    "spoil, said",
    [
        (keep_only_pickle, "model.safetensors"),
        (truncate("model.safetensors"), "cannot load"),
        (truncate("config.json"), "cannot load"),
        (truncate("tokenizer.json"), "cannot load"),
        (drop_a_weight, "model.norm.weight is missing"),
        (set_config(model_type="unheard-of"), "cannot load"),
        (set_config(model_type="t5"), "cannot load"),
        (set_config(hidden_size=48), "cannot load"),
    ],
)
def test_folders_without_a_usable_model(spoil, said, save):
    folder = save()
    spoil(folder)
    with pytest.raises(ModelError, match=said) as error:
        load_model(str(folder), "cpu")
    assert len(str(error.value).splitlines()) == 1 and str(folder) in str(error.value)


@pytest.mark.parametrize(
    "tokenizer, config, said",
    [
        (word_tokenizer(chat_template=None), {}, "no chat template"),
        (word_tokenizer(eos_token=None), {"eos_token_id": None}, "no end-of-text token"),
        (word_tokenizer(), {"vocab_size": 30}, "more than its model knows"),
    ],
)
def test_tokenizers_that_do_not_fit(tokenizer, config, said, save):
    with pytest.raises(ModelError, match=said):
        load_model(str(save(tokenizer=tokenizer, **config)), "cpu")


def test_weights_that_are_not_finite(make_model, save):
    model = make_model()
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = math.nan
    with pytest.raises(ModelError, match="not finite"):
        load_model(str(save(model)), "cpu")


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot load the model 'nobody/nothing'.* Give --model"):
        load_model("nobody/nothing", "cpu")


@pytest.mark.parametrize("options", [{}, {"pad_token": "w2"}, {"pad_token": "w0"}])
def test_pad_tokens_do_not_matter(options, save):
    """None, the same as the end of text, or one of its own: the stop ids are the same."""
    folder = save(tokenizer=word_tokenizer(**options), pad_token_id=None)
    assert load_model(str(folder), "cpu")[2] == {2}


def test_a_vocabulary_that_loses_the_empty_block():
    with pytest.raises(ModelError, match="empty thinking block"):
        thinkfree.check_prompts(word_tokenizer())


def test_an_empty_block_of_several_tokens_is_fine(small):
    """`</think>` is one in the small model's tokenizer, and a letter each in the other."""
    letters = Tokenizer(models.BPE({c: i for i, c in enumerate("<think>/\n")}, []))
    letters.decoder = decoders.Fuse()
    letters = PreTrainedTokenizerFast(tokenizer_object=letters, chat_template=TEMPLATE)
    thinkfree.check_prompts(letters)
    thinkfree.check_prompts(small[1])


def test_a_chat_template_that_fails():
    tokenizer = word_tokenizer(chat_template="{{ raise_exception('no user') }}")
    with pytest.raises(ModelError, match="chat template fails .no user."):
        thinkfree.render(tokenizer, "What is 1 + 1?", "", True)


# --------------------------------------------------------------------------------------------------
# Requests


@pytest.mark.parametrize(
    "prompts, options, said",
    [
        ([[5], []], {}, "a prompt is empty"),
        ([[5] * 200], {}, "200 tokens and a budget of 8 exceed .* context of 128"),
        ([[5]], {"max_new_tokens": 0}, "budget is 0"),
        ([[5]], {"temperature": -1.0}, "temperature is -1"),
    ],
)
def test_requests_that_cannot_be_served(model, prompts, options, said):
    with pytest.raises(ValueError, match=said):
        generate(model, prompts, **{"max_new_tokens": 8, "stop_ids": {2}} | options)


def test_a_problem_longer_than_the_context_is_left_out_and_counted(tiny_options, tmp_path, capsys):
    """It stops no run, neither at the start nor at the step that draws it."""
    lines = [
        json.dumps({"problem": "Compute " + "1 + " * (600 if i == 7 else 1) + "1.", "answer": i})
        for i in range(8)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    data = {"data": str(tmp_path / "data.jsonl"), "out": str(tmp_path / "run")}
    run = new_run(tiny_options | data, tfpi.check_run)
    assert [p.answer for p in run.train] == ["0", "1", "2", "3", "4", "5", "6"]
    said = capsys.readouterr().out
    assert "1 of 8 problems are left out" in said and "context of 1024" in said


def test_all_responses_truncated_is_a_message(tiny_options, tmp_path, capsys):
    """A budget of one token: nothing is learnt, the user is told, and the run ends all the same."""
    run = new_run(tiny_options | {"budgets": "1", "full_budget": 1, "out": str(tmp_path / "run")})
    assert tfpi.train(run) is True
    said = capsys.readouterr().err
    assert "no update, since every group was flat (all right or all wrong); 100% of the" in said


@pytest.mark.parametrize("gold", ["\\frac{1}{", "\\boxed{", "((((", "1 / 0", "", "\x00"])
def test_a_right_answer_that_cannot_be_read_is_nobodys(gold):
    """It rewards no other answer, and does not crash."""
    assert not grade("\\boxed{2}", gold)[0] and not grade("no box", gold)[0]


# --------------------------------------------------------------------------------------------------
# Memory and disk


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 8 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)
@pytest.mark.parametrize(
    "name, flag", [("eval.generate", "--slots"), ("grpo.accumulate_gradient", "--micro-tokens")]
)
def test_out_of_memory_says_which_option_to_lower(name, flag, error, small_run, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(name, fail)
    monkeypatch.setattr("grpo.is_flat", lambda group: False)  # or there would be no update
    with pytest.raises(MemoryError, match=f"out of memory.*Lower {flag}"):
        tfpi.train_step(small_run, tfpi.stages(small_run.config)[0])


def test_other_errors_are_not_mistaken_for_full_memory():
    """A fault of the program keeps its traceback."""
    with pytest.raises(RuntimeError, match="shapes"), memory_advice("sampling", ""):
        raise RuntimeError("shapes do not match")


def test_output_that_cannot_be_written(tiny_options, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot write to .*Give --out"):
        new_run(tiny_options | {"out": str(tmp_path / "file" / "run")})


def test_a_run_that_cannot_be_written_to(small_run, monkeypatch):
    """A read-only folder, when resuming."""

    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("support.disk.keep_steps", fail)
    with pytest.raises(OSError, match="cannot write to .*Read-only file system.*Make it writable"):
        resumed_run({"out": str(small_run.folder)})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"lr": "fast"}', '{"color": "red"}'])
def test_a_config_that_tfpi_did_not_write(content, refuse, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(content)
    assert "run" in refuse(tfpi.main, "--resume", "--out", "run")
