"""logprobs.py: which hidden state predicts which token, and the log-prob kernels.

Against one sequence at a time, log_softmax in float64, and what plain autograd would hold.
"""

import math

import pytest
import torch
from shared import check, naive_response_logprobs, sequence
from torch.utils._python_dispatch import TorchDispatchMode

from grpo import policy_loss
from logprobs import (
    SharedPrompts,
    fused_loss,
    plan_chunks,
    response_states,
    sharing_pays,
    token_logprobs,
)
from rollout import generate, sample_tokens

# --------------------------------------------------------------------------------------------------
# Which hidden state predicts which token


def response_logprobs(model, rollouts, temperature=1.0):
    """As the trainer has them, end to end: (N,), with gradient."""
    hidden, tokens = response_states(model, rollouts)
    head = model.get_output_embeddings().weight
    return token_logprobs(hidden, head, tokens, temperature=temperature)


MIXED = [
    sequence([5], [6, 7, 2]),
    sequence([5, 6, 7, 8, 9, 10], [11]),
    sequence([4, 0, 9], [12, 13, 0, 14, 3]),
    sequence([0], [0]),
]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_response_logprobs_equal_one_sequence_at_a_time(model, temperature):
    """Pitfalls: shift off by one, padding.

    Prompts of 1 to 6 tokens, responses of 1 to 5, in one right-padded batch.
    """
    ours = response_logprobs(model, MIXED, temperature)
    expected = torch.cat([naive_response_logprobs(model, r, temperature) for r in MIXED])
    late = torch.cat([naive_response_logprobs(model, r, temperature, shift=0) for r in MIXED])
    hot = torch.cat([naive_response_logprobs(model, r, 1 / temperature) for r in MIXED])
    mistakes = {
        "A token is scored by its own hidden state; the one before predicts it": late,
        "Logits are multiplied by the temperature, not divided": hot,
    }
    check(ours, expected, mistakes, atol=1e-4, rtol=0)


def test_a_left_padded_batch_gives_the_same(model):
    """Pitfall: padding and positions.

    The trainer's right padding agrees with left padding, mask and positions from the first real
    token.
    """
    width = max(len(r.prompt_ids + r.response_ids) for r in MIXED)
    expected = []
    for r in MIXED:
        ids = r.prompt_ids + r.response_ids
        pads = width - len(ids)
        logits = model(
            input_ids=torch.tensor([[0] * pads + ids]),
            attention_mask=torch.tensor([[0] * pads + [1] * len(ids)]),
            position_ids=torch.tensor([[0] * pads + list(range(len(ids)))]),
        ).logits[0]
        expected += [
            torch.log_softmax(logits[width - len(r.response_ids) + t - 1], 0)[token]
            for t, token in enumerate(r.response_ids)
        ]
    check(response_logprobs(model, MIXED), torch.stack(expected), atol=1e-4, rtol=0)


def test_the_stop_token_is_learnt_and_padding_is_not(model):
    """Pitfalls: EOS dropped from the loss, or tokens after it in the loss.

    Id 0 is pad and stop: gradient reaches the position before the stop token, no further.
    """
    embedded = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: embedded.append(output) or output.retain_grad()
    )
    rollouts = [sequence([5, 6], [7, 0]), sequence([5, 6, 8], [9, 10, 11, 12, 0])]
    response_logprobs(model, rollouts).sum().backward()
    hook.remove()
    model.zero_grad()
    reached = embedded[0].grad.abs().sum(dim=-1) > 0  # (2, 7)
    assert reached.tolist() == [[True] * 3 + [False] * 4, [True] * 7]


@pytest.mark.parametrize(
    "inside", [True, False], ids=["backward inside autocast", "backward outside"]
)
def test_autocast_gradients_stay_near_fp32(make_model, inside):
    """The GPU path, tried on a CPU.

    Forward and backward must make the same logits, wherever backward runs.
    """
    model = make_model()
    gradients = []
    for autocast in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            total = response_logprobs(model, MIXED).sum()
            if inside:
                total.backward()
        if not inside:
            total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.06 * gradients[0].norm()


