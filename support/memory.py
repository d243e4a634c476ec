"""Memory: what fits into it; running out of it is one sentence, with the way out."""

import math
from contextlib import contextmanager

import torch

FREE = 0.1  # of what is free, left to the allocator


def keys_that_fit(model, slots, prefilled):
    """Of how many tokens there is room for keys and values, beside all else that sampling takes.

    slots: responses at once; prefilled: tokens of prompts at once. No bound off a GPU: on a CPU the
    keys take memory only once they are written.
    """
    if model.device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(model.device)
    # What PyTorch has and does not use.
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    size = model.dtype.itemsize
    beside = logit_bytes(model.config, slots) + prefill_bytes(model.config, prefilled, size)
    return (free * (1 - FREE) - beside) / (key_numbers(model.config) * size)


def logit_bytes(config, slots):
    """Bytes of three rows of logits in fp32 for each response."""
    return 12 * config.vocab_size * slots


def prefill_bytes(config, tokens, size):
    """Bytes of running prompts: their keys, which are then copied, and one layer's activations."""
    width = 3 * config.intermediate_size + 8 * config.hidden_size
    return tokens * size * (key_numbers(config) + width)


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
