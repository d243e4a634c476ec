"""The plan of memory: counted, not guessed; and what follows from it."""

import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from shared import tiny_model
from test_offload import kept_for_backward
from transformers import Qwen2Config, Qwen3Config

import tfpi
from rollout import Rollout, generate
from support import memory
from support.config import Config, find_settings
from support.memory import measure_sizes
from support.plan import (
    CHOICES,
    GB,
    Choice,
    Plan,
    fit_budgets,
    make_plan,
    settle_memory,
    settle_ranks,
    step_flops,
)
from support.report import describe_plan, describe_start

# The published shapes: kind, hidden size, layers, heads, their keys', the size within a layer, the
# vocabulary, whether its weights are tied; and billions of parameters.
SHAPES = {
    "qwen3-0.6b": (Qwen3Config, 1024, 28, 16, 8, 3072, 151936, True, 0.596),
    "qwen3-1.7b": (Qwen3Config, 2048, 28, 16, 8, 6144, 151936, True, 1.721),
    "qwen3-4b": (Qwen3Config, 2560, 36, 32, 8, 9728, 151936, True, 4.022),
    "qwen3-8b": (Qwen3Config, 4096, 36, 32, 8, 12288, 151936, False, 8.191),
    "ds-1.5b": (Qwen2Config, 1536, 28, 12, 2, 8960, 151936, False, 1.777),
    "ds-7b": (Qwen2Config, 3584, 28, 28, 4, 18944, 152064, False, 7.616),
}


@functools.cache
def shape(name):
    kind, hidden, layers, heads, key_heads, middle, vocabulary, tied, _ = SHAPES[name]
    return kind(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=128,
        intermediate_size=middle,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=40960,
    )


BUDGETS = {"budgets": "4096,8192,16384"}


def sizes_of(name):
    return measure_sizes(shape(name))


def plan_for(name, gigabytes, **options):
    config = Config(model=name, **(BUDGETS | options))
    return make_plan(sizes_of(name), config, gigabytes * GB), config


def words_of(name, gigabytes, **options):
    return "\n".join(describe_plan(*plan_for(name, gigabytes, **options)))


# --------------------------------------------------------------------------------------------------
# Counting


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_counted(name):
    """Without weights, of the real shapes, in a second."""
    assert sizes_of(name).parameters / 1e9 == pytest.approx(SHAPES[name][-1], abs=5e-4)