class Products(TorchDispatchMode):
    """Notes the types of what matrix products are made of."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
            self.types |= {tensor.dtype for tensor in args[-2:]}
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("fused", [True, False])
def test_backward_multiplies_in_the_type_of_forward(fused):
    """Under autocast that is bf16, even where backward runs outside: the same logits twice."""
    hidden, weight, targets, _ = projection()
    inputs = (hidden.requires_grad_(), weight.requires_grad_(), targets)
    with Products() as products:
        with torch.autocast("cpu", torch.bfloat16):
            if fused:
                total, *_ = fused_loss(*inputs, lambda rows, p: (p.sum(), torch.tensor(0.0)))
            else:
                total = token_logprobs(*inputs).sum()
        total.backward()
    assert products.types == {torch.bfloat16}


# Three prompts of unequal length with two or three responses each, of one to five tokens.
GROUPED = [
    sequence(prompt, response)
    for prompt, responses in (
        ([5, 6, 7, 8, 9, 10], ([6, 7, 2], [11], [9, 8, 7, 6, 2])),
        ([4, 0, 9], ([12, 13], [0, 14, 3])),
        ([21] * 9, ([2], [30, 31, 32], [33, 34, 35, 36])),
    )
    for response in responses
]


def test_shared_prompts_give_the_same_hidden_states(model):
    """Pitfalls: shift off by one, padding.

    What predicts the first token comes from the prompt, the rest from the response.
    """
    ours, tokens = SharedPrompts(model, GROUPED).states_after_prompts(GROUPED)
    before, itself = [], []
    for r in GROUPED:
        ids = torch.tensor([r.prompt_ids + r.response_ids])
        states = model.base_model(ids).last_hidden_state[0]
        before.append(states[len(r.prompt_ids) - 1 : -1])
        itself.append(states[len(r.prompt_ids) :])
    mistakes = {"A token's state is its own; the one before predicts it": torch.cat(itself)}
    check(ours, torch.cat(before), mistakes, atol=1e-4, rtol=0)
    assert tokens.tolist() == [token for r in GROUPED for token in r.response_ids]


@pytest.mark.parametrize(
    "prompt, responses, micro_tokens, pays",
    [
        (40, [50] * 8, 2048, True),
        (40, [50], 2048, False),
        (40, [900] * 8, 2048, False),
        (40, [50] * 8, 39, False),
    ],
    ids=["short responses", "no group", "long responses", "no room for the prompts"],
)
def test_prompts_are_shared_where_that_saves_a_fifth(prompt, responses, micro_tokens, pays):
    assert sharing_pays([sequence([5] * prompt, [6] * n) for n in responses], micro_tokens) is pays


# --------------------------------------------------------------------------------------------------
# Log-probs without the logits


def projection(count=50, width=12, vocabulary=30):
    """Random hidden states (N, H), weight (V, H), targets (N,) and an incoming gradient (N,)."""
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, width, generator=g),
        torch.randn(vocabulary, width, generator=g),
        torch.randint(vocabulary, (count,), generator=g),
        torch.randn(count, generator=g),
    )


def naive_logprobs(hidden, weight, targets, temperature):
    logprobs = torch.log_softmax(hidden @ weight.T / temperature, dim=-1)
    return logprobs.gather(1, targets[:, None])[:, 0]


def fused_policy_loss(hidden, head, targets, old, advantages, weights, clip=(0.2, 0.28), **options):
    """policy_loss by fused_loss, as the trainer has it."""

    def loss_of(rows, logprobs):
        return policy_loss(logprobs, old[rows], advantages[rows], weights[rows], *clip)

    return fused_loss(hidden, head, targets, loss_of, **options)


def backward(function, hidden, weight, grad):
    """The values of function(hidden, weight) and its gradients by both.

    `grad` is the incoming gradient.
    """
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    values = function(hidden, weight)
    values.backward(grad.to(values.dtype))
    return values.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("chunk", [1, 7, 50, None])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_token_logprobs_equal_log_softmax_in_float64(temperature, chunk):
    """Values and both gradients, whatever the chunk, temperature included."""
    hidden, weight, targets, grad = projection()
    ours = backward(
        lambda h, w: token_logprobs(h, w, targets, temperature=temperature, chunk=chunk),
        hidden,
        weight,
        grad,
    )
    exact = backward(
        lambda h, w: naive_logprobs(h, w, targets, temperature),
        hidden.double(),
        weight.double(),
        grad,
    )
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a, b.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_one_input_may_need_a_gradient(frozen):
    """A frozen projection, or a frozen body: the other gradient is still the full one."""
    hidden, weight, targets, grad = projection()
    free = (hidden if frozen == "weight" else weight).requires_grad_()
    [ours] = torch.autograd.grad(token_logprobs(hidden, weight, targets, chunk=7), free, grad)
    [exact] = torch.autograd.grad(naive_logprobs(hidden, weight, targets, 1.0), free, grad)
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


def test_bf16_is_no_worse_than_naive_bf16():
    """Pitfall: dtype.

    Softmax in fp32, and the weight's gradient summed over chunks in fp32, beat the plain bf16
    computation.
    """
    hidden, weight, targets, grad = projection(count=1024, vocabulary=500)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    exact = backward(
        lambda h, w: naive_logprobs(h, w, targets, 1.0), hidden.double(), weight.double(), grad
    )
    naive = backward(lambda h, w: naive_logprobs(h, w, targets, 1.0), hidden, weight, grad)
    ours = backward(lambda h, w: token_logprobs(h, w, targets, chunk=8), hidden, weight, grad)
    errors = [
        [((a.double() - e).norm() / e.norm()).item() for a, e in zip(values, exact)]
        for values in (ours, naive)
    ]
    assert all(o <= 1.05 * n for o, n in zip(*errors))
    assert [v.dtype for v in ours] == [torch.float32, torch.bfloat16, torch.bfloat16]


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes.

    Counts the matrix products, too.
    """

    elements, products = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.products += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_)
        result = function(*args, **kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            self.elements = max(
                self.elements, tensor.numel() if isinstance(tensor, torch.Tensor) else 0
            )
        return result


def test_the_logits_never_exist_at_once():
    """Forward and backward hold one chunk of logits, 16 tokens of 512.

    And nothing of that size is kept between them.
    """
    hidden, weight, targets, _ = projection(count=256, width=8, vocabulary=512)
    saved = []
    with (
        LargestTensor() as largest,
        torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.append(t.numel()) or t, lambda t: t
        ),
    ):
        token_logprobs(
            hidden.requires_grad_(), weight.requires_grad_(), targets, chunk=16
        ).sum().backward()
    assert largest.elements <= 16 * 512
    assert max(saved) <= weight.numel()


