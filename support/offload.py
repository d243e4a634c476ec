"""Training with little memory: the optimizer on the host, and layers that run twice.

    make_optimizer    AdamW, on the device or on the host
    loss_scale        what the loss is to be multiplied with
    take_step         what follows backward, in grpo.update
    recompute_layers  has each layer keep its input alone, and run again in backward

On the host lie fp32 weights (masters) and Adam's moments. The device holds a working copy of the
weights, in bf16 or fp16 on a GPU, and in an update the sums of gradients, in fp32: 2 and 4 bytes a
parameter instead of 16. Each micro-batch's gradient goes to its sum as soon as backward has made
it, so nothing is ever added up in 16 bits; where the sums have no room, they lie on the host, too.
Sampler and trainer compute with the same working copy, without autocast.

fp16 has three bits more than bf16, so that more of a small step shows in the working copy, but a
gradient of 1e-8 is 0 in it. So the loss is scaled up before backward, and the sums down again. A
gradient that overflows is not finite, and its update is left out as any such is; then the scale is
lowered, in large steps, since a few updates in a row without success stop a run. It never grows:
after one step too many there is still room for gradients of 1e-9.

Left out: copies that overlap with backward, moments on a disk, several devices; recomputing a part
of the layers, activations that wait on the host.
"""

import math
from functools import cache, partial

import torch
from torch.utils.checkpoint import checkpoint

from support import ranks
from support.memory import memory_advice

SCALE = 2.0**20  # of the loss in fp16, at first: for a million tokens, each of weight 1e-6
LOWER = 2.0**-4


@memory_advice("making the optimizer", "Use a smaller model.")
def make_optimizer(model, device, config):
    """AdamW, on the device or on the host; config: a run's options (lr, offload, dtype).

    eps and betas are PyTorch's; no weight decay: RL moves little, and nothing should move for
    another reason.
    """
    options = {"lr": config.lr, "weight_decay": 0.0}
    if config.offload == "no":
        return torch.optim.AdamW(model.parameters(), **options)
    dtype = working_dtype(device, config.dtype)
    sums = "cpu" if config.offload == "all" else device
    return HostAdamW(model, device, dtype, sums, **options)


def loss_scale(optimizer):
    """What the loss is to be multiplied with before backward."""
    return getattr(optimizer, "loss_scale", 1.0)


def take_step(optimizer, loss, max_norm):
    """Adds up the ranks' gradients, clips them to a common norm of max_norm at most, and steps.

    Returns the norm before, and whether the step was taken: where that or the loss is not finite it
    is not, and the scale of the loss is lowered. No gradient is left: the sampler has use for their
    memory.
    """
    found = gradients(optimizer)
    ranks.add_up(found)
    norm = torch.nn.utils.get_total_norm(found)
    for gradient in found:
        gradient *= (max_norm / (norm + 1e-6)).clamp(max=1.0)
    finite = math.isfinite(norm.item() + loss)
    if finite:
        optimizer.step()
    elif loss_scale(optimizer) > 1:
        optimizer.loss_scale *= LOWER
    optimizer.zero_grad()
    return norm.item(), finite


def gradients(optimizer):
    """The gradients of any optimizer's parameters in fp32, wherever they are added up: a list.

    Of several ranks each has all, be it zeros, since another one may have them.
    """
    if isinstance(optimizer, HostAdamW):
        return optimizer.gradients()
    parameters = [p for p in optimizer.param_groups[0]["params"] if p.requires_grad]
    for parameter in parameters if ranks.size() > 1 else []:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


# --------------------------------------------------------------------------------------------------
# The optimizer on the host


def working_dtype(device, dtype="auto"):
    """The type of the working copy; dtype is what --dtype says. A CPU gains nothing from bf16."""
    if dtype != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if has_bf16() else torch.float16


