"""Training with little memory (support/offload.py), tried on a CPU.

The optimizer on the host against torch's own AdamW on the model itself, bit for bit; and with a
working copy in bf16, as a GPU has it. Layers that run twice against plain ones, bit for bit.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from shared import flat_weights, new_run, resumed_run, sequence, tiny_model
from test_reliability import outcome
from transformers import AutoModelForCausalLM

import tfpi
from grpo import accumulate_gradient, update
from logprobs import FirstKeys, token_logprobs
from rollout import generate
from support.config import Config
from support.model import forward_hidden
from support.offload import HostAdamW, gradients, recompute_layers, recomputing, working_dtype
from support.report import describe

BF16 = torch.bfloat16


def rollouts():
    """Two minibatches of three micro-batches each, whose gradients are clipped."""
    made = [sequence([5 + i, 6], [7 + i, 9, 2][: 1 + i % 3]) for i in range(12)]
    for i, rollout in enumerate(made):
        rollout.advantage = 30.0 * (-1) ** i
    return made


def offload(dtype, model=None, **options):
    """A model, tiny without one, and its optimizer on the host."""
    model = model or tiny_model()
    return model, HostAdamW(model, "cpu", dtype, **{"lr": 1e-3, "weight_decay": 0.0} | options)


def masters(optimizer):
    return optimizer.param_groups[0]["params"]


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


# --------------------------------------------------------------------------------------------------
# The optimizer


@pytest.mark.parametrize("tied", [False, True])
def test_it_is_torchs_own_adamw_bit_for_bit(tied):
    """Three updates of two steps each, of several micro-batches, with clipping."""
    results = []
    for offloaded in (False, True):
        model = tiny_model(tie_word_embeddings=tied)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        if offloaded:
            model, optimizer = offload(torch.float32, model)
        config = Config(minibatches=2, micro_tokens=8)
        metrics = [update(model, optimizer, rollouts(), config) for _ in range(3)]
        results.append((flat_weights(model), [[m["loss"], m["grad_norm"]] for m in metrics]))
    (weights, metrics), (others, theirs) = results
    assert torch.equal(weights, others) and metrics == theirs and metrics[0][1] > 1


def test_masters_keep_what_bf16_loses():
    """An lr of 1e-6: a hundred steps move a weight of 1 by 1e-4, which bf16 does not know."""
    model, optimizer = offload(BF16, torch.nn.Linear(4, 1, bias=False), lr=1e-6)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(masters(optimizer)[0])
    plain = torch.nn.Parameter(torch.ones(1, 4, dtype=BF16))
    other = torch.optim.AdamW([plain], lr=1e-6, weight_decay=0.0)
    for _ in range(100):
        optimizer.zero_grad(set_to_none=True)
        model(torch.ones(1, 4, dtype=BF16)).sum().backward()
        optimizer.step()
        plain.grad = torch.ones_like(plain)
        other.step()
    [master] = masters(optimizer)
    torch.testing.assert_close(master, torch.full((1, 4), 1 - 1e-4), atol=1e-5, rtol=0)
    assert torch.equal(plain, torch.ones_like(plain))
    assert torch.equal(model.weight, master.to(BF16))


def test_the_device_holds_the_working_copy_and_nothing_else():
    """But for sums of gradients; rotary frequencies stay fp32, or positions would be wrong."""
    before = flat_weights(tiny_model())
    frequencies = tiny_model().model.rotary_emb.inv_freq
    model, optimizer = offload(BF16)
    assert {p.dtype for p in model.parameters()} == {BF16}
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)
    assert torch.equal(flat(masters(optimizer)), before)
    accumulate_gradient(model, rollouts(), Config(micro_tokens=8), budget=20)
    assert all(p.grad is None for p in model.parameters())
    assert {total.dtype for total in gradients(optimizer)} == {torch.float32}
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), [m.to(BF16) for m in masters(optimizer)]))


def test_micro_batches_are_summed_in_fp32():
    """In bf16, small gradients would be lost in the sum of many."""
    model, optimizer = offload(BF16)
    for gradient in [1.0] + 200 * [1e-3]:
        (model.lm_head.weight * gradient).sum().backward()
    [total] = gradients(optimizer)
    assert total.shape == masters(optimizer)[-1].shape
    torch.testing.assert_close(total.mean().item(), 1.2, atol=1e-3, rtol=0)


def test_an_update_leaves_no_gradient_behind():
    """The sampler has use for that memory."""
    model = tiny_model()
    update(model, torch.optim.AdamW(model.parameters()), rollouts(), Config())
    assert all(p.grad is None for p in model.parameters())
    model, optimizer = offload(BF16)
    update(model, optimizer, rollouts(), Config())
    assert all(p.grad is None for p in [*model.parameters(), *masters(optimizer)])
    assert not gradients(optimizer)


@pytest.mark.parametrize("sums, where", [("meta", "meta"), ("cpu", "cpu"), (None, "cpu")])
def test_gradients_are_added_up_where_they_are_to_be(sums, where, monkeypatch):
    """On the device, or on the host where the device has no room."""
    monkeypatch.setattr("support.offload.to_host", lambda tensor: tensor.to(where))
    model, optimizer = offload(BF16, torch.nn.Linear(4, 1, bias=False), sums=sums)
    model(torch.ones(1, 4, dtype=BF16)).sum().backward()
    [total] = gradients(optimizer)
    assert total.device.type == where and total.dtype == torch.float32


# --------------------------------------------------------------------------------------------------
# fp16


def gradients_of(dtype, scale=None):
    """The fp32 sums that one micro-batch leaves, of a loss whose tokens have weights of 1e-9."""
    model, optimizer = offload(dtype)
    optimizer.loss_scale = scale or optimizer.loss_scale
    config = Config(micro_tokens=999, normalizer="dr_grpo")
    accumulate_gradient(model, rollouts(), config, budget=1e9, scale=optimizer.loss_scale)
    return flat(gradients(optimizer))


def test_scaled_gradients_in_fp16_are_those_in_fp32():
    """A token of a batch of millions has a weight below what fp16 knows."""
    exact = gradients_of(torch.float32, 1.0)
    scaled = gradients_of(torch.float16)
    assert (scaled - exact).norm() < 0.01 * exact.norm()
    unscaled = gradients_of(torch.float16, 1.0)
    assert (unscaled - exact).norm() > 0.5 * exact.norm()


def test_probabilities_of_a_large_vocabulary_do_not_overflow_fp16():
    """Before they are normalised, each is up to 1, and their sum up to V."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 8, generator=generator)
    head = 1e-3 * torch.randn(100_000, 8, generator=generator)
    targets = torch.tensor([5, 99_999, 0, 7])
    found = []
    for dtype in (torch.float32, torch.float16):
        leaves = [tensor.clone().to(dtype).requires_grad_() for tensor in (hidden, head)]
        token_logprobs(*leaves, targets).sum().backward()
        found.append([leaf.grad.float() for leaf in leaves])
    for exact, half in zip(*found):
        assert (half - exact).norm() < 0.01 * exact.norm()