@pytest.mark.parametrize("vocabulary", [500, 32_000, 152_000, 10_000_000])
def test_a_chunk_of_logits_takes_a_bounded_memory(vocabulary):
    """128 MB of fp32, but 16 tokens at least."""
    chunk, _ = plan_chunks(torch.empty(0), torch.empty(vocabulary, 1, device="meta"), None)
    most = 128 * 2**20 / 4 / vocabulary
    assert chunk == 16 or 0.9 * most < chunk <= most


def test_logprobs_are_never_positive():
    """A certain token has log-prob 0, not a rounding error above it."""
    hidden, weight, targets, _ = projection()
    assert (token_logprobs(100 * hidden, weight, targets) <= 0).all()


# --------------------------------------------------------------------------------------------------
# The loss fused with the projection


def off_policy(logprobs):
    """Old log-probs, advantages and weights; all (N,).

    The ratios lie on both sides of both clips, the advantages have both signs, the weights are
    uneven.
    """
    g = torch.Generator().manual_seed(1)
    return (
        logprobs + 0.5 * torch.randn(len(logprobs), generator=g),
        torch.randn(len(logprobs), generator=g),
        torch.rand(len(logprobs), generator=g),
    )


@pytest.mark.parametrize("chunk", [1, 7, 50, None])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_fused_policy_loss_equals_the_plain_one_in_float64(temperature, chunk):
    """Loss, log-probs, clipped share and both gradients.

    The gradients are made in forward, chunk by chunk, and scaled in backward.
    """
    hidden, weight, targets, _ = projection()
    batch = off_policy(naive_logprobs(hidden, weight, targets, temperature))

    def fused(h, w):
        options = {"temperature": temperature, "chunk": chunk}
        return fused_policy_loss(h, w, targets, *batch, clip=(0.1, 0.3), **options)

    def plain(h, w):
        return policy_loss(
            naive_logprobs(h, w, targets, temperature), *batch, eps_low=0.1, eps_high=0.3
        )

    scale = torch.tensor(3.0)  # as a loss that is divided or added to before backward would bring
    ours = backward(lambda h, w: fused(h, w)[0], hidden, weight, scale)
    exact = backward(lambda h, w: plain(h, w)[0], hidden.double(), weight.double(), scale)
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a, b.float(), atol=1e-4, rtol=1e-4)
    _, logprobs, clipped = fused(hidden, weight)
    torch.testing.assert_close(
        logprobs, naive_logprobs(hidden, weight, targets, temperature), atol=1e-4, rtol=0
    )
    assert 0 < clipped < 1 and clipped == pytest.approx(plain(hidden, weight)[1].item())


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_one_input_of_the_fused_loss_may_need_a_gradient(frozen):
    """A frozen projection, or a frozen body: the other gradient is still the full one."""
    hidden, weight, targets, _ = projection()
    batch = off_policy(naive_logprobs(hidden, weight, targets, 1.0))
    free = (hidden if frozen == "weight" else weight).requires_grad_()
    [ours] = torch.autograd.grad(
        fused_policy_loss(hidden, weight, targets, *batch, chunk=7)[0], free
    )
    [exact] = torch.autograd.grad(
        policy_loss(naive_logprobs(hidden, weight, targets, 1.0), *batch)[0], free
    )
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


def test_the_fused_loss_never_holds_the_logits_and_makes_each_once():
    """Three products a chunk and nothing larger than a chunk of logits or the weight."""
    hidden, weight, targets, _ = projection(count=256, width=8, vocabulary=512)
    batch = off_policy(naive_logprobs(hidden, weight, targets, 1.0))
    with LargestTensor() as seen:
        fused_policy_loss(
            hidden.requires_grad_(), weight.requires_grad_(), targets, *batch, chunk=16
        )[0].backward()
    assert seen.elements <= 16 * 512
    assert seen.products == 3 * 256 // 16


