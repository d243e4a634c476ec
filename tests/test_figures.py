"""What is measured: each figure against a case that is counted by hand, or by a naive loop.

The sampler is canned (shared.py): it writes RESPONSES.
"""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from shared import SHOWN, naive_response_logprobs, sequence

import tfpi
from eval import evaluate, evaluate_both
from grpo import update
from support.config import Config
from tfpi import Stage, train_step

FREE = Stage("stage", False, 21)

# Two responses to each of three problems, right by right, and whether they ended by themselves.
# Of 15 lines that are not empty two verify; one response thinks, another has an empty block.
RESPONSES = [
    ("<think>\nwait, no\nlong\n</think>\n\n\\boxed{RIGHT}", True),
    ("\\boxed{RIGHT}", True),
    ("<think>\n\n</think>\n\n\\boxed{RIGHT}", True),
    ("Check it\nno", False),
    ("no", True),
    ("a\n\nb\nc", False),
]
SHARES = {"accuracy": 3 / 6, "truncated": 2 / 6, "verification": 2 / 15}


@pytest.fixture
def written(canned, monkeypatch):
    """The canned sampler writes RESPONSES, over and over."""
    answers = canned.answers
    count = iter(range(1000))

    def write(question, sample):
        text, finished = RESPONSES[next(count) % 6]
        return text.replace("RIGHT", answers[question]), finished

    monkeypatch.setattr(canned, "write", write)
    return canned


def lengths(rollouts):
    return [len(rollout.response_ids) for rollout in rollouts]


# --------------------------------------------------------------------------------------------------
# Of a step


@pytest.fixture
def step_run(written, small_run):
    """A run whose step has three prompts, two responses each."""
    small_run.config.prompts = 3
    small_run.config.group = 2
    small_run.config.draws = 1
    return small_run


def test_metrics_of_a_step_by_hand(step_run, written):
    """The first group is all right and the third all wrong, so two of three are flat.

    Entropy is -log p over all tokens: 1 for each of a first response, 2 of a second.
    """
    _, metrics = train_step(step_run, FREE)
    rollouts = written.requests[0]["rollouts"]
    sizes = lengths(rollouts)
    entropy = (sum(sizes[::2]) + 2 * sum(sizes[1::2])) / sum(sizes)
    expected = {**SHARES, "rollouts": 6, "tokens": sum(sizes) / 6}
    expected |= {"reward": sum(rollout.reward for rollout in rollouts) / 6}
    expected |= {"flat_groups": 2 / 3, "entropy": entropy}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_tokens_and_compute_add_up_over_the_steps(step_run, written):
    """Of each step: 2 FLOPs a weight and token for what was sampled, 6 for the group learnt from.

    A prompt is read once for its group, and trained with each response.
    """
    flops = 0
    tokens = 0
    for step in range(2):
        train_step(step_run, FREE)
        rollouts = written.requests[step]["rollouts"]
        prompts = [len(rollout.prompt_ids) for rollout in rollouts]
        sizes = lengths(rollouts)
        sampled = sum(prompts[::2]) + sum(sizes)
        trained = sum(prompts[2:4]) + sum(sizes[2:4])
        flops += step_run.model.num_parameters() * (2 * sampled + 6 * trained)
        tokens += sum(sizes)
        assert step_run.state.generated_tokens == tokens
        assert step_run.state.flops == flops
    assert (step_run.state.step, step_run.state.stage_step) == (2, 2)


def test_the_seconds_of_a_step(monkeypatch):
    """What is not the update, which takes three seconds of five here, is sampling."""
    times = iter([100.0, 105.0])
    monkeypatch.setattr(tfpi, "time", SimpleNamespace(monotonic=lambda: next(times)))
    _, metrics = tfpi.timed(lambda run, stage: ([], {"update_seconds": 3.0}), None, FREE)
    assert metrics == {"rollout_seconds": 2, "step_seconds": 5}


def test_a_line_of_metrics_has_the_runs_totals(small_run):
    """Beside the step's own figures, which stay as they are."""
    state = small_run.state
    state.step, state.stage_step, state.generated_tokens, state.flops = 31, 30, 55, 77
    small_run.seconds = lambda: 9.5
    with small_run.progress(FREE):
        small_run.record(FREE, [], SHOWN)
    line = json.loads((small_run.folder / "metrics.jsonl").read_text())
    place = {"step": 31, "stage": "stage", "stage_step": 30, "budget": 21, "thinking": False}
    assert line == {**place, **SHOWN, "generated_tokens": 55, "flops": 77, "seconds": 9.5}


# --------------------------------------------------------------------------------------------------
# Of an update


ROLLOUTS = [
    ([5], [6, 7, 2], 1.0),
    ([5, 6, 7, 8, 9, 10], [11], -1.0),
    ([4, 0, 9], [12, 13, 0, 14, 3], 0.5),
    ([0], [8, 8], -2.0),
    ([9] * 9, [10, 11], 2.0),
    ([8], [7, 6, 5, 2, 1, 2], -0.5),
]


