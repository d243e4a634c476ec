"""Models that sampler and trainer would get differently, and the type in which models are saved."""

import json

import pytest
import torch
from quick_runs import VOCABULARY, tiny_model
from safetensors.torch import load_file
from shared import new_run, resumed_run
from transformers import AutoConfig, AutoModelForCausalLM, BartConfig, BartForCausalLM

import tfpi
from rollout import generate
from support.model import ModelError, find_context, load_model

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 24,
    "factor": 4.0,
}


def longrope_model():
    """Phi-3.5-mini's way: beyond 24 tokens, all positions are encoded with other factors."""
    return tiny_model("Phi3", rope_parameters=LONGROPE, original_max_position_embeddings=24)


def sample(model, length, budget):
    options = {"max_new_tokens": budget, "stop_ids": set(), "temperature": 0}
    [rollout] = generate(model, [list(range(3, 3 + length))], **options)
    return list(rollout.response_ids)


def test_positions_that_change_with_the_length_are_refused_beyond_it():
    """What was cached before the change would not fit what comes after it."""
    with pytest.raises(ValueError, match="20 tokens and a budget of 5 exceed 24.*longrope"):
        sample(longrope_model(), 20, 5)


def test_up_to_that_length_the_model_is_used():
    """Greedy tokens are those of a loop without a cache."""
    model = longrope_model()
    ids = list(range(3, 23))
    for _ in range(4):
        ids.append(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
    assert sample(model, 20, 4) == ids[20:]


@pytest.mark.parametrize(
    "kind, context",
    [("default", 128), ("yarn", 128), ("llama3", 128), ("dynamic", 24), ("longrope", 24)],
)
def test_which_ways_to_encode_positions_depend_on_the_length(kind, context):
    """yarn and llama3 scale once and for all; a config may have settings for each kind of layer."""
    config = tiny_model().config
    rope = {"rope_type": kind, "original_max_position_embeddings": 24}
    for config.rope_parameters in (rope, {"full_attention": rope}):
        assert find_context(config) == context


def test_an_encoder_decoder_is_refused_in_one_sentence(small, tmp_path):
    """Its decoder alone would load, with nothing to attend to."""
    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        is_encoder_decoder=True,
    )
    BartForCausalLM(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_encoder_decoder": True}))
    small[1].save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_model(str(tmp_path), "cpu")


def test_a_run_whose_trainer_disagrees_with_its_sampler_does_not_begin(
    tiny_options, tmp_path, monkeypatch
):
    """Whatever the reason: here, the trainer's positions are shifted by one."""
    original = tfpi.sampler_gap

    def shifted(model, rollouts, temperature):
        for rollout in rollouts:
            rollout.prompt_ids = rollout.prompt_ids[1:]
        return original(model, rollouts, temperature)

    options = tiny_options | {"out": str(tmp_path / "run")}
    monkeypatch.setattr(tfpi, "sampler_gap", shifted)
    with pytest.raises(ModelError, match="sampler and trainer disagree by"):
        new_run(options, tfpi.check_run)
    assert not (tmp_path / "run").exists()


def test_sampler_and_trainer_agree_on_the_small_model(small_run):
    """In fp32 up to rounding; measured in both modes' prompts alike."""
    for stage in tfpi.stages(small_run.config):
        assert tfpi.measure_gap(small_run, stage) < 1e-4


# --------------------------------------------------------------------------------------------------
# The type of the weights


@pytest.fixture
def half_model(small, tmp_path):
    """The small model as most are published: in bfloat16."""
    folder = tmp_path / "half"
    model = AutoModelForCausalLM.from_pretrained(small[0].name_or_path, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    small[1].save_pretrained(folder)
    return folder


def test_models_are_saved_in_the_type_they_came_in(half_model, tiny_options, tmp_path):
    """bfloat16 stays bfloat16, tied weights stay one; transformers loads it as what it is."""
    options = tiny_options | {"model": str(half_model), "out": str(tmp_path / "run")}
    run = new_run(options)
    run.save_model("stage1")
    weights = load_file(tmp_path / "run" / "stage1" / "model.safetensors")
    before = load_file(half_model / "model.safetensors")
    assert weights.keys() == before.keys()
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    assert AutoConfig.from_pretrained(tmp_path / "run" / "stage1").dtype == torch.bfloat16


def test_a_resumed_run_trains_in_fp32_and_still_saves_the_models_own_type(
    half_model, tiny_options, tmp_path
):
    """What an lr of 1e-6 adds is lost in bfloat16, so the checkpoint must not be."""
    options = tiny_options | {"model": str(half_model), "out": str(tmp_path / "run")}
    run = new_run(options)
    with torch.no_grad():
        run.model.model.norm.weight += 1e-5  # less than bfloat16 knows
    run.save_checkpoint()
    again = resumed_run({"out": str(tmp_path / "run")})
    assert torch.equal(again.model.model.norm.weight, run.model.model.norm.weight)
    again.save_model("stage1")
    weights = load_file(tmp_path / "run" / "stage1" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