def test_an_overflow_lowers_the_scale_and_leaves_the_update_out():
    model, optimizer = offload(torch.float16)
    optimizer.loss_scale = 2.0**40
    before = flat_weights(model)
    metrics = update(model, optimizer, rollouts(), Config())
    assert metrics["skipped"] == 1 and torch.equal(flat_weights(model), before)
    assert optimizer.loss_scale == 2.0**36
    optimizer.loss_scale = 2.0**12
    metrics = update(model, optimizer, rollouts(), Config())
    assert metrics["updates"] == 1 and optimizer.loss_scale == 2.0**12
    assert not torch.equal(flat_weights(model), before)


def test_the_metrics_are_those_without_a_scale():
    """Loss and gradient norm mean the same, whatever was multiplied on the way."""
    found = []
    for dtype, scale in ((torch.float32, 1.0), (torch.float16, 2.0**10)):
        model, optimizer = offload(dtype)
        optimizer.loss_scale = scale
        found.append(update(model, optimizer, rollouts(), Config()))
    for name in ("loss", "grad_norm"):
        assert found[1][name] == pytest.approx(found[0][name], rel=0.02)


@pytest.mark.parametrize(
    "device, dtype, native, expected",
    [
        ("cpu", "auto", False, torch.float32),
        ("cuda", "auto", True, torch.bfloat16),
        ("cuda", "auto", False, torch.float16),  # a T4
        ("cuda", "fp16", True, torch.float16),
        ("cpu", "bf16", False, torch.bfloat16),
    ],
)
def test_the_type_of_the_working_copy(device, dtype, native, expected, monkeypatch):
    monkeypatch.setattr("support.offload.has_bf16", lambda: native)
    assert working_dtype(device, dtype) == expected