def test_bf16_gradients_of_the_fused_loss_are_no_worse_than_naive_bf16():
    """Pitfall: dtype.

    A nearly certain token's gradient is a small difference: it is taken before the cast to bf16.
    """
    hidden, weight, targets, _ = projection(count=1024, vocabulary=500)
    hidden, weight = (3 * hidden).bfloat16(), weight.bfloat16()
    targets = (hidden.float() @ weight.float().T).argmax(dim=-1)
    # Never clipped: where the clip sets in, bf16 logits decide by chance.
    clip = (100.0, 100.0)
    batch = off_policy(naive_logprobs(hidden.double(), weight.double(), targets, 1.0).float())
    exact, naive = (
        backward(
            lambda h, w: policy_loss(naive_logprobs(h, w, targets, 1.0), *batch, *clip)[0],
            h,
            w,
            torch.tensor(1.0),
        )
        for h, w in ((hidden.double(), weight.double()), (hidden, weight))
    )
    ours = backward(
        lambda h, w: fused_policy_loss(h, w, targets, *batch, clip=clip, chunk=8)[0],
        hidden,
        weight,
        torch.tensor(1.0),
    )
    errors = [
        [((a.double() - e).norm() / e.norm()).item() for a, e in zip(values[1:], exact[1:])]
        for values in (ours, naive)
    ]
    assert all(o <= 1.05 * n for o, n in zip(*errors))


# --------------------------------------------------------------------------------------------------
# Against float64, under hostile logits; sampler and trainer


LOGITS = {
    "huge": [1e4, -1e4, 0.0, 9999.0, -9999.0, 1e4],
    "all equal": [1e4] * 6,
    "all low": [-1e4] * 6,
    "ties": [3.0, 3.0, 3.0, -1.0, -1.0, 3.0],
    "one far ahead": [1e4, 0.0, 0.0, 0.0, 0.0, 0.0],
    "tiny differences": [1.0, 1.0 + 1e-6, 1.0 - 1e-6, 1.0, 1.0, 1.0],
}


def rounding(logits, temperature):
    """Two units in the last place of fp32, at the size of the largest scaled logit.

    No fp32 logit is known better.
    """
    return 2 * torch.finfo(torch.float32).eps * max(1.0, logits.abs().max().item() / temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("values", LOGITS.values(), ids=LOGITS)
def test_token_logprobs_against_float64(values, temperature):
    """The trainer's log-probs of each token, under hostile logits.

    The identity as projection makes any logits.
    """
    logits, targets = torch.tensor(values).repeat(6, 1), torch.arange(6)
    exact = torch.log_softmax(logits.double() / temperature, dim=-1)[targets, targets]
    found = token_logprobs(logits, torch.eye(6), targets, temperature=temperature).double()
    assert (found - exact).abs().max() <= rounding(logits, temperature) and (found <= 1e-3).all()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("values", LOGITS.values(), ids=LOGITS)
def test_sampled_logprobs_against_float64(values, temperature):
    """The sampler's, of the tokens that it draws."""
    logits, uniforms = torch.tensor(values).repeat(50, 1), torch.arange(50) / 50
    tokens, found = sample_tokens(logits, uniforms, temperature)
    exact = torch.log_softmax(logits.double() / temperature, dim=-1)[torch.arange(50), tokens]
    assert (found.double() - exact).abs().max() <= rounding(logits, temperature)


def test_a_masked_token_is_never_drawn():
    """Logits of -inf first, last and in between, and uniforms at both ends of their range."""
    masked = -math.inf
    logits = torch.tensor([masked, 1.0, masked, 1.0, masked, masked]).repeat(4, 1)
    tokens, logprobs = sample_tokens(logits, torch.tensor([0.0, 0.49, 0.51, 1 - 2**-24]), 1.0)
    assert tokens.tolist() == [1, 1, 3, 3] and logprobs.tolist() == pytest.approx(
        [math.log(0.5)] * 4
    )


def test_bf16_sampler_and_trainer_agree_roughly(make_model):
    """A bf16 model with fp32 log-softmax.

    The gap that `logprob_gap` shows comes from rounded hidden states and logits.
    """
    model = make_model().bfloat16()
    rollouts = generate(model, [[5, 6, 7], [8, 9]], max_new_tokens=40, stop_ids={2}, samples=8)
    with torch.no_grad():
        trainer = response_logprobs(model, rollouts, 1.0)
    gap = (trainer - torch.tensor([p for r in rollouts for p in r.logprobs])).abs()
    assert gap.mean() < 0.1
