"""The sizes of a model, and what its backward keeps, counted without weights or memory.

Two models of the real widths, of one layer and of two, run once as fake tensors, which have shapes
and nothing in them; their difference is a layer. So any decoder is counted as it is, and no formula
is guessed. Left out: what an attention kernel needs while it runs.
"""

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from support.memory import key_numbers, prompt_numbers


@dataclass
class Sizes:
    """What is counted of a model."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    keys: int  # numbers of a token's keys and values, in all layers
    prompt: int  # numbers of a prompt's token, as it runs
    context: float  # tokens that the model has positions for
    # {(bytes a weight, autocast): (bytes a token that a layer keeps, that all else does)}
    kept: dict


measured = {}  # config as JSON -> Sizes, since counting takes half a second


def measure_sizes(config):
    """Sizes of a model from its transformers config, without its weights."""
    key = config.to_json_string(use_diff=False)
    if key not in measured:
        measured[key] = count_sizes(config)
    return measured[key]


class Kept(dict):
    """What is kept, by (bytes a weight, autocast): counted when it is first asked for."""

    def __init__(self, config):
        self.config = config

    def __missing__(self, way):
        one, _ = count(self.config, 1, *way)
        two, _ = count(self.config, 2, *way)
        self[way] = (two - one, one - (two - one))
        return self[way]


def count_sizes(config):
    _, weights = count_kept(config, 1, 4, False, 1)
    _, more = count_kept(config, 2, 4, False, 1)
    layer = more - weights
    layers = config.num_hidden_layers
    return Sizes(
        parameters=weights + (layers - 1) * layer,
        layers=layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        context=getattr(config, "max_position_embeddings", None) or math.inf,
        keys=key_numbers(config),
        prompt=prompt_numbers(config),
        kept=Kept(config),
    )


def count(config, layers, size, autocast):
    """Bytes a token that are kept for backward by a model of so many layers; its parameters."""
    # The difference of two lengths, since some is kept whatever the length: weights that autocast
    # made bf16.
    short, parameters = count_kept(config, layers, size, autocast, 256)
    long, _ = count_kept(config, layers, size, autocast, 512)
    return (long - short) / 256, parameters


def count_kept(config, layers, size, autocast, tokens):
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
