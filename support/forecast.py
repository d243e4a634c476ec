"""The plan in words, and the hours that it takes at best: `python tfpi.py --model M --plan`.

Times are what bandwidth and arithmetic of a card allow, taking responses to be half of their
budget. Left out: what a real run loses to launches, stragglers and grading.
"""

import torch

from support.cli import check_number
from support.config import make_config
from support.model import PROMPT, default_device
from support.plan import (
    GB,
    advice,
    find_memory,
    fit_budgets,
    host_bytes,
    make_plan,
    read_config,
    trained_budgets,
    weight_bytes,
)
from support.sizes import measure_sizes
from support.terminal import say

# Memory in GB: bandwidth in bytes/s, arithmetic in FLOP/s, of a card that has it.
CARDS = {16: (0.32e12, 65e12), 24: (1.0e12, 165e12), 48: (0.86e12, 180e12), 80: (3.35e12, 990e12)}
EFFICIENCY = 0.4  # of the arithmetic, in an update


def step_hours(plan, requests, budget, trained=True):
    """Hours for so many responses of a budget, half of it used: sampled, and trained on."""
    card = min(CARDS, key=lambda size: abs(size - plan.memory / GB))
    bandwidth, arithmetic = CARDS[card]
    tokens = requests * budget / 2
    size = weight_bytes(plan.choice)
    length = PROMPT + budget / 4  # of a response that is being written, in the mean
    rows = max(1, min(plan.slots, requests, plan.keys / length))
    keys = rows * length * plan.sizes.keys * size
    seconds = tokens / rows * (plan.sizes.parameters * 2 + keys) / bandwidth
    if trained:
        passes = 8 if plan.choice.recompute == "yes" else 6
        flops = passes * plan.sizes.parameters * (tokens + requests * PROMPT)
        seconds += flops / (EFFICIENCY * arithmetic)
    return seconds / 3600


def step_flops(parameters, config, budget):
    """FLOPs of a step whose responses all have the whole budget, counted as tfpi.count_flops does.

    2 a weight and token sampled, a prompt once a group; 6 a weight and token trained.
    """
    responses = config.prompts * config.group * budget
    prompts = config.prompts * PROMPT
    return parameters * (2 * (responses + prompts) + 6 * (responses + config.group * prompts))


def describe_plan(plan, config):
    """The plan as lines."""
    lines = [
        f"{config.model}: {write_count(plan.sizes.parameters)} parameters, {plan.sizes.layers} "
        f"layers; a device of {plan.memory / GB:.0f} GB",
        f"  choice: {plan.choice.name}; {describe_type(plan, config)}",
        *describe_memory(plan),
    ]
    if not plan.fits():
        return [*lines, f"  it does not fit: {advice(plan)}"]
    return lines + describe_times(plan, config) if plan.on_gpu else lines


def describe_type(plan, config):
    """What the model computes in, and why."""
    if plan.choice.offload == "no":
        kind = "bf16, under autocast, with weights in fp32" if plan.on_gpu else "fp32"
    elif config.dtype == "fp16":
        kind = "fp16, with a scaled loss, since it was asked for or the card has no bf16"
    else:
        copied = plan.on_gpu or config.dtype == "bf16"
        kind = "bf16, a copy of the fp32 weights" if copied else "fp32"
    return f"computes in {kind}"


def describe_memory(plan):
    """The two moments at which most is needed."""
    lines = [
        f"  sampling: {write_parts(plan.sampling())}; keys of {plan.keys} tokens: "
        f"{plan.longest_at_once()} responses at once of {plan.length}, of shorter ones up to "
        f"{plan.slots}",
        f"  updating: {write_parts(plan.updating())}, {plan.tokens} tokens at once",
    ]
    if host := host_bytes(plan.sizes, plan.choice):
        lines.append(f"  host: {write_parts(host)}")
    return lines


def describe_times(plan, config):
    lines = []
    requests = config.prompts * config.group
    steps = config.steps or config.stage_steps
    for budget in trained_budgets(config):
        hours = step_hours(plan, requests, budget)
        flops = step_flops(plan.sizes.parameters, config, budget)
        lines.append(
            f"  a step of budget {budget}: up to {requests * budget / 1e6:.1f}M tokens and "
            f"{flops / 1e15:.1f} PFLOP, at best {hours:.2f} h; a stage of {steps} steps "
            f"{hours * steps:.0f} h"
        )
    measured = config.eval_problems * config.eval_samples
    hours = step_hours(plan, measured, config.full_budget, trained=False)
    lines.append(f"  an evaluation with thinking: {measured} responses, at best {hours:.1f} h")
    return lines


def describe_start(plan, config):
    """The plan in a line; on a GPU in more."""
    most = max(sum(plan.sampling().values()), sum(plan.updating().values()))
    line = f"memory, by the plan: at most {most / GB:.1f} of {plan.memory / GB:.0f} GB"
    if not plan.on_gpu:
        return [f"{line} for each of {config.ranks} ranks of {config.threads} thread(s)"]
    return [f"{line}; {plan.choice.name}", *(more.strip() for more in describe_memory(plan))]


def write_parts(parts):
    total = sum(parts.values())
    unit, name_of_unit = (GB, "GB") if total >= GB else (1e6, "MB")
    named = ", ".join(f"{name} {value / unit:.1f}" for name, value in parts.items())
    return f"{total / unit:.1f} {name_of_unit} ({named})"


def write_count(parameters):
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.2f}M"


def show_plan(given, gigabytes):
    """Prints the plan of a run with the options given; of a card of so many GB, if they are."""
    config, source = make_config(given)
    model = read_config(source)
    device = torch.device(config.device or default_device())
    memory = find_memory(device)
    if gigabytes is not None:
        check_number("memory", gigabytes, 1, 10_000)
        memory = gigabytes * GB
    lowered = fit_budgets(config, given, model)
    sizes = measure_sizes(model)
    plan = make_plan(sizes, config, memory, on_gpu=gigabytes is not None or device.type == "cuda")
    lines = describe_plan(plan, config)
    say("\n".join([*lines, f"  {lowered}"] if lowered else lines))
