"""Memory: what fits into it; running out of it is one sentence, with the way out."""

import os
from contextlib import contextmanager

import torch

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
