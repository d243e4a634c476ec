"""A checkpoint, a model, a chat template, a problem or an answer is data.

None of them runs code.
"""

import json
import os
import pickle

import pytest
from shared import resumed_run

import thinkfree
from reward import grade
from support.model import ModelError, load_model


@pytest.fixture
def payload(tmp_path):
    """(a pickle, a line of Python, the file that either would create if it ran)."""
    mark = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    return pickle.dumps(Payload()), f"open({str(mark)!r}, 'w').close()", mark


@pytest.mark.parametrize(
    "file", ["optimizer.safetensors", "optimizer.pt", "model.safetensors", "pytorch_model.bin"]
)
def test_a_pickle_in_a_checkpoint_is_not_loaded(file, small_run, payload):
    """Whatever its name: torch.load without weights_only would run it."""
    small_run.save_checkpoint()
    folder = small_run.folder / "checkpoint-0-0"
    for weights in folder.glob("*.safetensors"):
        if file.split(".")[0] in ("pytorch_model", weights.stem):
            weights.unlink()
    (folder / file).write_bytes(payload[0])
    try:
        resumed_run({"out": str(small_run.folder)})
    except ValueError as error:
        assert "cannot be used" in str(error)
    assert not payload[2].exists()


@pytest.fixture
def model_folder(small, tmp_path):
    """A copy of the small model, to spoil."""
    model, tokenizer, _ = small
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "file, auto",
    [
        ("config.json", {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", None]}),
    ],
)
def test_the_code_of_a_models_repository_is_not_run(file, auto, model_folder, payload):
    """auto_map names Python files that come with a model.

    Nobody is asked whether to run them, either.
    """
    (model_folder / "evil.py").write_text(payload[1])
    change_json(model_folder / file, auto_map=auto, model_type="evil")
    try:
        load_model(str(model_folder), "cpu")
    except ModelError:
        pass
    assert not payload[2].exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_model_cannot_ask_for_a_kernel_from_the_hub(key, model_folder):
    """transformers would fetch and run one that config.json names, if it can.

    Such a model gets ordinary attention.
    """
    change_json(model_folder / "config.json", **{key: "nobody/kernel"})
    assert load_model(str(model_folder), "cpu")[0].config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "template",
    [
        "{{% for c in ''.__class__.__mro__[1].__subclasses__() %}}"
        "{{{{ c.__init__.__globals__ }}}}{{% endfor %}}",
        "{{{{ cycler.__init__.__globals__.os.system('touch {mark}') }}}}",
    ],
)
def test_a_chat_template_runs_nothing(template, small, payload):
    """Templates are programs, too, in a sandbox: what leaves it is an error, in one sentence."""
    tokenizer = small[1].__class__.from_pretrained(small[0].name_or_path)
    tokenizer.chat_template = template.format(mark=payload[2])
    with pytest.raises(ModelError, match="chat template"):
        thinkfree.render(tokenizer, "What is 1 + 1?", "", True)
    assert not payload[2].exists()


def test_answers_and_problems_run_nothing(payload):
    """The reward reads what a model wrote: it must not evaluate it."""
    for text in (
        payload[1],
        f"__import__('os').system('touch {payload[2]}')",
        rf"\write18{{touch {payload[2]}}}",
    ):
        grade(f"\\boxed{{{text}}}", "4")
        grade("\\boxed{4}", text)
    assert not payload[2].exists()