def has_bf16():
    """Whether the GPU computes in bf16; a T4 pretends to, and is slow."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


class HostAdamW(torch.optim.AdamW):
    """AdamW over fp32 masters on the host, of which the model's own weights are the working copy.

    model: in fp32, on the host. Its weights become masters, and copies of them go to the device, in
    `dtype`. sums: where gradients are added up. To others it is an optimizer like any: its
    parameters are the masters, in the order of the model's.
    """

    def __init__(self, model, device, dtype, sums=None, **options):
        self.weights = list(model.parameters())  # tied ones once
        self.sums = [None] * len(self.weights)  # fp32, while there is a gradient
        self.sums_device = torch.device(sums or device)
        self.loss_scale = SCALE if dtype == torch.float16 else 1.0
        masters = [self.take(i, device, dtype) for i in range(len(self.weights))]
        # Buffers in their own type. Pitfall: rotary frequencies in bf16 are wrong positions.
        model.to(device)
        super().__init__(masters, fused=True, **options)

    def take(self, index, device, dtype):
        """The master of a weight, which becomes a working copy, and hands over its gradients."""
        weight = self.weights[index]
        on_gpu = torch.device(device).type == "cuda"
        master = torch.empty_like(weight, requires_grad=False, pin_memory=on_gpu)
        master.copy_(weight.detach())
        weight.data = weight.data.to(device, dtype)
        weight.register_post_accumulate_grad_hook(partial(self.hand_over, index))
        return master

    def hand_over(self, index, weight):
        """Adds a weight's gradient to its sum, in fp32 and without the scale, and frees it."""
        here = self.sums_device.type == weight.device.type  # "cuda" is not "cuda:0"
        gradient = weight.grad if here else to_host(weight.grad)
        weight.grad = None
        self.sum_of(index).add_(gradient, alpha=1 / self.loss_scale)

    def sum_of(self, index):
        """Where a weight's gradients are added up: zeros at first."""
        if self.sums[index] is None:
            like = self.weights[index]
            zeros = torch.zeros_like(like, dtype=torch.float32, device=self.sums_device)
            self.sums[index] = zeros
        return self.sums[index]

    def gradients(self):
        if ranks.size() > 1:
            return [self.sum_of(index) for index in range(len(self.sums))]
        return [total for total in self.sums if total is not None]

    @torch.no_grad()
    def step(self):
        masters = self.param_groups[0]["params"]
        for weight, master, total in zip(self.weights, masters, self.sums):
            if total is not None:
                master.grad = to_host(total)  # one at a time: all would be 4 bytes a parameter
                super().step()
                master.grad = None
                weight.copy_(master, non_blocking=True)

    def zero_grad(self, set_to_none=True):
        self.sums = [None] * len(self.weights)


def to_host(tensor):
    """By way of pinned memory, which is reused, since a GPU copies there several times as fast."""
    if not tensor.is_cuda:
        return tensor.cpu()
    there = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return there.copy_(tensor)


# --------------------------------------------------------------------------------------------------
# Layers that run twice


def recompute_layers(model):
    """Has each decoder layer keep its input alone in an update, and run again in backward.

    The gradient is the same, bit for bit, for a third more arithmetic. Raises ValueError where the
    layers cannot be found. Pitfall: transformers' own switch is silently off under model.eval(),
    which the update needs.
    """
    layers = getattr(model.base_model, "layers", None)
    if layers is None:
        raise ValueError(
            f"--recompute yes: {type(model).__name__} keeps its layers where they are not looked "
            "for (base_model.layers). Give --recompute no."
        )
    for layer in layers:
        layer.__class__ = recomputing(type(layer))  # no new forward of its own: that is a circle


@cache
def recomputing(kind):
    """The class of layers that run as those of class `kind` do, and again in backward."""

    def forward(self, *args, **kwargs):
        plain = partial(kind.forward, self)
        if not torch.is_grad_enabled():  # the sampler
            return plain(*args, **kwargs)
        return checkpoint(plain, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward})
