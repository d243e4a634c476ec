"""What a run needs, in bytes and hours, before it is begun: `python tfpi.py --model M --plan`.

A folder with config.json alone is enough. What backward keeps is counted (memory.py), the rest is
arithmetic:

    always        weights
    sampling      keys and values of what is being written, logits, and prompts as they run
    updating      gradients, what is kept for backward, a chunk of logits, the head's gradient
    the optimizer two moments in fp32; on the host, with fp32 weights (offload.py)

From these follow the choices: the first with which it fits of (1) all on the device, (2) each layer
computed again in backward, (3) the optimizer in the host's memory as well, (4) and gradients added
up there. Hours are what bandwidth and arithmetic of a card allow, taking responses to be half of
their budget. Left out: the fragments that an allocator leaves (a tenth of the memory is kept free
for them), several devices, what a real run loses to launches, stragglers and grading.

Here `config` is a run's options; the model's own is `sizes.config`.
"""

import os
from dataclasses import dataclass

import torch

from support import ranks
from support.cli import flag
from support.config import find_settings
from support.memory import (
    FREE,
    Sizes,
    key_numbers,
    keys_within,
    machine_memory,
    measure_sizes,
    sampler_bytes,
)
from support.model import PROMPT, default_device, find_context
from support.offload import has_bf16

GB = 1e9
LASTING = ("weights", "gradients", "optimizer")  # parts that do not depend on what is written
CHUNK = 2**25  # logits at a time: logprobs.plan_chunks
# Memory in GB: bandwidth in bytes/s, arithmetic in FLOP/s, of a card that has it.
CARDS = {16: (0.32e12, 65e12), 24: (1.0e12, 165e12), 48: (0.86e12, 180e12), 80: (3.35e12, 990e12)}
EFFICIENCY = 0.4  # of the arithmetic, in an update


@dataclass
class Choice:
    """A way to train: what lies where."""

    name: str
    recompute: str  # yes or no
    offload: str  # no, yes or all, as --offload

    @property
    def size(self):
        """Bytes of a weight: fp32 where it is trained itself, else those of a working copy."""
        return 4 if self.offload == "no" else 2

    def is_allowed(self, config):
        """Whether the options say so, or leave it open."""
        if config.dtype == "fp16" and self.offload == "no":
            return False  # which needs fp32 weights beside it
        wanted = {"recompute": self.recompute, "offload": self.offload}
        return all(getattr(config, name) in (value, "auto") for name, value in wanted.items())


CHOICES = (
    Choice("all on the device", "no", "no"),
    Choice("each layer computed again in backward", "yes", "no"),
    Choice("each layer computed again, the optimizer in the host's memory", "yes", "yes"),
    Choice("each layer computed again, optimizer and gradients in the host's memory", "yes", "all"),
    Choice("the optimizer in the host's memory", "no", "yes"),
    Choice("optimizer and gradients in the host's memory", "no", "all"),
)


# --------------------------------------------------------------------------------------------------
# Arithmetic


