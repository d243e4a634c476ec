"""The parameters of a model, and what its backward keeps, counted without weights or memory.

Two models of the real widths, of one layer and of two, run once as fake tensors, which have shapes
and nothing in them; their difference is a layer. So any decoder is counted as it is, and no formula
is guessed. Left out: what an attention kernel needs while it runs.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Callable

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode


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
