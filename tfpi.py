"""Thinking-Free Policy Initialization (TFPI, arXiv 2509.26226), the whole method:

    python tfpi.py --model small                                # a 0.6M-parameter model on a CPU, minutes
    python tfpi.py --model qwen3-4b --data polaris.jsonl        # the paper's models on a GPU, days

    x   <|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n
    x'  x + <think>\\n\\n</think>\\n\\n                                 think_free           (Section 3, "ThinkingFree")
    J_TFPI(theta) = E_x[ J_RLVR(theta, x') ]                            train_stage, grpo.py (Section 3; DAPO)
    three stages of growing response budget, each until it levels off   stages, levelled_off (Section 3; Figure 8)
    then, in recipe tfpi+rl, ordinary RL on x with the full budget      stages               (Section 4, Table 2)

The prompt is the only thing that changes: rollouts are sampled, the ratio is taken and the advantage is computed on
x', and the right answer stays the same. A model trained without thinking then also thinks better, and shorter, since
both modes share what they compute with.

Left out: several GPUs, an inference server, the paper's benchmarks beyond mathematics, reward shaping (the
paper has no length reward).
"""

import os
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm
from transformers.utils import logging

from eval import MODES, evaluate, format_row, report, sample_and_grade, verification_share
from grpo import UpdateConfig, dynamic_sampling, flat_groups, group_advantages, update
from problems import take_problems
from rollout import check_request
from support.config import parse_arguments
from support.disk import save_model, write_folder
from support.memory import memory_advice
from support.run import new_run, resumed_run
from thinkfree import check_block, render

SAMPLING_ADVICE = "Lower --slots, or the budget."
BAD_STEPS = 3  # in a row, without one finite update: a run stops

# ---------------------------------------------------------------------------------------------------------------------
# The operation


def render_all(run, problems, thinking):
    return [render(run.tokenizer, p.problem, run.config.instruction, thinking) for p in problems]


def check_prompts(run):
    """Refuses, before anything is written or sampled, prompts that some later step could not sample from."""
    config = run.config
    check_block(run.tokenizer)
    largest = {
        stage.thinking: stage.budget
        for stage in sorted(stages(config), key=lambda stage: stage.budget)
    }
    measured = run.validation[: config.validation_problems] + run.test[: config.eval_problems]
    for thinking, problems, budget in [(mode, run.train, largest[mode]) for mode in largest] + [
        (mode, measured, config.full_budget) for mode in (True, False)
    ]:
        encoded = run.tokenizer(render_all(run, problems, thinking), add_special_tokens=False)[
            "input_ids"
        ]
        check_request(run.model, encoded, budget, config.temperature)


@dataclass(frozen=True)
class Stage:
    name: str
    thinking: bool
    budget: int


def stages(config):
    """The recipe as a list of stages; `multistage` is Table 4's control, the same budgets without ThinkFree."""
    budgets = [int(b) for b in config.budgets.split(",")]
    tfpi, multistage = (
        [Stage(f"stage{i}", thinking, budget) for i, budget in enumerate(budgets, start=1)]
        for thinking in (False, True)
    )
    rl = [Stage("rl", True, config.full_budget)]
    return {"tfpi": tfpi, "tfpi+rl": tfpi + rl, "direct": rl, "multistage": multistage}[
        config.recipe
    ]


