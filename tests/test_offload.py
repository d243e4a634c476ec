"""The optimizer on the host (support/offload.py), tried on a CPU.

Against torch's own AdamW on the model itself, bit for bit; and with a working copy in bf16, as a
GPU has it.
"""

import json

import pytest
import torch
from conftest import flat_weights, new_run, resumed_run, sequence, tiny_model
from safetensors.torch import load_file
from test_reliability import OPTIONS, outcome
from transformers import AutoModelForCausalLM

import tfpi
from grpo import accumulate_gradient, update
from support.config import Config
from support.offload import HostAdamW
from support.report import describe

BF16 = torch.bfloat16


def rollouts():
    """Two minibatches of three micro-batches each, whose gradients are clipped."""
    made = [sequence([5 + i, 6], [7 + i, 9, 2][: 1 + i % 3]) for i in range(12)]
    for i, rollout in enumerate(made):
        rollout.advantage = 30.0 * (-1) ** i
    return made


def masters(optimizer):
    return optimizer.param_groups[0]["params"]


# --------------------------------------------------------------------------------------------------
# The optimizer


@pytest.mark.parametrize("tied", [False, True])
def test_it_is_torchs_own_adamw_bit_for_bit(tied):
    """Three updates of two steps each, of several micro-batches, with clipping."""
    results = []
    for offloaded in (False, True):
        model = tiny_model(tie_word_embeddings=tied)
        if offloaded:
            optimizer = HostAdamW(model, "cpu", torch.float32, lr=1e-3, weight_decay=0.0)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        config = Config(minibatches=2, micro_tokens=8)
        metrics = [update(model, optimizer, rollouts(), config) for _ in range(3)]
        results.append((flat_weights(model), metrics))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert results[0][1][0]["grad_norm"] > 1


def test_masters_keep_what_bf16_loses():
    """An lr of 1e-6: a hundred steps move a weight of 1 by 1e-4, which bf16 does not know."""
    model = torch.nn.Linear(4, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = HostAdamW(model, "cpu", BF16, lr=1e-6, weight_decay=0.0)
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
    """Its gradients are on the host; rotary frequencies stay fp32, or positions would be wrong."""
    model = tiny_model()
    before = flat_weights(model)
    frequencies = model.model.rotary_emb.inv_freq.clone()
    optimizer = HostAdamW(model, "cpu", BF16, lr=1e-3, weight_decay=0.0)
    assert {p.dtype for p in model.parameters()} == {BF16}
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)
    assert torch.equal(torch.cat([m.flatten() for m in masters(optimizer)]), before)
    accumulate_gradient(model, rollouts(), Config(micro_tokens=8), budget=20)
    assert all(p.grad is None for p in model.parameters())
    assert {m.grad.dtype for m in masters(optimizer)} == {torch.float32}
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), [m.to(BF16) for m in masters(optimizer)]))


def test_micro_batches_are_summed_in_fp32():
    """In bf16, small gradients would be lost in the sum of many."""
    model = tiny_model()
    optimizer = HostAdamW(model, "cpu", BF16, lr=1e-3, weight_decay=0.0)
    weight, master = model.lm_head.weight, masters(optimizer)[-1]
    for gradient in [1.0] + 200 * [1e-3]:
        (weight * gradient).sum().backward()
    torch.testing.assert_close(master.grad.mean().item(), 1.2, atol=1e-3, rtol=0)


def test_an_update_leaves_no_gradient_behind():
    """The sampler has use for that memory."""
    model = tiny_model()
    update(model, torch.optim.AdamW(model.parameters()), rollouts(), Config())
    assert all(p.grad is None for p in model.parameters())
    optimizer = HostAdamW(model, "cpu", BF16, lr=1e-3)
    update(model, optimizer, rollouts(), Config())
    assert all(p.grad is None for p in [*model.parameters(), *masters(optimizer)])


# --------------------------------------------------------------------------------------------------
# A run


@pytest.fixture
def offloaded(tmp_path, monkeypatch):
    """Options of a run with its optimizer on the host, and with a working copy in bf16."""
    monkeypatch.setattr("support.run.working_dtype", lambda device: BF16)
    return OPTIONS | {"offload": "yes", "lr": 1e-6, "out": str(tmp_path / "run")}


def test_a_resumed_run_is_the_same_bit_for_bit(offloaded, tmp_path, monkeypatch):
    """The checkpoint holds the masters: the working copy alone would lose what was learnt."""
    whole = new_run(offloaded | {"out": str(tmp_path / "whole")})
    tfpi.train(whole)
    step = tfpi.train_step

    def last_step(run, stage):
        run.stop = True
        return step(run, stage)

    with monkeypatch.context() as patch:
        patch.setattr(tfpi, "train_step", last_step)
        run = new_run(offloaded)
        assert tfpi.train(run) is False and run.optimizer.state
    run.lock.close()
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
    right = torch.cat([master.flatten() for master in masters(run.optimizer)])
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
def test_a_run_may_change_where_its_optimizer_is(first, then, tmp_path):
    """Its checkpoint is the same either way: weights and moments in fp32."""
    options = OPTIONS | {"steps": 1, "budgets": "40", "out": str(tmp_path / "run")}
    run = new_run(options | {"offload": first})
    tfpi.train(run)
    run.lock.close()
    again = resumed_run({"out": options["out"], "offload": then})
    assert torch.equal(flat_weights(again.model), flat_weights(run.model))
    assert isinstance(again.optimizer, HostAdamW) is (then == "yes")
    for old, new in zip(masters(run.optimizer), masters(again.optimizer), strict=True):
        for key, value in run.optimizer.state[old].items():
            assert torch.equal(again.optimizer.state[new][key], value)


def test_sampler_and_trainer_agree_in_bf16(offloaded, capsys):
    """Both compute with the working copy, so the ratio is near 1 before the first step.

    The plan of the run says so.
    """
    run = new_run(offloaded)
    describe(run, [], [])
    assert "in the host's memory; the model computes in bfloat16" in capsys.readouterr().out
    assert run.model.dtype == BF16
    for stage in tfpi.stages(run.config):
        assert tfpi.measure_gap(run, stage) < 0.03
