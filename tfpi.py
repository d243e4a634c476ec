"""Thinking-Free Policy Initialization (TFPI, arXiv 2509.26226): the method.

    python tfpi.py --model small                                # a 0.65M-parameter model, minutes
    python tfpi.py --model qwen3-4b --data polaris.jsonl        # the paper's models on a GPU, days

    x   <|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n
    x'  x + <think>\\n\\n</think>\\n\\n                      Section 3: thinkfree.think_free
    J_TFPI(theta) = E_x[ J_RLVR(theta, x') ]               Section 3; DAPO: train_step, grpo.py
    three stages of growing response budget                Section 3: stages
    each until it levels off                               Figure 8: levelled_off
    then, in recipe tfpi+rl, ordinary RL on x              Section 4, Table 2: stages

The prompt is the only thing that changes: rollouts are sampled, the ratio is taken and the
advantage is computed on x', and the right answer stays the same. A model trained without thinking
then also thinks better, and shorter, since both modes share what they compute with. Left out:
several GPUs, an inference server, benchmarks beyond mathematics, reward shaping (the paper has no
length reward).
"""

import sys
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from transformers.utils import logging

from eval import evaluate, evaluate_both, leave_out_long, mean, sample_run, verification_share
from grpo import dynamic_sampling, is_flat, sampler_gap, set_advantages, update
from problems import load_data, take_problems
from rollout import stream_seed
from support import ranks
from support.config import parse_arguments
from support.model import ModelError
from support.report import describe, report
from support.run import signals
from support.start import joined_run, new_run, resumed_run, show_plan
from support.terminal import calm_streams, paste, visible
from thinkfree import check_prompts, describe_prompts


@dataclass(frozen=True)
class Stage:
    name: str
    thinking: bool  # prompts are x; else x'
    budget: int  # tokens a response


def stages(config):
    """The recipe: a list of stages; `multistage` is Table 4's control, TFPI's budgets on x."""
    budgets = enumerate(config.stage_budgets(), start=1)
    tfpi = [Stage(f"stage{i}", False, budget) for i, budget in budgets]
    multistage = [replace(stage, thinking=True) for stage in tfpi]
    rl = [Stage("rl", True, config.full_budget)]
    recipes = {"tfpi": tfpi, "tfpi+rl": tfpi + rl, "direct": rl, "multistage": multistage}
    return recipes[config.recipe]


def train_step(run, stage):
    """One step of J_TFPI (of J_RLVR, in a stage with thinking): all groups drawn, and metrics."""
    config = run.config
    draw_groups = partial(sample_groups, run, stage)  # y ~ pi_old(. | x'), graded
    kept, groups = dynamic_sampling(draw_groups, config.prompts, config.draws)
    set_advantages(kept)  # A_i = (R_i - mean) / std
    rollouts = [rollout for group in kept for rollout in group]
    losses = update(run.model, run.optimizer, rollouts, config, stage.budget)  # on x' again
    return groups, count_step(run, groups, kept) | losses


def train_stage(run, stage):
    """Trains until the stage is over, or the user asks to stop."""
    with run.progress(stage):
        while not (run.stops() or is_over(run.config, run.state)):
            groups, metrics = timed(train_step, run, stage)
            run.record(stage, groups, metrics | validate_if_due(run, stage, metrics))


def train(run):
    """All stages of the recipe from where the run is; False if the user asked to stop."""
    if not run.state.evaluations:
        evaluate_both(run, "before")
        run.save_checkpoint()
    recipe = stages(run.config)
    for stage in recipe[run.state.stage :]:
        train_stage(run, stage)
        if run.stopped:
            return False
        end_stage(run, stage, last=stage == recipe[-1])
    return True


# --------------------------------------------------------------------------------------------------
# The parts of a step


