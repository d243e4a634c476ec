"""The optimizer in the host's memory: fp32 weights, gradient sums and Adam's moments lie there.

The device holds a working copy of the weights, on a GPU in bf16, and the gradient of one parameter
at a time: 2 bytes a parameter instead of 16. Each micro-batch's gradient goes to its fp32 sum as
soon as backward has made it, so nothing is ever added up in bf16. Sampler and trainer compute with
the same working copy, without autocast. Left out: copies that overlap with backward, moments on a
disk, several devices.
"""

from functools import partial

import torch


def working_dtype(device):
    """The type of the working copy: a CPU gains nothing from bf16."""
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


class HostAdamW(torch.optim.AdamW):
    """AdamW over fp32 masters on the host, of which the model's own weights are the working copy.

    model: in fp32, on the host. Its weights become masters, and copies of them go to the device, in
    `dtype`. To others it is an optimizer like any: its parameters are the masters, in the order of
    the model's, and have gradients after backward.
    """

    def __init__(self, model, device, dtype, **options):
        self.weights = list(model.parameters())  # tied ones once
        masters = [self.take(weight, device, dtype) for weight in self.weights]
        # Buffers in their own type. Pitfall: rotary frequencies in bf16 are wrong positions.
        model.to(device)
        super().__init__(masters, fused=True, **options)

    def take(self, weight, device, dtype):
        """The master of a weight, which becomes a working copy, and hands over its gradients."""
        on_gpu = torch.device(device).type == "cuda"
        master = torch.empty_like(weight, requires_grad=False, pin_memory=on_gpu)
        master.copy_(weight.detach())
        weight.data = weight.data.to(device, dtype)
        weight.register_post_accumulate_grad_hook(partial(hand_over, master))
        return master

    @torch.no_grad()
    def step(self):
        super().step()
        for weight, master in zip(self.weights, self.param_groups[0]["params"]):
            weight.copy_(master, non_blocking=True)


def hand_over(master, weight):
    """Adds a weight's gradient to its master's, and frees it on the device."""
    # By way of pinned memory, which is reused, since a GPU copies there several times as fast.
    gradient = torch.empty_like(weight.grad, device="cpu", pin_memory=weight.is_cuda)
    gradient.copy_(weight.grad)
    weight.grad = None
    if master.grad is None:
        master.grad = gradient.to(master.dtype)
    else:
        master.grad += gradient