def levelled_off(truncated, accuracy, window=3, tolerance=0.01):
    """Whether a stage has reached its turning point (Figure 8): neither measure is still improving.

    truncated and accuracy are the shares at each validation of the stage, oldest first. The mean of the last `window`
    is compared with the mean of the `window` before; the paper does this by eye.
    """
    if len(accuracy) < 2 * window:
        return False
    gain = np.mean(accuracy[-window:]) - np.mean(accuracy[-2 * window : -window])
    drop = np.mean(truncated[-2 * window : -window]) - np.mean(truncated[-window:])
    return bool(gain < tolerance and drop < tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# One step, one stage


def stream_seed(*numbers):
    """One 63-bit seed from run seed, step, and a number: even for a draw of rollouts, odd for evaluation."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def sample_groups(run, stage, draw):
    """Samples and grades a draw of prompts: rollouts, rewards and (problem, text) pairs, group by group."""
    config, count = run.config, run.config.prompts
    problems = take_problems(run.train, run.state.cursor, count, config.seed)
    run.state.cursor += count
    prompts = render_all(run, problems, stage.thinking)
    bar = tqdm(total=count * config.group, desc="rollouts", unit="", leave=False, disable=None)
    with bar, run.autocast(), memory_advice("sampling", SAMPLING_ADVICE):
        rollouts, texts, rewards = sample_and_grade(
            run.model,
            run.tokenizer,
            prompts,
            [p.answer for p in problems],
            samples=config.group,
            max_new_tokens=stage.budget,
            stop_ids=run.stop_ids,
            temperature=config.temperature,
            seed=stream_seed(config.seed, run.state.step, 2 * draw),
            slots=config.slots,
            progress=lambda tokens, done: bar.update(done),
        )
    return rollouts, rewards, [(problems[i // config.group], text) for i, text in enumerate(texts)]


def count_flops(model, rollouts, kept, group):
    """The compute of a step: 2 FLOPs a weight and token sampled, 6 a weight and token trained.

    A prompt is sampled from once a group, and trained with each response. Attention's own products are left out.
    """
    weights = sum(p.numel() for p in model.parameters())
    sampled = sum(len(r.prompt_ids) for r in rollouts[::group]) + sum(
        len(r.response_ids) for r in rollouts
    )
    trained = sum(len(r.prompt_ids) + len(r.response_ids) for r in kept)
    return weights * (2 * sampled + 6 * trained)


def train_step(run, stage):
    """One step of J_TFPI (or of J_RLVR, in a stage with thinking): its metrics, and a sample response."""
    started, config, responses = time.monotonic(), run.config, []

    def draw_groups(draw):
        rollouts, rewards, texts = sample_groups(run, stage, draw)
        responses.extend(texts)
        return rollouts, rewards

    kept, kept_rewards, rollouts, rewards = dynamic_sampling(
        draw_groups, config.prompts, config.group, config.draws
    )
    lengths = [len(r.response_ids) for r in rollouts]
    run.state.generated_tokens += sum(lengths)
    run.state.flops += count_flops(run.model, rollouts, kept, config.group)
    metrics = {
        "reward": float(np.mean(rewards)),
        "tokens": float(np.mean(lengths)),
        "truncated": float(np.mean([not r.finished for r in rollouts])),
        "flat_groups": float(flat_groups(rewards, config.group).float().mean()),
        "rollouts": len(rollouts),
        "verification": verification_share([text for _, text in responses]),
        "entropy": -float(
            np.mean([l for r in rollouts for l in r.logprobs])
        ),  # unbiased, by the samples
        "rollout_seconds": time.monotonic() - started,
    }
    options = UpdateConfig(
        config.temperature,
        config.eps_low,
        config.eps_high,
        config.normalizer,
        config.minibatches,
        config.micro_tokens,
    )
    advantages = group_advantages(kept_rewards, config.group)
    with run.autocast(), memory_advice("updating the model", "Lower --micro-tokens."):
        metrics |= update(run.model, run.optimizer, kept, advantages, options, stage.budget)
    run.state.step, run.state.stage_step = run.state.step + 1, run.state.stage_step + 1
    problem, text = responses[0]
    sample = f"(reward {rewards[0]:.0f}, answer {problem.answer}) {problem.problem}\n{text}"
    return metrics | {"step_seconds": time.monotonic() - started}, sample


def is_over(config, state):
    """Whether the current stage has done its steps, or has levelled off where their number is not fixed."""
    if config.steps:
        return state.stage_step >= config.steps
    return state.stage_step >= config.stage_steps or levelled_off(state.truncated, state.accuracy)


def train_stage(run, stage):
    """Trains until the stage is over, or the user asks to stop; ValueError after BAD_STEPS steps without an update."""
    config, state = run.config, run.state
    bar = tqdm(
        total=config.steps or config.stage_steps,
        initial=state.stage_step,
        desc=f"{stage.name} (budget {stage.budget})",
        unit="step",
        mininterval=1,
    )
    with bar:
        while not run.stop and not is_over(config, state):
            metrics, sample = train_step(run, stage)
            state.since_validation.append(metrics["truncated"])
            line = {
                "step": state.step,
                "stage": stage.name,
                "stage_step": state.stage_step,
                "budget": stage.budget,
                "thinking": stage.thinking,
                **metrics,
            }
            if state.stage_step % config.validate_every == 0:
                problems = run.validation[: config.validation_problems]
                line["validation"] = measure(run, problems, stage.thinking, 1, "validation")[
                    "accuracy"
                ]
                state.accuracy.append(line["validation"])
                state.truncated.append(float(np.mean(state.since_validation)))
                state.since_validation = []
            line |= {
                "generated_tokens": state.generated_tokens,
                "flops": state.flops,
                "seconds": run.seconds(),
            }
            run.log(line)
            bar.update(1)
            bar.set_postfix_str(
                f"reward {line['reward']:.2f}, tokens {line['tokens']:.0f}, truncated {line['truncated']:.0%}, "
                f"flat {line['flat_groups']:.0%}, grad {line['grad_norm']:.2f}, {line['step_seconds']:.1f} s"
            )
            skipped, updates = metrics["skipped"], metrics["updates"]
            if skipped or not updates:
                what = (
                    f"{skipped} of {skipped + updates} updates left out, since loss or gradient was not finite"
                    if skipped
                    else "no update, since every group was flat (all right or all wrong)"
                )
                bar.write(
                    f"step {state.step}: {what}; {metrics['truncated']:.0%} of the responses were truncated.",
                    file=sys.stderr,
                )
            state.bad_steps = 0 if updates else state.bad_steps + (skipped > 0)
            if state.bad_steps == BAD_STEPS:
                state.bad_steps = 0  # whoever resumes the run has changed something
                run.save_checkpoint()
                raise ValueError(
                    f"in {BAD_STEPS} steps in a row the loss or its gradient was not finite. The weights "
                    "are those before these steps. Lower --lr and go on."
                )
            if state.stage_step % 25 == 1:
                bar.write(f"\nstep {state.step}, a sample {sample[:800]}\n", file=sys.stderr)
            if config.snapshot_every and state.step % config.snapshot_every == 0:
                write_folder(
                    run.folder / f"step{state.step}", lambda folder: save_model(run, folder)
                )
            if state.stage_step % config.save_every == 0:
                run.save_checkpoint()
        if is_over(config, state):
            bar.write(f"{stage.name} is over after {state.stage_step} steps.", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# The run


def measure(run, problems, thinking, samples, label):
    """Evaluates one mode at the full budget.

    Problems and random streams are the same each time, so that two measurements compare like with like.
    """
    config, name = run.config, "thinking" if thinking else "thinking-free"
    prompts, answers = render_all(run, problems, thinking), [p.answer for p in problems]
    bar = tqdm(
        total=len(problems) * samples, desc=f"{label}, {name}", unit="", leave=False, disable=None
    )
    with bar, run.autocast(), memory_advice("sampling", SAMPLING_ADVICE):
        return evaluate(
            run.model,
            run.tokenizer,
            prompts,
            answers,
            k=samples,
            budget=config.full_budget,
            stop_ids=run.stop_ids,
            temperature=config.temperature,
            seed=stream_seed(config.seed, 0, 1),
            slots=config.slots,
            progress=lambda tokens, done: bar.update(done),
        )


def measure_both(run, name):
    """Appends both modes' results on the test problems to the run's table, and prints them."""
    entry = {
        "name": name,
        "step": run.state.step,
        "generated_tokens": run.state.generated_tokens,
        "flops": run.state.flops,
    }
    for mode in MODES:
        result = measure(
            run,
            run.test[: run.config.eval_problems],
            mode == "thinking",
            run.config.eval_samples,
            f"test, {name}",
        )
        del result["responses"]
        entry[mode] = result
        tqdm.write(format_row(name, mode, result), file=sys.stderr)
    run.state.evaluations.append(entry)


def train(run):
    """All stages of the recipe from where the run is; False if the user asked to stop.

    What is killed between two checkpoints is done again from the first of them on, alike: every random stream is
    keyed by seed and step. So a stage's end needs one checkpoint, not one for each of its parts.
    """
    plan = stages(run.config)
    if not run.state.evaluations:
        measure_both(run, "before")
        run.save_checkpoint()
    while run.state.stage < len(plan):
        stage = plan[run.state.stage]
        train_stage(run, stage)
        if run.stop:
            return False
        write_folder(run.folder / stage.name, lambda folder: save_model(run, folder))
        measure_both(run, stage.name)
        run.state.stage, run.state.stage_step = run.state.stage + 1, 0
        run.state.accuracy, run.state.truncated, run.state.since_validation = [], [], []
        run.save_checkpoint()
    return True


def describe(run):
    """The plan, printed at once."""
    config, parameters = run.config, sum(p.numel() for p in run.model.parameters())
    print(
        f"model {config.model} ({parameters / 1e6:.1f}M parameters) on {run.device}; recipe {config.recipe}; "
        f"{len(run.train)} training problems; output in {run.folder}"
    )
    for stage in stages(config):
        prompt = "thinking" if stage.thinking else "thinking-free"
        length = (
            f"{config.steps} steps"
            if config.steps
            else f"until it levels off, at most {config.stage_steps} steps"
        )
        print(
            f"  {stage.name}: {prompt} prompts, budget {stage.budget} tokens, "
            f"{config.prompts} prompts x {config.group} rollouts a step, {length}"
        )
    print(
        "  about 6 minutes on two CPU cores with the default settings"
        if config.model == "small"
        else "  the time left stands beside each bar"
    )


def main(argv=None):
    given, resume = parse_arguments(argv)
    logging.disable_progress_bar()  # transformers' own bars, of loading and saving
    torch.set_flush_denormal(
        True
    )  # or Adam's smallest moments are computed in slow denormal arithmetic
    run = None

    def ask_to_stop(*_):
        if run is None or run.stop:
            raise KeyboardInterrupt
        run.stop = True
        # Not print: the signal may have come in the middle of another one, which cannot be entered twice.
        os.write(
            2,
            b"\nstopping after this step or evaluation, with a checkpoint; once more stops at once.\n",
        )

    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGTERM, ask_to_stop)
    try:
        with memory_advice("loading the model", "Use a smaller one, or --device cpu."):
            run = resumed_run(given) if resume else new_run(given, check_prompts)
        describe(run)
        if train(run):
            return report(run)
        run.save_checkpoint()
        reason = "stopped."
    except (ValueError, OSError, MemoryError) as error:  # DataError and ModelError among them
        reason = f"{error}"
    except KeyboardInterrupt:
        reason = "stopped at once."
    sys.exit(
        f"tfpi: {reason}"
        + (
            f" To go on from the last checkpoint: python tfpi.py --resume --out {run.folder}"
            if run
            else ""
        )
    )


if __name__ == "__main__":
    main()
