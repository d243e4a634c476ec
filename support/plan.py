"""What a run needs, in bytes and hours, before it is begun: `python tfpi.py --model M --plan`.

A folder with config.json alone is enough. What backward keeps is counted (sizes.py), the rest is
arithmetic:

    always        weights
    sampling      keys and values of all responses that are written at once, their logits
    updating      gradients, what is kept for backward, a chunk of logits, the head's gradient
    the optimizer two moments in fp32; on the host, with masters and gradients (offload.py)

From these follow the choices: the first with which it fits of (1) all on the device, (2) each layer
computed again in backward, (3) the optimizer in the host's memory as well. Times are what
bandwidth and arithmetic of a card allow at best, taking responses to be half of their budget. Left
out: the fragments that an allocator leaves (a tenth of the memory is kept free for them), several
devices.
"""

import os
from dataclasses import dataclass

import torch
from transformers import AutoConfig

from support.config import make_config
from support.memory import FREE
from support.model import default_device
from support.options import check_number
from support.sizes import Sizes, measure_sizes
from support.terminal import say

GB = 1e9
PROMPT = 512  # tokens of a prompt, where the data is not known yet
CHUNK = 2**25  # logits at a time: logprobs.plan_chunks
# Memory in GB: bandwidth in bytes/s, arithmetic in FLOP/s, of a card that has it.
CARDS = {16: (0.32e12, 65e12), 24: (1.0e12, 165e12), 48: (0.86e12, 180e12), 80: (3.35e12, 990e12)}
EFFICIENCY = 0.4  # of the arithmetic, in an update


@dataclass
class Choice:
    """A way to train: what lies where."""

    name: str
    recompute: bool
    offload: bool

    def is_allowed(self, config):
        """Whether the options say so, or leave it open."""
        words = {True: ("yes", "auto"), False: ("no", "auto")}
        return config.recompute in words[self.recompute] and config.offload in words[self.offload]


CHOICES = (
    Choice("all on the device", False, False),
    Choice("each layer computed again in backward", True, False),
    Choice("each layer computed again, the optimizer in the host's memory", True, True),
    Choice("the optimizer in the host's memory", False, True),
)


# --------------------------------------------------------------------------------------------------
# Arithmetic


def weight_bytes(choice):
    """Bytes of a weight: fp32 where it is trained itself, bf16 where its master is elsewhere."""
    return 2 if choice.offload else 4


