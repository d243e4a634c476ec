"""Layers that run twice, once more in backward: an update keeps one input a layer, no more.

Left out: a part of the layers, activations that wait on the host.
"""

from contextlib import contextmanager
from functools import partial

from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(model, choice="yes"):
    """Within it, each decoder layer keeps its input alone, and runs again in backward.

    The gradient is the same, bit for bit, for a third more arithmetic. choice: what --recompute
    says. Pitfall: transformers' own switch is silently off under model.eval(), which the update
    needs.
    """
    layers = recomputed_layers(model, choice)
    for layer in layers:
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False
        )
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is there again


def recomputed_layers(model, choice):
    """The layers that are to run twice: all, or none. ValueError if they cannot be found."""
    layers = getattr(model.base_model, "layers", None)
    if choice == "yes" and layers is None:
        raise ValueError(
            f"--recompute yes: {type(model).__name__} keeps its layers where they are not looked "
            "for (base_model.layers). Give --recompute no."
        )
    return list(layers) if choice == "yes" else []
