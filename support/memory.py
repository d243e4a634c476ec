"""Memory: what a model takes, what fits, and one sentence where it runs out.

What backward keeps is counted: two models of the real widths, of one layer and of two, run once as
fake tensors, which have shapes and nothing in them; their difference is a layer. So any decoder is
counted as it is, and no formula is guessed. Left out: what an attention kernel needs while it runs.
"""

import copy
import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Callable

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from support import ranks

FREE = 0.1  # of what is free, left to the allocator
PREFILL = 8192  # tokens of prompts that run at once; a longer one runs alone


def machine_memory():
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keys_that_fit(model, slots, length):
    """Of how many tokens there is room for keys and values, beside all else that sampling takes.

    slots: responses at once; length: tokens of the longest. Off a GPU a rank's share of half of the
    machine's memory, whatever else is in it, so that a run is the same when it is done again.
    """
    size = model.dtype.itemsize
    if model.device.type != "cuda":
        return machine_memory() / 2 / ranks.size() / (key_numbers(model.config) * size)
    free, _ = torch.cuda.mem_get_info(model.device)
    # What PyTorch has and does not use.
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return keys_within(free * (1 - FREE), model.config, size, slots, length)


def keys_within(room, config, size, slots, length):
    """Of how many tokens keys fit into `room` bytes; size: bytes of a number."""
    beside = sampler_bytes(config, size, slots, 0, length)
    return (room - sum(beside.values())) / (key_numbers(config) * size)


def sampler_bytes(config, size, slots, keys, length):
    """What sampling takes beside weights, by part: keys of so many tokens, prompts, and logits."""
    prompts = max(PREFILL, length)
    # A prompt's keys are made and then copied; and there is what one layer makes of it.
    of_prompt = key_numbers(config) + 3 * config.intermediate_size + 8 * config.hidden_size
    return {
        "keys": keys * key_numbers(config) * size,
        "prompts": prompts * of_prompt * size,
        "logits": slots * 3 * config.vocab_size * 4,  # three rows in fp32
    }


def key_numbers(config):
    """Numbers of a token's keys and values, in all layers."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * width


@contextmanager
def memory_advice(doing, remedy):
    """Turns running out of memory, on a GPU or not, into one MemoryError that says what to do.

    Stands around a block (`with memory_advice(...)`) or over a function (`@memory_advice(...)`).
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = ("out of memory", "not enough memory", "can't allocate memory")
        if isinstance(error, RuntimeError) and not any(w in str(error).lower() for w in words):
            raise
        raise MemoryError(f"out of memory while {doing}. {remedy}") from None


# --------------------------------------------------------------------------------------------------
# Counted without weights or memory


@dataclass
class Sizes:
    """What is counted of a model."""

    config: object  # transformers'
    parameters: int
    # (bytes a weight, autocast) -> bytes a token that a layer keeps, and that all else does;
    # counted when they are first asked for
    kept: Callable


measured = {}  # config as JSON -> Sizes, since counting takes half a second


def measure_sizes(config):
    """Sizes of a model from its transformers config, without its weights."""
    key = config.to_json_string(use_diff=False)
    if key not in measured:
        one, two = (run_layers(config, layers, 1)[1] for layers in (1, 2))
        parameters = one + (config.num_hidden_layers - 1) * (two - one)
        kept = cache(partial(count_kept, config))
        measured[key] = Sizes(config, parameters, kept)
    return measured[key]


def count_kept(config, size, autocast):
    """Bytes a token that a layer keeps for backward, and that all else does."""

    def of_layers(layers):
        # The difference of two lengths, since some is kept whatever the length: weights that
        # autocast made bf16.
        short, long = (run_layers(config, layers, n, size, autocast)[0] for n in (256, 512))
        return (long - short) / 256

    one = of_layers(1)
    layer = of_layers(2) - one
    return layer, one - layer


def run_layers(config, layers, tokens, size=4, autocast=False):
    """Bytes that a model of so many layers keeps of so many tokens, and its parameters."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    dtype = torch.float32 if size == 4 else torch.bfloat16
    kept = {}  # the storages, each once

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    # The attention that training has. Under its own name transformers would give fake tensors a
    # mask, which real ones do without.
    attention = transformers.AttentionInterface()
    attention.register("counted", attention["sdpa"])
    with FakeTensorMode():
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="counted"
        ).eval()
        ids = torch.zeros(1, tokens, dtype=torch.long)
        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            model.base_model(input_ids=ids, use_cache=False)
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    total = sum(storage.nbytes() for storage in kept.values())
    return total, sum(parameter.numel() for parameter in model.parameters())