@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama"])
@pytest.mark.parametrize(
    "size, autocast", [(4, False), (4, True), (2, False)], ids=["fp32", "autocast", "bf16"]
)
def test_what_a_layer_keeps_is_what_autograd_keeps(family, size, autocast):
    """Counted with real tensors, of real models of two and three layers: never under."""

    def kept(layers, tokens):
        model = tiny_model(family, num_hidden_layers=layers, max_position_embeddings=256)
        model = model.to(torch.float32 if size == 4 else torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            tensors = kept_for_backward(model, torch.zeros(1, tokens, dtype=torch.long))
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def per_token(layers):
        return (kept(layers, 192) - kept(layers, 64)) / 128

    real = per_token(3) - per_token(2)
    planned, _ = measure_sizes(tiny_model(family).config).kept(size, autocast)
    assert real <= planned <= 1.25 * real


def test_keys_are_those_of_the_cache():
    """A token's keys and values, in all layers."""
    model = tiny_model()
    cache = model(input_ids=torch.tensor([[3, 4, 5]]), use_cache=True).past_key_values
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert memory.key_numbers(model.config) == numbers / 3


# --------------------------------------------------------------------------------------------------
# What follows


@pytest.mark.parametrize(
    "name, gigabytes, choice, host",
    [
        ("qwen3-0.6b", 80, 0, 0),
        ("qwen3-0.6b", 16, 2, 10),  # where the optimizer is in the way of a group's keys
        ("qwen3-1.7b", 24, 2, 28),
        ("qwen3-4b", 80, 2, 64),
        ("ds-7b", 80, 2, 96),
    ],
)
def test_what_is_promised_fits(name, gigabytes, choice, host):
    """Full training, in the plainest way that is quick."""
    plan, _ = plan_for(name, gigabytes)
    assert plan.fits() and plan.choice == CHOICES[choice]
    for parts in (plan.updating(), plan.sampling()):
        assert sum(parts.values()) <= 0.9 * gigabytes * GB
    assert sum(plan.host().values()) <= host * GB


@pytest.mark.parametrize(
    "name, gigabytes, options, words",
    [
        ("qwen3-1.7b", 24, {"micro_tokens": 200_000}, "not fit: lower --budgets or --micro-tokens"),
        ("qwen3-4b", 80, {"offload": "no"}, "not fit: give --recompute yes --offload all"),
        ("qwen3-8b", 16, {}, "not even one response does; lower --full-budget"),
    ],
)
def test_what_cannot_fit_says_what_would_help(name, gigabytes, options, words):
    assert words in words_of(name, gigabytes, **options)


def of_4b(choice, tokens=4096, slots=256, on_gpu=True):
    return Plan(sizes_of("qwen3-4b"), choice, tokens, 33280, slots, 80 * GB, on_gpu)


def test_recomputation_keeps_a_layers_input_and_one_layer():
    plain, saving = (of_4b(Choice("", recompute, "no")).updating() for recompute in ("no", "yes"))
    layer, rest = sizes_of("qwen3-4b").kept(4, True)
    assert plain["kept for backward"] == 4096 * (36 * layer + rest)
    assert saving["kept for backward"] == 4096 * (36 * 2560 * 4 + layer + rest)


def test_as_many_keys_as_the_memory_has_room_for():
    """One more would not fit; and no more than all slots could ever have."""
    plan = of_4b(CHOICES[2])
    one = memory.key_numbers(plan.sizes.config) * 2
    taken = sum(plan.sampling().values())
    assert plan.sampling()["keys"] == one * plan.keys() and taken <= 72 * GB < taken + one
    assert of_4b(CHOICES[2], slots=2).keys() == 2 * 33280


@pytest.mark.parametrize("offload, device, host", [("no", 16, 0), ("yes", 6, 12), ("all", 2, 16)])
def test_bytes_of_a_parameter(offload, device, host):
    """Weights, sums of gradients and two moments, wherever they lie: 16, and a 16-bit copy."""
    plan = of_4b(Choice("", "no", offload), on_gpu=False)
    parts = plan.updating()
    found = sum(parts.get(name, 0) for name in ("weights", "gradients", "optimizer"))
    assert found == device * plan.sizes.parameters
    assert sum(plan.host().values()) == host * plan.sizes.parameters


def test_a_stage_of_rl_with_thinking_is_planned_for():
    """Its responses are the longest: a micro-batch holds one at least."""
    assert plan_for("qwen3-0.6b", 80)[0].tokens == 512 + 16384
    assert plan_for("qwen3-0.6b", 80, recipe="tfpi+rl")[0].tokens == 512 + 32768


def test_the_small_model_has_a_plan():
    """On a CPU, in its own type; all fits at once."""
    config = Config(**find_settings("small"))
    plan = make_plan(measure_sizes(tiny_model().config), config, 24 * GB, on_gpu=False)
    assert plan.choice == CHOICES[0] and plan.longest_at_once() == 512
    assert "weights in bf16" not in plan.updating()


@pytest.fixture
def card(monkeypatch):
    """Settles a run's options on a GPU of so many bytes."""

    def settle(gigabytes, name="qwen3-0.6b", bf16=True, **options):
        properties = SimpleNamespace(total_memory=gigabytes * GB)
        monkeypatch.setattr("support.plan.has_bf16", lambda: bf16)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        config = Config(device="cuda", **(BUDGETS | options))
        return config, settle_memory(config, shape(name))

    return settle


@pytest.mark.parametrize(
    "gigabytes, options, settled",
    [
        (80, {}, ("no", "no")),
        (16, {}, ("yes", "yes")),
        (80, {"recompute": "yes"}, ("yes", "no")),
        (80, {"offload": "yes"}, ("yes", "yes")),
        (80, {"offload": "yes", "recompute": "no"}, ("no", "yes")),
        (80, {"offload": "all"}, ("yes", "all")),
        (80, {"dtype": "fp16"}, ("yes", "yes")),
    ],
)
def test_a_run_on_a_gpu_does_what_the_plan_chooses(gigabytes, options, settled, card):
    """Where the user has not said what to do; the model is of the shape of Qwen3-0.6B."""
    config, _ = card(gigabytes, **options)
    assert (config.recompute, config.offload) == settled


def test_a_card_without_bf16_computes_in_fp16(card):
    """A T4. Beside fp16 there must be fp32 weights, so that autocast is no choice."""
    config, plan = card(80, bf16=False)
    assert (config.dtype, config.offload) == ("fp16", "yes")
    assert "computes in fp16, with a scaled loss" in "\n".join(describe_plan(plan, config))


def test_what_there_is_no_memory_for_is_refused(card, monkeypatch):
    """Before anything is loaded: on a GPU, and on a machine without one."""
    with pytest.raises(ValueError, match="does not fit into 16 GB.*--plan says"):
        card(16, "qwen3-8b")
    monkeypatch.setattr("support.plan.machine_memory", lambda: 20 * GB)
    with pytest.raises(ValueError, match="does not fit into 20 GB"):
        settle_memory(Config(device="cpu"), shape("qwen3-4b"))


@pytest.mark.parametrize(
    "options, settled",
    [
        ({}, ("no", "no")),
        ({"recompute": "yes", "offload": "yes"}, ("yes", "yes")),
        ({"recompute": "no", "offload": "all"}, ("no", "all")),
        ({"dtype": "fp16"}, ("no", "yes")),
    ],
)
def test_a_cpu_does_nothing_that_nobody_asks_for(options, settled):
    """One memory for all: there is nothing to choose."""
    config = Config(**(find_settings("small") | {"device": "cpu"} | options))
    settle_memory(config, tiny_model().config)
    assert (config.recompute, config.offload) == settled


# --------------------------------------------------------------------------------------------------
# Budgets and the model's context


def with_context(tokens, **more):
    return Qwen3Config(max_position_embeddings=tokens, **more)


def test_default_budgets_are_lowered_to_the_context_and_said():
    """In proportion: 4K, 8K, 16K of 32K become an eighth, a quarter and a half of what there is."""
    config = Config(model="some/model")
    said = fit_budgets(config, {}, with_context(8192))
    assert (config.budgets, config.full_budget) == ("960,1920,3840", 7680)
    assert "7680" in said and "960,1920,3840" in said


@pytest.mark.parametrize(
    "settings, given, context, lowered",
    [
        ({"model": "some/model"}, {}, 40960, {}),  # there is room
        (find_settings("small") | {"model": "small"}, {}, 700, {}),  # a preset's were chosen
        ({"model": "some/model"}, {"budgets": "100,200"}, 8192, {"full_budget": 7680}),
        ({"model": "some/model"}, {"full_budget": 8000}, 8192, {"budgets": "1920,3840,7680"}),
    ],
)
def test_what_fits_and_what_was_chosen_stays(settings, given, context, lowered):
    """What was not, follows."""
    config = Config(**settings | given)
    before = replace(config)
    assert bool(fit_budgets(config, given, with_context(context))) is bool(lowered)
    assert config == replace(before, **lowered)


@pytest.mark.parametrize("name, value", [("full_budget", 9000), ("budgets", "100,9000")])
def test_a_chosen_budget_beyond_the_context_names_its_option(name, value):
    given = {name: value}
    words = f"--{name.replace('_', '-')} {value} .* context of 8192 tokens. Give at most 7680"
    with pytest.raises(ValueError, match=words):
        fit_budgets(Config(model="some/model", **given), given, with_context(8192))


def test_positions_that_are_encoded_otherwise_are_no_context():
    """LongRoPE: 32K more exist, and are refused."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 64}
    rope |= {"long_factor": [2.0] * 64, "original_max_position_embeddings": 4096}
    config = Config(model="some/model")
    assert fit_budgets(config, {}, with_context(32768, head_dim=128, rope_parameters=rope))
    assert config.full_budget == 4096 - 512


def test_flops_are_those_that_a_run_counts():
    """Of a step in which every response has the whole budget, and no group is flat."""
    model = tiny_model()
    config = Config(prompts=3, group=2)
    groups = [[Rollout([1] * 512, [2] * 40, [0.0] * 40, False)] * 2 for _ in range(3)]
    parameters = sum(p.numel() for p in model.parameters())
    assert step_flops(parameters, config, 40) == tfpi.count_flops(model, groups, groups)
    # 4.022e9 x (2 x (8.389e6 + 0.131e6) + 6 x (8.389e6 + 1.049e6))
    assert "up to 8.4M tokens and 296.3 PFLOP" in words_of("qwen3-4b", 80)


@pytest.mark.parametrize(
    "given, cores, gigabytes, ranks, threads",
    [
        (0, 4, 24, 4, 1),  # one a core
        (0, 64, 24, 8, 1),  # more would have little each
        (0, 4, 5, 2, 2),  # half of the memory has room for two, which get the cores
        (0, 4, 1, 1, 4),
        (3, 4, 24, 3, 1),  # as the user says, whatever there is
        (3, 4, 1, 3, 1),
    ],
)
def test_a_cpu_has_as_many_ranks_as_cores_and_memory(
    given, cores, gigabytes, ranks, threads, monkeypatch
):
    """Of a model of which each rank takes 1 GB."""
    monkeypatch.setattr("support.ranks.THREADS", cores)
    monkeypatch.setattr("support.ranks.QUOTA", Path("no quota"))
    monkeypatch.setattr("support.plan.machine_memory", lambda: gigabytes * GB)
    options = SimpleNamespace(device="cpu", ranks=given, threads=0)
    settle_ranks(options, needed=GB)
    assert (options.ranks, options.threads) == (ranks, threads)


def test_each_run_begins_with_its_plan():
    lines = describe_start(*plan_for("qwen3-4b", 80))
    assert lines[0].startswith("memory, by the plan: at most ") and "of 80 GB" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == ["sampling", "updating", "host"]


# --------------------------------------------------------------------------------------------------
# The sampler keeps to it


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_follow_from_the_memory_that_is_free(monkeypatch, dtype):
    """Nine tenths of what is free, and of what PyTorch holds without using it.

    Beside the keys there are three rows of logits for each slot, and the prompts that run at once:
    their keys, and what a layer makes of them.
    """
    config = tiny_model().config
    model = SimpleNamespace(config=config, device=torch.device("cuda"), dtype=dtype)
    key = memory.key_numbers(config) * dtype.itemsize
    layer = (3 * config.intermediate_size + 8 * config.hidden_size) * dtype.itemsize
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40_000_000, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7_000_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2_000_000)
    for length, prompts in ((64, 8192), (9000, 9000)):
        beside = 5 * 12 * config.vocab_size + prompts * (key + layer)
        expected = (0.9 * 45_000_000 - beside) / key
        assert memory.keys_that_fit(model, 5, length) == pytest.approx(expected)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    assert memory.keys_that_fit(model, 50_000, 64) < 0


def test_on_a_cpu_keys_take_half_of_the_machine(model, monkeypatch):
    """Of all of it, so that whoever else is there changes nothing in what a run writes."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 1_000_000)
    key = memory.key_numbers(model.config) * 4
    assert memory.keys_that_fit(model, 5, 64) == pytest.approx(500_000 / key)


@pytest.mark.parametrize("keys", [64, 65, 130, 200, 400])
def test_a_group_larger_than_the_memory_is_written_in_parts(model, keys, monkeypatch):
    """The same tokens, in the same order: each response has a random stream of its own."""
    options = {"max_new_tokens": 12, "stop_ids": {2}, "seed": 5, "samples": 6}
    whole = generate(model, [[3, 4, 5], [6, 7]], **options)
    monkeypatch.setattr("rollout.keys_that_fit", lambda *arguments: keys)
    parts = generate(model, [[3, 4, 5], [6, 7]], **options)
    assert [r.response_ids for r in parts] == [r.response_ids for r in whole]
    assert [r.prompt_ids for r in parts] == [r.prompt_ids for r in whole]


# --------------------------------------------------------------------------------------------------
# The command line


def test_a_plan_needs_a_config_alone(tmp_path, capsys, monkeypatch):
    """No weights, no tokenizer, and nothing is written."""
    shape("qwen3-1.7b").save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    options = ["--model", "model", "--plan", "--memory", "24", "--budgets", "4096,8192,16384"]
    tfpi.main(options)
    printed = capsys.readouterr().out
    assert "1.72B parameters, 28 layers; a device of 24 GB" in printed
    assert "choice: each layer computed again, the optimizer in the host's memory" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--memory", "-3"], "--memory -3.0"),
        (["--memory", "nan"], "--memory nan"),
        (["--model", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_sentence(options, said, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as stopped:
        tfpi.main(["--plan", *options])
    assert said in stopped.value.code and len(stopped.value.code.splitlines()) == 1
