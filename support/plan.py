"""What a run needs, in bytes and hours, before it is begun: `python tfpi.py --model M --plan`.

A folder with config.json alone is enough. What backward keeps is counted (sizes.py), the rest is
arithmetic:

    always        weights
    sampling      keys and values of what is being written, logits, and prompts as they run
    updating      gradients, what is kept for backward, a chunk of logits, the head's gradient
    the optimizer two moments in fp32; on the host, with fp32 weights (offload.py)

From these follow the choices: the first with which it fits of (1) all on the device, (2) each layer
computed again in backward, (3) the optimizer in the host's memory as well, (4) and gradients added
up there. forecast.py puts it into words. Left out: the fragments that an allocator leaves (a tenth
of the memory is kept free for them), several devices.
"""

import os
from dataclasses import dataclass

import torch
from transformers import AutoConfig

from support import ranks
from support.cli import flag
from support.config import find_settings
from support.memory import FREE, PREFILL, logit_bytes, machine_memory
from support.model import PROMPT, default_device, find_context, room_for_budget
from support.offload import has_bf16
from support.sizes import Sizes, measure_sizes

GB = 1e9
LASTING = ("weights", "gradients", "optimizer")  # parts that do not depend on what is written
CHUNK = 2**25  # logits at a time: logprobs.plan_chunks


@dataclass
class Choice:
    """A way to train: what lies where."""

    name: str
    recompute: str  # yes or no
    offload: str  # no, yes or all, as --offload

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


def weight_bytes(choice):
    """Bytes of a weight: fp32 where it is trained itself, else those of a working copy."""
    return 4 if choice.offload == "no" else 2


