"""Less memory in training: layers that run twice (support/recompute.py).

Gradients must be those of a plain update, bit for bit.
"""

import pytest
import torch
from shared import sequence, tiny_model

from grpo import accumulate_gradient
from logprobs import FirstKeys
from support.config import Config
from support.model import forward_hidden
from support.recompute import recomputed, recomputed_layers

# --------------------------------------------------------------------------------------------------
# Layers that run twice

# Three prompts with four responses each, of one to six tokens; two micro-batches or more.
ROLLOUTS = [
    sequence(prompt, [6 + i, 7, 2, 5, 9, 11][: 1 + (5 * i) % 6])
    for prompt in ([5, 6, 7, 8, 9, 10], [4, 0, 9], [21] * 9)
    for i in range(4)
]
for i, rollout in enumerate(ROLLOUTS):
    rollout.advantage = (-1.0) ** i * (1 + i % 3)
SHARED = Config(micro_tokens=30)
ONE_BY_ONE = Config(micro_tokens=20)  # which has no room for all prompts


def gradients(model, choice, config, bf16=False):
    """Of one minibatch, all parameters'; and whether prompts were shared."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), recomputed(model, choice):
        metrics = accumulate_gradient(model, ROLLOUTS, config, budget=20)
    return [p.grad for p in model.parameters()], metrics["shared_prompts"]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("config, shares", [(SHARED, 1), (ONE_BY_ONE, 0)])
@pytest.mark.parametrize("family", ["Qwen3", "Llama", "Qwen2"])
def test_layers_that_run_twice_give_the_same_gradient(family, config, shares, bf16):
    """Under eval(), and with a cache: a layer that runs again must not find its own keys there."""
    model = tiny_model(family)
    plain, shared = gradients(model, "no", config, bf16)
    twice, _ = gradients(model, "yes", config, bf16)
    assert shared == shares and all(map(torch.equal, plain, twice))


def test_a_layer_that_runs_again_finds_the_cache_as_it_was():
    """Even where attention would not look at the second copy."""
    keys = torch.randn(2, 1, 3, 4)
    cache = FirstKeys()
    for _ in range(2):
        assert torch.equal(cache.update(keys, keys, 0)[0], keys)
    assert cache.get_seq_length() == 3


def count_runs(model):
    """A list that grows by one each time the first layer's attention runs."""
    runs = []
    model.base_model.layers[0].self_attn.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_layers_run_twice_where_they_are_to():
    """Or all that equality would be of one and the same."""
    model = tiny_model()
    runs = count_runs(model)
    gradients(model, "no", SHARED)
    once = len(runs)
    gradients(model, "yes", SHARED)
    assert len(runs) == 3 * once


def kept_for_backward(model, ids, choice):
    """The shapes of what a forward keeps, weights left out, and each storage once."""
    seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
    alive = []

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in seen:
            seen.add(tensor.untyped_storage().data_ptr())
            alive.append(tensor)  # or another one would get its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with recomputed(model, choice):
            hidden = forward_hidden(model, ids)
    hidden.sum().backward()
    return [tuple(tensor.shape) for tensor in alive]


def test_one_input_a_layer_is_kept_for_backward():
    """The rest is made again: with four layers, four inputs, and what lies around the layers."""
    model = tiny_model(num_hidden_layers=4)
    ids = torch.arange(2 * 16).reshape(2, 16)
    plain = kept_for_backward(model, ids, "no")
    few = kept_for_backward(model, ids, "yes")
    around = kept_for_backward(tiny_model(num_hidden_layers=0), ids, "no")
    assert few.count((2, 16, 32)) == around.count((2, 16, 32)) + 4
    assert len(few) <= len(around) + 2 * 4 and len(plain) > 5 * len(few)


def test_the_layers_own_forward_comes_back():
    """After an error, too: the sampler must not pay for it."""
    model = tiny_model()
    with pytest.raises(KeyError), recomputed(model):
        assert all("forward" in vars(layer) for layer in model.model.layers)
        raise KeyError
    assert not any("forward" in vars(layer) for layer in model.model.layers)


def test_a_model_whose_layers_are_not_found_is_named():
    model = tiny_model("OPT", word_embed_proj_dim=32)
    with pytest.raises(ValueError, match="OPTForCausalLM keeps its layers.*--recompute no"):
        recomputed_layers(model, "yes")
    assert recomputed_layers(model, "no") == []