def sample_groups(run, stage, draw):
    """Samples and grades one draw of prompts: a list of groups, each a list of rollouts."""
    config = run.config
    problems = take_problems(run.train, run.state.cursor, config.prompts, config.seed)
    run.state.cursor += len(problems)
    # Even for a draw of rollouts, odd for evaluation (eval.py): never the same stream.
    seed = stream_seed(config.seed, run.state.step, 2 * draw)
    options = {"budget": stage.budget, "samples": config.group, "seed": seed, "label": "rollouts"}
    return sample_run(run, problems, stage.thinking, **options)


def timed(step, run, stage):
    """What the step returns, its metrics with the seconds of rollouts, and of all of it."""
    started = time.monotonic()
    groups, metrics = step(run, stage)
    metrics["step_seconds"] = time.monotonic() - started
    metrics["rollout_seconds"] = metrics["step_seconds"] - metrics.pop("update_seconds")
    return groups, metrics


def count_step(run, groups, kept):
    """Counts the step, the tokens that it generated, and its compute; describe_groups' metrics."""
    state = run.state
    state.generated_tokens += sum(len(r.response_ids) for group in groups for r in group)
    state.flops += count_flops(run.model, groups, kept)
    state.step += 1
    state.stage_step += 1
    return describe_groups(groups)


def describe_groups(groups):
    """A step's metrics, as far as they are a function of its rollouts: a dict of plain numbers."""
    rollouts = [rollout for group in groups for rollout in group]
    metrics = {"rollouts": len(rollouts)}
    metrics["reward"] = mean(rollout.reward for rollout in rollouts)
    metrics["accuracy"] = mean(rollout.correct for rollout in rollouts)
    metrics["tokens"] = mean(len(rollout.response_ids) for rollout in rollouts)
    metrics["truncated"] = mean(not rollout.finished for rollout in rollouts)
    metrics["flat_groups"] = mean(is_flat(group) for group in groups)
    metrics["verification"] = verification_share([rollout.text for rollout in rollouts])
    # Unbiased, by the samples.
    metrics["entropy"] = -mean(p for rollout in rollouts for p in rollout.logprobs)
    return metrics


def count_flops(model, groups, kept):
    """The compute of a step: 2 FLOPs a weight and token sampled, 6 a weight and token trained.

    A prompt is sampled from once a group, and trained with each response. Attention's own products
    are left out.
    """
    sampled = 0
    for group in groups:
        sampled += len(group[0].prompt_ids) + sum(len(r.response_ids) for r in group)
    trained = sum(len(r.prompt_ids) + len(r.response_ids) for group in kept for r in group)
    weights = sum(p.numel() for p in model.parameters())
    return weights * (2 * sampled + 6 * trained)


# --------------------------------------------------------------------------------------------------
# The end of a stage


def validate_if_due(run, stage, metrics):
    """Accuracy on the validation problems, in the stage's mode, every so many steps: a metric.

    It is noted down for levelled_off, beside the share of truncated rollouts since the last one.
    """
    state = run.state
    state.since_validation.append(metrics["truncated"])
    if state.stage_step % run.config.validate_every:
        return {}
    problems = run.validation[: run.config.validation_problems]
    accuracy = evaluate(run, problems, stage.thinking, 1, "validation")["accuracy"]
    state.accuracy.append(accuracy)
    state.truncated.append(mean(state.since_validation))
    state.since_validation = []
    return {"validation": accuracy}


def is_over(config, state):
    """Whether the stage has done its steps, or has levelled off where their number is not fixed."""
    if config.steps:
        return state.stage_step >= config.steps
    return state.stage_step >= config.stage_steps or levelled_off(state.truncated, state.accuracy)


def levelled_off(truncated, accuracy, window=5, least=0.015):
    """Whether a stage has reached its turning point (Figure 8): neither measure may still improve.

    truncated and accuracy are the shares at each validation of the stage, oldest first. Of each,
    the last `window` decide, and a gain of `least` a validation. The paper does this by eye.
    """
    if len(accuracy) < window:
        return False
    finished = [1 - share for share in truncated]
    return not (may_rise(finished[-window:], least) or may_rise(accuracy[-window:], least))