def update_bytes(sizes, choice, tokens, on_gpu):
    """What an update of one micro-batch takes on the device, by part."""
    n = sizes.parameters
    size = weight_bytes(choice)
    autocast = on_gpu and size == 4
    layer, rest = sizes.kept[size, autocast]
    kept = sizes.layers * layer
    if choice.recompute:  # the input of each layer, and all of the one that is computed again
        kept = sizes.layers * sizes.hidden * size + layer
    parts = {"weights": n * size}
    if choice.offload:  # one gradient at a time, the largest is the embeddings'
        parts["gradients"] = sizes.vocabulary * sizes.hidden * size
    else:
        parts |= {"gradients": n * 4, "optimizer": n * 8}
    if autocast:
        parts["weights in bf16"] = n * 2  # which autocast keeps until the update is over
    parts["kept for backward"] = tokens * (kept + rest)
    chunk = min(tokens, max(16, CHUNK // sizes.vocabulary)) * sizes.vocabulary
    # Logits and their gradient; the last states, their gradient, and both in fp32.
    parts["logits"] = 8 * chunk + 12 * tokens * sizes.hidden
    if choice.offload:  # the head's gradient, added up in fp32; else it is among the gradients
        parts["logits"] += 4 * sizes.vocabulary * sizes.hidden
    return parts


def sampling_bytes(sizes, choice, slots, length, on_gpu):
    """What sampling takes on the device, by part; gradients are freed before."""
    n = sizes.parameters
    size = weight_bytes(choice)
    parts = {"weights": n * size}
    if not choice.offload:
        parts["optimizer"] = n * 8
    if on_gpu and size == 4:
        parts["weights in bf16"] = n * 2
    parts["keys"] = slots * length * sizes.keys * size
    parts["logits"] = slots * sizes.vocabulary * 12
    return parts


def host_bytes(sizes, choice):
    """fp32 masters, their gradients, and two moments."""
    return {"masters, gradients, moments": sizes.parameters * 16} if choice.offload else {}


def most_slots(sizes, choice, length, memory, on_gpu):
    """How many responses of this length may be written at once."""
    empty = sum(sampling_bytes(sizes, choice, 0, length, on_gpu).values())
    one = sum(sampling_bytes(sizes, choice, 1, length, on_gpu).values()) - empty
    return int(max(0, memory * (1 - FREE) - empty) // one)


@dataclass
class Plan:
    sizes: Sizes
    choice: Choice
    tokens: int  # of the largest micro-batch
    length: int  # of the longest prompt with its response
    slots: int
    memory: float  # of the device, in bytes
    on_gpu: bool

    def updating(self):
        return update_bytes(self.sizes, self.choice, self.tokens, self.on_gpu)

    def sampling(self):
        return sampling_bytes(self.sizes, self.choice, self.slots, self.length, self.on_gpu)

    def fits(self):
        return self.slots > 0 and sum(self.updating().values()) <= self.memory * (1 - FREE)


def make_plan(sizes, config, memory, on_gpu=True):
    """The first choice with which a group's responses fit into `memory` bytes at once: a Plan.

    Where none has room for them, the one that has most.
    """
    budgets = config.stage_budgets()
    length = min(PROMPT + max(*budgets, config.full_budget), sizes.context)
    # A micro-batch has one response at least.
    tokens = max(config.micro_tokens, PROMPT + max(trained_budgets(config)))
    plans = []
    for choice in filter(lambda choice: choice.is_allowed(config), CHOICES):
        slots = min(config.slots, most_slots(sizes, choice, length, memory, on_gpu))
        plans.append(Plan(sizes, choice, tokens, length, slots, memory, on_gpu))
    fitting = [plan for plan in plans if plan.fits()]
    if not fitting:  # the nearest
        return min(plans, key=lambda plan: sum(plan.updating().values()))
    # One response at a time would fit, too, and take for ever.
    quick = [plan for plan in fitting if plan.slots >= config.group]
    return quick[0] if quick else max(fitting, key=lambda plan: plan.slots)


def trained_budgets(config):
    """The budgets of the stages that a recipe trains in."""
    rl = [config.full_budget] if config.recipe in ("direct", "tfpi+rl") else []
    return rl if config.recipe == "direct" else [*config.stage_budgets(), *rl]


# --------------------------------------------------------------------------------------------------
# Words


def step_hours(plan, requests, budget, trained=True):
    """Hours for so many responses of a budget, half of it used: sampled, and trained on."""
    card = min(CARDS, key=lambda size: abs(size - plan.memory / GB))
    bandwidth, arithmetic = CARDS[card]
    tokens = requests * budget / 2
    size = weight_bytes(plan.choice)
    slots = max(1, min(plan.slots, requests))
    keys = slots * (PROMPT + budget / 4) * plan.sizes.keys * size
    seconds = tokens / slots * (plan.sizes.parameters * 2 + keys) / bandwidth
    if trained:
        passes = 8 if plan.choice.recompute else 6
        flops = passes * plan.sizes.parameters * (tokens + requests * PROMPT)
        seconds += flops / (EFFICIENCY * arithmetic)
    return seconds / 3600


def advice(plan):
    """What would make the plan fit."""
    if not (plan.choice.recompute and plan.choice.offload):
        return "give --recompute yes --offload yes, or leave them out."
    if not plan.slots:
        return "not even one response does; lower --full-budget, or use a smaller model."
    return "lower --budgets or --micro-tokens, or use a smaller model."


def settle_memory(config, source):
    """Puts what the plan chooses in the place of `auto` in --recompute and --offload.

    Raises ValueError for what a GPU has no memory for. A CPU has one memory for all, so there is
    nothing to choose.
    """
    device = torch.device(config.device or default_device())
    if device.type != "cuda":
        choice = Choice("", config.recompute == "yes", config.offload == "yes")
    else:
        plan = make_plan(measure_sizes(read_config(source)), config, find_memory(device))
        if not plan.fits():
            raise ValueError(
                f"the run does not fit into {plan.memory / GB:.0f} GB: {advice(plan)} --plan says "
                "what it needs."
            )
        choice = plan.choice
    config.recompute = "yes" if choice.recompute else "no"
    config.offload = "yes" if choice.offload else "no"


def write_parts(parts):
    total = sum(parts.values())
    unit, name_of_unit = (GB, "GB") if total >= GB else (1e6, "MB")
    named = ", ".join(f"{name} {value / unit:.1f}" for name, value in parts.items())
    return f"{total / unit:.1f} {name_of_unit} ({named})"


def write_count(parameters):
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.2f}M"


def describe_plan(plan, config):
    """The plan as lines."""
    lines = [
        f"{config.model}: {write_count(plan.sizes.parameters)} parameters, {plan.sizes.layers} "
        f"layers; a device of {plan.memory / GB:.0f} GB",
        f"  choice: {plan.choice.name}",
        f"  sampling: {write_parts(plan.sampling())}, {plan.slots} responses at once of up to "
        f"{plan.length} tokens",
        f"  updating: {write_parts(plan.updating())}, {plan.tokens} tokens at once",
    ]
    if host := host_bytes(plan.sizes, plan.choice):
        lines.append(f"  host: {write_parts(host)}")
    if not plan.fits():
        lines.append(f"  it does not fit: {advice(plan)}")
        return lines
    if not plan.on_gpu:
        return lines
    requests = config.prompts * config.group
    for budget in trained_budgets(config):
        hours = step_hours(plan, requests, budget)
        lines.append(
            f"  a step of budget {budget}: up to {requests * budget / 1e6:.1f}M tokens, "
            f"at best {hours:.2f} h; a stage of {config.steps or config.stage_steps} steps "
            f"{hours * (config.steps or config.stage_steps):.0f} h"
        )
    measured = config.eval_problems * config.eval_samples
    hours = step_hours(plan, measured, config.full_budget, trained=False)
    lines.append(f"  an evaluation with thinking: {measured} responses, at best {hours:.1f} h")
    return lines


def find_memory(device):
    """Bytes of the device's memory; of the machine's, where the device is its processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_config(source):
    """The transformers config of a folder or hub id; nothing else of it is read."""
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # a broken file can make the library raise anything
        reason = " ".join(str(error).split())[:300].removesuffix(".")
        raise ValueError(
            f"cannot read the config of {source!r}: {reason}. Give --model a preset, a hub id, or "
            "a folder with config.json."
        ) from None


def show_plan(given, gigabytes):
    """Prints the plan of a run with the options given; of a card of so many GB, if they are."""
    config, source = make_config(given)
    device = torch.device(config.device or default_device())
    memory = find_memory(device)
    if gigabytes is not None:
        check_number("memory", gigabytes, 1, 10_000)
        memory = gigabytes * GB
    sizes = measure_sizes(read_config(source))
    plan = make_plan(sizes, config, memory, on_gpu=gigabytes is not None or device.type == "cuda")
    say("\n".join(describe_plan(plan, config)))