def naive_figures(model, rollouts):
    """Of one minibatch: loss, clipped share, gap and the gradient's norm, token by token."""
    tokens = [(r, t) for r in rollouts for t in range(len(r.response_ids))]
    loss = clipped = gap = 0.0
    for rollout, t in tokens:
        logprob = naive_response_logprobs(model, rollout)[t]
        ratio = (logprob - rollout.logprobs[t]).exp()
        bound = min(max(ratio.item(), 0.5), 4.0)
        binds = bound * rollout.advantage < ratio.item() * rollout.advantage
        gain = bound * rollout.advantage if binds else ratio * rollout.advantage
        loss = loss - gain / len(tokens)
        clipped += binds / len(tokens)
        gap += abs(logprob.item() - rollout.logprobs[t]) / len(tokens)
    model.zero_grad()
    loss.backward()
    norm = math.sqrt(sum((p.grad**2).sum().item() for p in model.parameters()))
    return {"loss": loss.item(), "clipped": clipped, "logprob_gap": gap, "grad_norm": norm}


def updated(model, rollouts, **options):
    """The metrics of an update that leaves the weights as they are."""
    clip = {"eps_low": 0.5, "eps_high": 3.0}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return update(model, optimizer, rollouts, Config(**clip, **options))


def off_policy():
    """ROLLOUTS with old log-probs such that some ratios are clipped."""
    rollouts = []
    for i, (prompt, response, advantage) in enumerate(ROLLOUTS):
        rollouts.append(sequence(prompt, response, logprob=-1.5 - i))
        rollouts[-1].advantage = advantage
    return rollouts


@pytest.mark.parametrize("micro_tokens", [1, 10000])
def test_metrics_of_an_update_are_means_over_its_minibatches(make_model, micro_tokens):
    """Two minibatches, of three responses each, however they are cut; the gap is the first one's.

    The gradient's norm is that before clipping.
    """
    model = make_model()
    first, second = (naive_figures(model, off_policy()[i : i + 3]) for i in (0, 3))
    expected = {name: (first[name] + second[name]) / 2 for name in first}
    expected |= {"logprob_gap": first["logprob_gap"], "updates": 2, "skipped": 0}
    assert 0 < expected["clipped"] < 1 and expected["grad_norm"] > 2
    metrics = updated(model, off_policy(), minibatches=2, micro_tokens=micro_tokens)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-3)


def test_metrics_leave_out_a_minibatch_that_was_skipped(make_model):
    """Its loss was not finite; what is reported is the other's."""
    model = make_model()
    expected = naive_figures(model, off_policy()[3:]) | {"updates": 1, "skipped": 1}
    rollouts = off_policy()
    rollouts[0].advantage = math.nan
    metrics = updated(model, rollouts, minibatches=2)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-3)


# --------------------------------------------------------------------------------------------------
# Of an evaluation


def test_figures_of_an_evaluation_by_hand(written, small_run):
    """Accuracies of 1, 1/2 and 0, so their mean has an error of 1/2 over the root of 3.

    The answer is what follows the thinking, in tokens; without thinking it is everything.
    """
    found = evaluate(small_run, small_run.test[:3], True, 2, "test")
    rollouts = written.requests[0]["rollouts"]
    answers = [rollout.text.split("</think>")[-1] for rollout in rollouts]
    answer_tokens = sum(len(written.tokenizer(answer)["input_ids"]) for answer in answers) / 6
    expected = {**SHARES, "k": 2, "problems": 3, "error": 0.5 / math.sqrt(3), "pass_at_k": 2 / 3}
    expected |= {"tokens": sum(lengths(rollouts)) / 6, "answer_tokens": answer_tokens}
    expected |= {"empty": 1 / 6, "thought": 1 / 6}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_row_of_the_table_says_what_it_cost_so_far(written, small_run):
    """Name, steps, tokens and compute of training up to here; and a measurement of each mode."""
    state = small_run.state
    state.step, state.stage_step, state.generated_tokens, state.flops = 31, 3, 55, 77
    evaluate_both(small_run, "stage2")
    [entry] = state.evaluations
    modes = {mode: entry.pop(mode) for mode in ("thinking", "thinking_free")}
    assert entry == {"name": "stage2", "step": 31, "generated_tokens": 55, "flops": 77}
    assert all(result["problems"] == 4 for result in modes.values())


def test_the_bar_of_sampling_counts_responses(canned, small_run, monkeypatch):
    """Two to each of three problems are six, whatever their length; it says what is measured."""
    bars = []

    class Bar:
        def __init__(self, total, desc, **_):
            self.total, self.desc, self.n = total, desc, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            self.n += count

    monkeypatch.setattr("eval.tqdm", Bar)
    for thinking in (True, False):
        evaluate(small_run, small_run.test[:3], thinking, 2, "test, before")
    expected = [(6, 6, f"test, before, {mode}") for mode in ("thinking", "thinking-free")]
    assert [(bar.total, bar.n, bar.desc) for bar in bars] == expected