def update_bytes(sizes, choice, tokens, on_gpu):
    """What an update of one micro-batch takes on the device, by part."""
    n = sizes.parameters
    size = weight_bytes(choice)
    autocast = on_gpu and size == 4
    layer, rest = sizes.kept[size, autocast]
    kept = sizes.layers * layer
    if (
        choice.recompute == "yes"
    ):  # the input of each layer, and all of the one that is computed again
        kept = sizes.layers * sizes.hidden * size + layer
    parts = {"weights": n * size}
    if choice.offload == "no":
        parts |= {"gradients": n * 4, "optimizer": n * 8}
    else:  # the largest is the embeddings'
        parts["a gradient"] = sizes.vocabulary * sizes.hidden * size
    if choice.offload == "yes":
        parts["gradients"] = n * 4
    if autocast:
        parts["weights in bf16"] = n * 2  # which autocast keeps until the update is over
    parts["kept for backward"] = tokens * (kept + rest)
    chunk = min(tokens, max(16, CHUNK // sizes.vocabulary)) * sizes.vocabulary
    # Logits and their gradient; the last states, their gradient, and both in fp32.
    parts["logits"] = 8 * chunk + 12 * tokens * sizes.hidden
    if choice.offload != "no":  # the head's gradient, in fp32; else it is among the gradients
        parts["logits"] += 4 * sizes.vocabulary * sizes.hidden
    return parts


def sampling_bytes(sizes, choice, slots, keys, length, on_gpu):
    """What sampling takes on the device, by part; gradients are freed before.

    slots: responses at once, keys: tokens of all of them, length: of the longest.
    """
    n = sizes.parameters
    size = weight_bytes(choice)
    parts = {"weights": n * size}
    if choice.offload == "no":
        parts["optimizer"] = n * 8
    if on_gpu and size == 4:
        parts["weights in bf16"] = n * 2
    parts["keys"] = keys * sizes.keys * size
    parts["prompts"] = max(PREFILL, length) * sizes.prompt * size
    parts["logits"] = slots * logit_bytes(sizes.vocabulary)
    return parts


def host_bytes(sizes, choice):
    """fp32 weights, two moments, and perhaps the sums of gradients."""
    n = sizes.parameters
    parts = {"weights": n * 4, "moments": n * 8, "gradients": n * 4}
    kept = {"no": 0, "yes": 2, "all": 3}[choice.offload]
    return dict(list(parts.items())[:kept])


def most_keys(sizes, choice, slots, length, memory, on_gpu):
    """Of how many tokens there is room for keys; no more than all slots need at full length."""
    empty = sum(sampling_bytes(sizes, choice, slots, 0, length, on_gpu).values())
    room = max(0, memory * (1 - FREE) - empty)
    return min(slots * length, int(room / (sizes.keys * weight_bytes(choice))))


@dataclass
class Plan:
    sizes: Sizes
    choice: Choice
    tokens: int  # of the largest micro-batch
    length: int  # of the longest prompt with its response
    slots: int  # responses that are written at once, if they are short
    keys: int  # tokens of all responses that are written at once
    memory: float  # of the device, in bytes
    on_gpu: bool

    def updating(self):
        return update_bytes(self.sizes, self.choice, self.tokens, self.on_gpu)

    def sampling(self):
        sizes = (self.slots, self.keys, self.length)
        return sampling_bytes(self.sizes, self.choice, *sizes, self.on_gpu)

    def longest_at_once(self):
        """How many responses of the largest budget are written at once."""
        return self.keys // self.length

    def fits(self):
        parts = self.updating()
        if not self.on_gpu:  # what is kept of rows is a bound, and a machine can swap
            return sum(parts[name] for name in LASTING if name in parts) <= self.memory
        return sum(parts.values()) <= self.memory * (1 - FREE) and self.longest_at_once() > 0


def make_plan(sizes, config, memory, on_gpu=True):
    """The first choice with which a group fits into `memory` bytes, half written: a Plan.

    Where none has room for them, the one that has most.
    """
    budgets = config.stage_budgets()
    length = min(PROMPT + max(*budgets, config.full_budget), sizes.context)
    # A micro-batch has one response at least, and no more than there are.
    one = PROMPT + max(trained_budgets(config))
    tokens = min(max(config.micro_tokens, one), config.prompts * config.group * one)
    plans = []
    for choice in filter(lambda choice: choice.is_allowed(config), CHOICES):
        keys = most_keys(sizes, choice, config.slots, length, memory, on_gpu)
        plans.append(Plan(sizes, choice, tokens, length, config.slots, keys, memory, on_gpu))
    fitting = [plan for plan in plans if plan.fits()]
    if not fitting:  # the nearest
        return min(plans, key=lambda plan: sum(plan.updating().values()))
    # One response at a time would fit, too, and take for ever.
    quick = [plan for plan in fitting if plan.keys >= config.group * plan.length / 2]
    return quick[0] if quick else max(fitting, key=lambda plan: plan.keys)


def trained_budgets(config):
    """The budgets of the stages that a recipe trains in."""
    rl = [config.full_budget] if config.recipe in ("direct", "tfpi+rl") else []
    return rl if config.recipe == "direct" else [*config.stage_budgets(), *rl]


def find_memory(device):
    """Bytes of the device's memory; of the machine's, where the device is its processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return machine_memory()


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


# --------------------------------------------------------------------------------------------------
# What a run does with it


def advice(plan):
    """What would make the plan fit."""
    if (plan.choice.recompute, plan.choice.offload) != ("yes", "all"):
        return "give --recompute yes --offload all, or leave them out."
    if not plan.longest_at_once():
        return "not even one response does; lower --full-budget, or use a smaller model."
    return "lower --budgets or --micro-tokens, or use a smaller model."


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
            f"the run does not fit into {plan.memory / GB:.0f} GB: {advice(plan)} --plan says "
            "what it needs."
        )
    config.recompute = plan.choice.recompute
    config.offload = plan.choice.offload
    return plan


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


def fit_budgets(config, given, model):
    """Lowers budgets that nobody chose, in proportion, to the model's context; says so, or "".

    given: the options that the user gave, beside which a preset's are chosen, too; model: the
    model's config. Raises ValueError, naming the option, for a chosen budget beyond the context.
    """
    given = find_settings(config.model) | given
    room = room_for_budget(model)
    budgets = config.stage_budgets()
    for name, value in (("full_budget", config.full_budget), ("budgets", max(budgets))):
        if name in given and value >= find_context(model):
            raise ValueError(
                f"{flag(name)} {given[name]} is beyond the model's context of "
                f"{find_context(model)} tokens. Give at most {room}, or leave it out."
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