@dataclass
class Plan:
    """What a run takes that trains in one way."""

    sizes: Sizes
    choice: Choice
    tokens: int  # of the largest micro-batch
    length: int  # of the longest prompt with its response
    slots: int  # responses that are written at once, if they are short
    memory: float  # of the device, in bytes
    on_gpu: bool

    def updating(self):
        """What an update of one micro-batch takes on the device, in bytes, by part."""
        n = self.sizes.parameters
        size = self.choice.size
        vocabulary = self.sizes.config.vocab_size
        hidden = self.sizes.config.hidden_size
        layers = self.sizes.config.num_hidden_layers
        autocast = self.on_gpu and size == 4
        layer, rest = self.sizes.kept(size, autocast)
        kept = layers * layer
        if self.choice.recompute == "yes":
            # The input of each layer, and all of the one that is computed again.
            kept = layers * hidden * size + layer
        parts = {"weights": n * size}
        if self.choice.offload == "no":
            parts |= {"gradients": n * 4, "optimizer": n * 8}
        else:  # the largest is the embeddings'
            parts["a gradient"] = vocabulary * hidden * size
        if self.choice.offload == "yes":
            parts["gradients"] = n * 4
        if autocast:
            parts["weights in bf16"] = n * 2  # which autocast keeps until the update is over
        parts["kept for backward"] = self.tokens * (kept + rest)
        chunk = min(self.tokens, max(16, CHUNK // vocabulary)) * vocabulary
        # Logits and their gradient; the last states, their gradient, and both in fp32.
        parts["logits"] = 8 * chunk + 12 * self.tokens * hidden
        if self.choice.offload != "no":  # the head's gradient, in fp32; else it is among the others
            parts["logits"] += 4 * vocabulary * hidden
        return parts

    def sampling(self):
        """What sampling takes on the device, in bytes, by part; gradients are freed before."""
        sizes = (self.choice.size, self.slots, self.keys(), self.length)
        return self.resting() | sampler_bytes(self.sizes.config, *sizes)

    def resting(self):
        """What is on the device while nothing runs."""
        n = self.sizes.parameters
        parts = {"weights": n * self.choice.size}
        if self.choice.offload == "no":
            parts["optimizer"] = n * 8
        if self.on_gpu and self.choice.size == 4:
            parts["weights in bf16"] = n * 2
        return parts

    def host(self):
        """fp32 weights, two moments, and perhaps the sums of gradients."""
        n = self.sizes.parameters
        parts = {"weights": n * 4, "moments": n * 8, "gradients": n * 4}
        kept = {"no": 0, "yes": 2, "all": 3}[self.choice.offload]
        return dict(list(parts.items())[:kept])

    def keys(self):
        """Tokens of all responses at once; no more than all slots need at full length."""
        room = self.memory * (1 - FREE) - sum(self.resting().values())
        sizes = (self.choice.size, self.slots, self.length)
        fitting = max(0, keys_within(room, self.sizes.config, *sizes))
        return min(self.slots * self.length, int(fitting))

    def longest_at_once(self):
        """How many responses of the largest budget are written at once."""
        return self.keys() // self.length

    def fits(self):
        parts = self.updating()
        if not self.on_gpu:  # what is kept of rows is a bound, and a machine can swap
            return sum(parts[name] for name in LASTING if name in parts) <= self.memory
        return sum(parts.values()) <= self.memory * (1 - FREE) and self.longest_at_once() > 0

    def advice(self):
        """What would make it fit."""
        if (self.choice.recompute, self.choice.offload) != ("yes", "all"):
            return "give --recompute yes --offload all, or leave them out."
        if not self.longest_at_once():
            return "not even one response does; lower --full-budget, or use a smaller model."
        return "lower --budgets or --micro-tokens, or use a smaller model."


def make_plan(sizes, config, memory, on_gpu=True):
    """The first choice with which a group fits into `memory` bytes, half written: a Plan.

    Where none has room for them, the one that has most.
    """
    length = min(
        PROMPT + max(*config.stage_budgets(), config.full_budget), find_context(sizes.config)
    )
    # A micro-batch has one response at least, and no more than there are.
    one = PROMPT + max(trained_budgets(config))
    tokens = min(max(config.micro_tokens, one), config.prompts * config.group * one)
    plans = [
        Plan(sizes, choice, tokens, length, config.slots, memory, on_gpu)
        for choice in CHOICES
        if choice.is_allowed(config)
    ]
    fitting = [plan for plan in plans if plan.fits()]
    if not fitting:  # the nearest
        return min(plans, key=lambda plan: sum(plan.updating().values()))
    # One response at a time would fit, too, and take for ever.
    quick = [plan for plan in fitting if plan.keys() >= config.group * plan.length / 2]
    return quick[0] if quick else max(fitting, key=Plan.keys)


def trained_budgets(config):
    """The budgets of the stages that a recipe trains in."""
    rl = [config.full_budget] if config.recipe in ("direct", "tfpi+rl") else []
    return rl if config.recipe == "direct" else [*config.stage_budgets(), *rl]


def find_memory(device):
    """Bytes of the device's memory; of the machine's, where the device is its processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return machine_memory()


def step_hours(plan, requests, budget, trained=True):
    """Hours for so many responses of a budget, half of it used: sampled, and trained on."""
    card = min(CARDS, key=lambda size: abs(size - plan.memory / GB))
    bandwidth, arithmetic = CARDS[card]
    parameters = plan.sizes.parameters
    tokens = requests * budget / 2
    length = PROMPT + budget / 4  # of a response that is being written, in the mean
    rows = max(1, min(plan.slots, requests, plan.keys() / length))
    keys = rows * length * key_numbers(plan.sizes.config) * plan.choice.size
    seconds = tokens / rows * (parameters * 2 + keys) / bandwidth
    if trained:
        passes = 8 if plan.choice.recompute == "yes" else 6
        flops = passes * parameters * (tokens + requests * PROMPT)
        seconds += flops / (EFFICIENCY * arithmetic)
    return seconds / 3600


def step_flops(parameters, config, budget):
    """FLOPs of a step whose responses all have the whole budget, counted as tfpi.count_flops does.

    2 a weight and token sampled, a prompt once a group; 6 a weight and token trained.
    """
    responses = config.prompts * config.group * budget
    prompts = config.prompts * PROMPT
    return parameters * (2 * (responses + prompts) + 6 * (responses + config.group * prompts))


# --------------------------------------------------------------------------------------------------
# What it settles


def settle_memory(config, model):
    """Puts what the plan of a model's config chooses in the place of `auto`; the plan.

    A CPU has one memory for all, so that there is nothing to choose. Raises ValueError for what
    there is no memory for.
    """
    device = torch.device(config.device or default_device())
    on_gpu = device.type == "cuda"
    if on_gpu and config.dtype == "auto" and not has_bf16():
        config.dtype = "fp16"
    if not on_gpu:
        config.recompute = config.recompute.replace("auto", "no")
        own = "no" if config.dtype == "auto" else "yes"
        config.offload = config.offload.replace("auto", own)
    plan = make_plan(measure_sizes(model), config, find_memory(device), on_gpu)
    if not plan.fits():
        raise ValueError(
            f"the run does not fit into {plan.memory / GB:.0f} GB: {plan.advice()} --plan says "
            "what it needs."
        )
    config.recompute = plan.choice.recompute
    config.offload = plan.choice.offload
    return plan


def fit_budgets(config, given, model):
    """Lowers budgets that nobody chose, in proportion, to the model's context; says so, or "".

    given: the options that the user gave, beside which a preset's are chosen, too; model: the
    model's config. Raises ValueError, naming the option, for a chosen budget beyond the context.
    """
    given = find_settings(config.model) | given
    context = find_context(model)
    room = context - min(PROMPT, context // 4)  # beside a prompt
    budgets = config.stage_budgets()
    for name, value in (("full_budget", config.full_budget), ("budgets", max(budgets))):
        if name in given and value >= context:
            raise ValueError(
                f"{flag(name)} {given[name]} is beyond the model's context of {context} tokens. "
                f"Give at most {room}, or leave it out."
            )
    largest = max(config.full_budget, *budgets)
    if largest <= room or {"budgets", "full_budget"} <= given.keys():
        return ""
    if "full_budget" not in given:
        config.full_budget = min(config.full_budget, room)
    if "budgets" not in given:
        lower = [max(1, budget * room // largest) for budget in budgets]
        config.budgets = ",".join(map(str, lower))
    return (
        f"the model's context has room for {room} tokens beside a prompt, so the stages have "
        f"budgets of {config.budgets}, and evaluations {config.full_budget}."
    )


# --------------------------------------------------------------------------------------------------
# Ranks: how many fit


def settle_ranks(options, needed):
    """Puts how many ranks there are, and threads of each, in the place of 0.

    options: with device, ranks and threads; needed: bytes that one rank takes. On a CPU one rank of
    one thread a core, as long as half of the machine's memory has room for all; else fewer, with
    the cores that are left over as threads. On CUDA one rank a card.
    """
    device = torch.device(options.device or default_device())
    threads = cores = ranks.cores()
    if device.type == "cpu":
        most = min(cores, ranks.MOST)
        best = max(1, min(most, int(machine_memory() / 2 / needed)))
        threads = 1 if options.ranks or best == most else cores // best
    else:
        best = torch.cuda.device_count() if device == torch.device("cuda") else 1
    options.ranks = int(os.environ.get("WORLD_SIZE", 0)) or options.ranks or best  # torchrun's
    options.threads = options.threads or threads


def share_work(model, options, command):
    """Starts and joins the other ranks, which run the same command; model: loaded, to be copied.

    options: with device, ranks and threads, of which 0 is settled. In another rank only joins.
    """
    if not ranks.follows():
        settle_ranks(options, 4 * sum(p.nbytes for p in model.parameters()))
        ranks.start(command, options.ranks, options.threads)
    ranks.join()
    model.to(ranks.own_device(options.device or default_device()))
    ranks.check_alike(model)
