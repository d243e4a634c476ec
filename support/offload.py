"""The optimizer in the host's memory: fp32 weights (masters) and Adam's moments lie there.

The device holds a working copy of the weights, in bf16 or fp16 on a GPU, and in an update the sums
of gradients, in fp32: 2 and 4 bytes a parameter instead of 16. Each micro-batch's gradient goes to
its sum as soon as backward has made it, so nothing is ever added up in 16 bits; where the sums have
no room, they lie on the host, too. Sampler and trainer compute with the same working copy, without
autocast.

fp16 has three bits more than bf16, so that more of a small step shows in the working copy, but a
gradient of 1e-8 is 0 in it. So the loss is scaled up before backward, and the sums down again. A
gradient that overflows is not finite, and its update is left out as any such is; then the scale is
lowered, in large steps, since a few updates in a row without success stop a run. It never grows:
after one step too many there is still room for gradients of 1e-9.

Left out: copies that overlap with backward, moments on a disk, several devices.
"""

from functools import partial

import torch

SCALE = 2.0**20  # of the loss in fp16, at first: for a million tokens, each of weight 1e-6
LOWER = 2.0**-4


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
        gradient = weight.grad if self.sums_device == weight.device else to_host(weight.grad)
        weight.grad = None
        if self.sums[index] is None:
            self.sums[index] = torch.zeros_like(gradient, dtype=torch.float32)
        self.sums[index].add_(gradient, alpha=1 / self.loss_scale)

    def fill_sums(self):
        """Zeros for the sums that are not there yet."""
        for index, weight in enumerate(self.weights):
            if self.sums[index] is None:
                device = self.sums_device
                self.sums[index] = torch.zeros_like(weight, dtype=torch.float32, device=device)

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


def gradients(optimizer, all_of_them=False):
    """The gradients of an optimizer's parameters in fp32, wherever they are added up: a list.

    all_of_them: zeros for those that are not there, since another rank may have them.
    """
    if isinstance(optimizer, HostAdamW):
        if all_of_them:
            optimizer.fill_sums()
        return [total for total in optimizer.sums if total is not None]
    parameters = optimizer.param_groups[0]["params"]
    for parameter in parameters:
        if all_of_them and parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def loss_scale(optimizer):
    """What the loss is to be multiplied with before backward."""
    return optimizer.loss_scale if isinstance(optimizer, HostAdamW) else 1.0


def lower_scale(optimizer):
    """After an update that was not finite."""
    if loss_scale(optimizer) > 1:
        optimizer.loss_scale *= LOWER