def may_rise(shares, least):
    """Whether the line through shares (N,) rises by `least` a share, or might: noise is no end.

    That is, whether its slope and the slope's standard error together reach `least`.
    """
    (slope, _), covariance = np.polyfit(range(len(shares)), shares, 1, cov=True)
    return bool(slope + covariance[0, 0] ** 0.5 >= least)


def end_stage(run, stage, last):
    """Keeps and measures the model of a stage that is over, and goes on to the next one."""
    run.say(f"{stage.name} is over after {run.state.stage_step} steps.")
    run.save_model(stage.name)
    # Between stages nothing rests on it: one sample a problem does.
    evaluate_both(run, stage.name, run.config.eval_samples if last else 1)
    run.state.next_stage()
    run.save_checkpoint()


# --------------------------------------------------------------------------------------------------
# The command line


MAX_GAP = 0.1  # nats; in fp32 it is below 1e-5, in bf16 a few thousandths


def check_run(run):
    """Refuses, before anything is written, what could only fail later, or go wrong in silence.

    Leaves out problems whose prompts are too long. Raises ValueError (ModelError).
    """
    config = run.config
    check_prompts(run.tokenizer)
    by_budget = sorted(stages(config), key=lambda stage: stage.budget)
    largest = {stage.thinking: stage.budget for stage in by_budget}
    measured = [(thinking, config.full_budget) for thinking in (True, False)]

    def fitting(problems, wanted):
        return leave_out_long(run.model, run.tokenizer, problems, config.instruction, wanted)

    run.train = fitting(run.train, largest.items())
    run.validation = fitting(run.validation, measured)
    run.test = fitting(run.test, measured)
    gap = measure_gap(run, by_budget[0])
    if gap > MAX_GAP:
        raise ModelError(
            f"sampler and trainer disagree by {gap:.2f} nats a token on this model, so it would be "
            "trained on a ratio that is wrong. Please report it, and use another model."
        )


def measure_gap(run, stage):
    """How far log-probs of the sampler are from the trainer's: a few tokens, the real model."""
    options = {"budget": min(32, stage.budget), "samples": 2, "seed": 0}
    groups = sample_run(run, run.train[:4], stage.thinking, label="checking the sampler", **options)
    return sampler_gap(run.model, [r for group in groups for r in group], run.config.temperature)


def main(argv=None):
    calm_streams()
    given, todo = parse_arguments(argv)
    logging.disable_progress_bar()  # transformers' own bars, of loading and saving
    torch.set_flush_denormal(True)  # or Adam's smallest moments are slow denormal arithmetic
    run = None
    try:
        with signals(lambda: run.ask_to_stop() if run else None), ranks.group():
            if todo.plan:
                return show_plan(given, todo.memory)
            make_run = resumed_run if todo.resume else new_run
            if ranks.follows():
                make_run = joined_run
            start = partial(ranks.start, [__file__, *(sys.argv[1:] if argv is None else argv)])
            run = make_run(given, load_data, check_run, start)
            describe(run, stages(run.config), describe_prompts(run.tokenizer, run.stop_ids))
            if run.state.stage == len(stages(run.config)):
                print("This run is over. To train longer, start another from its last stage.")
            if train(run):
                return report(run)
            run.save_checkpoint()
            reason = "stopped."
    except (ValueError, OSError, MemoryError) as error:  # DataError and ModelError among them
        reason = f"{error}"
    except KeyboardInterrupt:
        reason = "stopped at once."
    if run:
        command = f"python tfpi.py --resume {paste('--out', run.folder)}"
        reason += f" To go on from the last checkpoint: {command}"
    sys.exit(visible(f"tfpi: {reason}"))


if __name__ == "__main__":
    main()