# --------------------------------------------------------------------------------------------------
# Layers that run twice

# Three prompts with four responses each, of one to six tokens; two micro-batches or more.
GROUPED = [
    sequence(prompt, [6 + i, 7, 2, 5, 9, 11][: 1 + (5 * i) % 6])
    for prompt in ([5, 6, 7, 8, 9, 10], [4, 0, 9], [21] * 9)
    for i in range(4)
]
for i, rollout in enumerate(GROUPED):
    rollout.advantage = (-1.0) ** i * (1 + i % 3)
SHARED = Config(micro_tokens=30)
ONE_BY_ONE = Config(micro_tokens=20)  # which has no room for all prompts


def twice(model):
    recompute_layers(model)
    return model


def gradients_in(model, config, bf16=False):
    """Of one minibatch, all parameters'; and whether prompts were shared."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        metrics = accumulate_gradient(model, GROUPED, config, budget=20)
    return [p.grad for p in model.parameters()], metrics["shared_prompts"]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("config, shares", [(SHARED, 1), (ONE_BY_ONE, 0)])
@pytest.mark.parametrize("family", ["Qwen3", "Llama", "Qwen2"])
def test_layers_that_run_twice_give_the_same_gradient(family, config, shares, bf16):
    """Under eval(), and with a cache: a layer that runs again must not find its own keys there."""
    plain, shared = gradients_in(tiny_model(family), config, bf16)
    again, _ = gradients_in(twice(tiny_model(family)), config, bf16)
    assert shared == shares and all(map(torch.equal, plain, again))


def test_a_layer_that_runs_again_finds_the_cache_as_it_was():
    """Even where attention would not look at the second copy."""
    keys = torch.randn(2, 1, 3, 4)
    cache = FirstKeys()
    for _ in range(2):
        assert torch.equal(cache.update(keys, keys, 0)[0], keys)
    assert cache.get_seq_length() == 3


def count_runs(model):
    """How often a layer runs in an update, and where three tokens are sampled."""
    runs = []
    attention = model.base_model.layers[0].self_attn
    attention.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    gradients_in(model, SHARED)
    generate(model, [[5, 6]], max_new_tokens=3, stop_ids=set())
    return runs.count(True), runs.count(False)


def test_layers_run_twice_in_an_update_alone():
    """Or all that equality would be of one and the same; the sampler does not pay for it."""
    once, sampled = count_runs(tiny_model())
    assert once and count_runs(twice(tiny_model())) == (2 * once, sampled)


def kept_for_backward(model, ids):
    """What a forward keeps, weights left out: of each storage a tensor."""
    seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
    alive = []

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in seen:
            seen.add(tensor.untyped_storage().data_ptr())
            alive.append(tensor)  # or another one would get its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward_hidden(model, ids)
    return alive


def test_one_input_a_layer_is_kept_for_backward():
    """The rest is made again: with four layers, four inputs, and what lies around the layers."""
    ids = torch.arange(2 * 16).reshape(2, 16)
    models = [tiny_model(num_hidden_layers=layers) for layers in (4, 4, 0)]
    twice(models[1])
    plain, few, around = ([kept.shape for kept in kept_for_backward(m, ids)] for m in models)
    assert few.count((2, 16, 32)) == around.count((2, 16, 32)) + 4
    assert len(few) <= len(around) + 2 * 4 and len(plain) > 5 * len(few)


def test_a_model_whose_layers_are_not_found_is_named():
    model = tiny_model("OPT", word_embed_proj_dim=32)
    with pytest.raises(ValueError, match="OPTForCausalLM keeps its layers.*--recompute no"):
        recompute_layers(model)


# --------------------------------------------------------------------------------------------------
# A run


@pytest.fixture
def offloaded(quick_options):
    """Options of a run with its optimizer on the host, and with a working copy in bf16."""
    return quick_options | {"offload": "yes", "dtype": "bf16", "lr": 1e-6}


@pytest.mark.parametrize("changes", [{}, {"dtype": "fp16"}, {"offload": "all"}])
def test_a_resumed_run_is_the_same_bit_for_bit(changes, offloaded, tmp_path, monkeypatch):
    """The checkpoint holds the masters: the working copy alone would lose what was learnt.

    And the scale of the loss, which is lower by now.
    """
    offloaded |= changes
    whole = new_run(offloaded | {"out": str(tmp_path / "whole")})
    tfpi.train(whole)
    step = tfpi.train_step

    def last_step(run, stage):
        run.asked_to_stop = True
        return step(run, stage)

    with monkeypatch.context() as patch:
        patch.setattr(tfpi, "train_step", last_step)
        run = new_run(offloaded)
        assert tfpi.train(run) is False and run.optimizer.state
    run.lock.release()
    tfpi.train(resumed_run({"out": offloaded["out"]}))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_what_is_saved_are_the_masters(offloaded, tmp_path):
    """In fp32 in a checkpoint, in the type that the model came in as a stage; tied ones once."""
    run = new_run(offloaded)
    with torch.no_grad():
        for master in masters(run.optimizer):
            master += 1e-6  # less than the working copy knows
    run.save_checkpoint()
    run.save_model("stage1")
    right = flat(masters(run.optimizer))
    for name in ("checkpoint-0-0", "stage1"):
        saved = AutoModelForCausalLM.from_pretrained(run.folder / name)
        assert torch.equal(flat_weights(saved), right)
        assert json.loads((run.folder / name / "config.json").read_text())["dtype"] == "float32"
    run.state.dtype = "bfloat16"
    run.save_model("stage2")
    weights = load_file(run.folder / "stage2" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {BF16}
    assert len(weights) == len(load_file(run.folder / "stage1" / "model.safetensors"))


@pytest.mark.parametrize("first, then", [("no", "yes"), ("yes", "no")])
def test_a_run_may_change_where_its_optimizer_is(first, then, quick_options):
    """Its checkpoint is the same either way: weights and moments in fp32."""
    options = quick_options | {"steps": 1, "budgets": "8"}
    run = new_run(options | {"offload": first})
    tfpi.train(run)
    run.lock.release()
    again = resumed_run({"out": options["out"], "offload": then})
    assert torch.equal(flat_weights(again.model), flat_weights(run.model))
    assert isinstance(again.optimizer, HostAdamW) is (then == "yes")
    for old, new in zip(masters(run.optimizer), masters(again.optimizer), strict=True):
        for key, value in run.optimizer.state[old].items():
            assert torch.equal(again.optimizer.state[new][key], value)


def test_a_run_computes_layers_twice_where_it_is_told_to(quick_options):
    [layer] = new_run(quick_options | {"recompute": "yes"}).model.base_model.layers
    assert type(layer) is recomputing(type(layer).__base__)


def test_the_scale_of_the_loss_is_saved(offloaded):
    run = new_run(offloaded | {"dtype": "fp16"})
    run.optimizer.loss_scale = 2.0**8
    run.save_checkpoint()
    run.lock.release()
    assert resumed_run({"out": offloaded["out"]}).optimizer.loss_scale == 2.0**8


def test_sampler_and_trainer_agree_in_bf16(tiny_options, tmp_path, capsys):
    """Both compute with the working copy, so the ratio is near 1 before the first step.

    The plan of the run says so.
    """
    offloaded = {"offload": "yes", "dtype": "bf16", "budgets": "40,48"}
    run = new_run(tiny_options | offloaded | {"out": str(tmp_path / "run")})
    describe(run, [], [])
    assert "in the host's memory; the model computes in bfloat16" in capsys.readouterr().out
    assert run.model.dtype == BF16
    for stage in tfpi.stages(run.config):
        assert tfpi.measure_gap(run, stage) < 0.03
