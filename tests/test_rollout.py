"""The sampler of rollout.py against naive loops.

One row at a time, the whole sequence each step, no cache.
"""

import gc
import weakref

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, TopKLogitsWarper, TopPLogitsWarper

import cache
import rollout
from rollout import generate, sample_tokens, truncate
from support.graphs import round_up
from support.model import ModelError, check_projection, load_model

PROMPTS = [
    [5, 6, 7, 8, 9, 10, 11],
    [4],
    [12, 3, 9],
    [1, 2, 3, 4, 5],
    [30, 20],
    [7] * 10,
    [21, 22, 23],
    [35, 1],
]
STOPS = {2, 3, 4}  # an id of STOPS may stand in a prompt, as the end of an earlier turn does


@torch.no_grad()
def next_logits(model, ids):
    """Logits (V,) of the token after ids, without a cache."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def naive_greedy(model, prompt, budget, stops):
    """The likeliest tokens, one at a time, and whether a stop id ended them."""
    response = []
    while len(response) < budget and not (response and response[-1] in stops):
        response.append(int(next_logits(model, prompt + response).argmax()))
    return response, response[-1] in stops


def tokens(rollouts):
    return [list(r.response_ids) for r in rollouts]


def logprobs(rollouts):
    return torch.tensor([logprob for r in rollouts for logprob in r.logprobs])


def assert_drawn_from(probabilities, counts):
    """Pearson's chi-square over the outcomes expected at least five times.

    The bound is five standard deviations above its mean.
    """
    expected = probabilities * counts.sum()
    common = expected >= 5
    chi_square, cells = ((counts - expected) ** 2 / expected)[common].sum(), common.sum()
    assert chi_square < cells + 5 * (2 * cells) ** 0.5


@pytest.fixture
def pages_of_8(monkeypatch):
    """So that short responses have several."""
    monkeypatch.setattr(cache, "PAGE", 8)
    monkeypatch.setattr(rollout, "PAGE", 8)


# --------------------------------------------------------------------------------------------------
# The right tokens


@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama"])
def test_greedy_equals_a_loop_without_cache(make_model, family):
    """Slots, refill, compaction, mixed prompt lengths and the shared prefill change no token.

    In any family of models.
    """
    model = make_model(family)
    expected = [naive_greedy(model, p, 16, STOPS) for p in PROMPTS]
    assert {finished for _, finished in expected} == {
        True,
        False,
    }  # both kinds of end are exercised
    rollouts = generate(model, PROMPTS, max_new_tokens=16, stop_ids=STOPS, temperature=0, slots=3)
    assert [(list(r.response_ids), r.finished) for r in rollouts] == expected


def test_greedy_equals_transformers_generate_with_left_padding(model):
    """The usual way, a left-padded batch with an attention mask, writes the same tokens.

    Positions do not count the padding.
    """
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    theirs = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=16,
        do_sample=False,
        eos_token_id=sorted(STOPS),
        pad_token_id=0,
    )[:, width:].tolist()
    ours = tokens(generate(model, PROMPTS, max_new_tokens=16, stop_ids=STOPS, temperature=0))
    assert ours == [t[: len(o)] for t, o in zip(theirs, ours)]


def test_unwritten_cache_is_never_read(model, pages_of_8):
    """What memory held before must not matter.

    A NaN in a masked place still spoils attention, since 0 * NaN is NaN.
    """
    torch.use_deterministic_algorithms(True)  # fills all uninitialised memory with NaN
    try:
        rollouts = generate(
            model, PROMPTS, max_new_tokens=16, stop_ids=STOPS, temperature=0, slots=3
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert tokens(rollouts) == [naive_greedy(model, p, 16, STOPS)[0] for p in PROMPTS]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_the_distribution_sampled_from(model, temperature):
    """Pitfall: temperature in the sampler but not in its log-probs."""
    for r in generate(
        model,
        PROMPTS,
        max_new_tokens=12,
        stop_ids=STOPS,
        temperature=temperature,
        samples=2,
        slots=5,
    ):
        for t, (token, logprob) in enumerate(zip(r.response_ids, r.logprobs, strict=True)):
            scores = next_logits(model, r.prompt_ids + r.response_ids[:t]).double() / temperature
            assert logprob == pytest.approx(
                torch.log_softmax(scores, dim=0)[token].item(), abs=1e-4
            )


def test_works_in_bf16_autocast(make_model):
    """The GPU path, tried on a CPU.

    Weights in fp32, matmuls in bf16, log-probs near the fp32 ones.
    """
    model = make_model()
    with torch.autocast("cpu", torch.bfloat16):
        rollouts = generate(model, PROMPTS, max_new_tokens=8, stop_ids=STOPS, slots=3)
    exact = [
        torch.log_softmax(next_logits(model, r.prompt_ids + r.response_ids[:t]), 0)[token]
        for r in rollouts
        for t, token in enumerate(r.response_ids)
    ]
    assert (logprobs(rollouts) - torch.stack(exact)).abs().mean() < 0.05


def test_logprobs_of_bf16_logits_are_computed_in_fp32():
    """Pitfall: a log-sum-exp in bf16, which is off in the second digit."""
    logits = torch.randn(64, 5000, generator=torch.Generator().manual_seed(0)).bfloat16()
    drawn, logprob = sample_tokens(logits, torch.linspace(0, 0.99, 64), 1.0)
    exact = torch.log_softmax(logits.double(), dim=1).gather(1, drawn[:, None])[:, 0]
    torch.testing.assert_close(logprob, exact.float(), atol=1e-4, rtol=0)


# --------------------------------------------------------------------------------------------------
# The end of a response


def test_every_stop_id_stops_and_is_kept(model):
    """A response ends at its first stop id, whichever it is, and includes it.

    Otherwise it is cut at the budget and not finished.
    """
    rollouts = generate(model, PROMPTS, max_new_tokens=16, stop_ids=STOPS, samples=8)
    assert {r.response_ids[-1] for r in rollouts if r.finished} == STOPS
    assert not all(r.finished for r in rollouts)
    for r in rollouts:
        assert not STOPS & set(r.response_ids[:-1])
        assert r.finished == (r.response_ids[-1] in STOPS)
        assert r.finished or len(r.response_ids) == 16


def test_a_stop_id_as_the_last_token_of_the_budget_is_finished(model):
    """A response that fits the budget exactly is not truncated."""
    [r] = generate(model, [[7] * 10], max_new_tokens=40, stop_ids=STOPS, temperature=0)
    [exact] = generate(
        model, [[7] * 10], max_new_tokens=len(r.response_ids), stop_ids=STOPS, temperature=0
    )
    assert r.finished and exact == r


def test_pad_id_as_stop_id_is_harmless(model):
    """Pitfall: pad = eos. Id 0, which pads, stops responses and also stands inside prompts."""
    prompts = [[0], [5, 0, 6, 7, 8], [0, 0, 9], *PROMPTS]
    rollouts = generate(model, prompts, max_new_tokens=24, stop_ids={0}, temperature=0, slots=4)
    assert [(list(r.response_ids), r.finished) for r in rollouts] == [
        naive_greedy(model, p, 24, {0}) for p in prompts
    ]
    assert {r.finished for r in rollouts} == {True, False}


# --------------------------------------------------------------------------------------------------
# Slots, groups, random streams


@pytest.mark.parametrize("slots", [1, 3, 5, 16])
def test_few_slots_write_the_same_as_many(model, slots):
    """Pitfall: slot refill.

    The order in which requests find a place changes nothing that they write.
    """
    few, many = (
        generate(model, PROMPTS, max_new_tokens=20, stop_ids=STOPS, samples=3, seed=1, slots=n)
        for n in (slots, 999)
    )
    assert tokens(few) == tokens(many)
    torch.testing.assert_close(logprobs(few), logprobs(many), atol=1e-4, rtol=0)


@pytest.mark.parametrize("slots", [3, 16])
def test_decoding_in_the_fixed_shapes_of_cuda_graphs_writes_the_same(model, monkeypatch, slots):
    """Rows and pages rounded up: few shapes, and what the idle rows compute reaches nobody."""
    exact = generate(model, PROMPTS, max_new_tokens=20, stop_ids=STOPS, samples=2, slots=slots)
    shapes = set()

    def capture(graphs, shape):
        shapes.add(shape)
        return lambda: graphs.decode(*shape)

    monkeypatch.setattr(rollout, "use_graphs", lambda device: True)
    monkeypatch.setattr(rollout.DecodeGraphs, "capture", capture)
    rounded = generate(model, PROMPTS, max_new_tokens=20, stop_ids=STOPS, samples=2, slots=slots)
    assert tokens(rounded) == tokens(exact)
    torch.testing.assert_close(logprobs(rounded), logprobs(exact), atol=1e-4, rtol=0)
    most = (slots, 1 + slots, 1)  # page 0 is read, too
    for number, limit in zip(zip(*shapes), most):
        assert set(number) <= {n for n in (1, 2, 3, 4, 6, 8, 12, 16) if n <= limit} | {limit}
    assert len(shapes) <= 12


@pytest.mark.parametrize("number, expected", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (13, 16)])
def test_shapes_are_rounded_up_by_less_than_half(number, expected):
    assert round_up(number) == expected


def test_a_model_that_cannot_be_captured_decodes_without_graphs(model, monkeypatch):
    """A warning, once a shape, and the same tokens."""

    def capture(graphs, shape):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(rollout, "use_graphs", lambda device: True)
    monkeypatch.setattr(rollout.DecodeGraphs, "capture", capture)
    with pytest.warns(UserWarning, match="without a CUDA graph"):
        rollouts = generate(model, PROMPTS[:2], max_new_tokens=5, stop_ids=STOPS, temperature=0)
    assert tokens(rollouts) == [naive_greedy(model, p, 5, STOPS)[0] for p in PROMPTS[:2]]


# --------------------------------------------------------------------------------------------------
# Few keys: rows wait, and go on later

LONG = [[5, 6, 7] * 5, [8, 9] * 8, [11] * 10, [12, 13, 14]]  # a page of 8 and less, or more


def note_pages(monkeypatch):
    """A list that gets the pages in use at each step, and one of the requests that are put back."""
    used, waiting = [], []
    step, put_back = rollout.PagePool.step, rollout.Sampler.put_back

    def note_step(pool, *args):
        used.append((pool.used, pool.pages, len(pool.keys[0])))
        return step(pool, *args)

    def note_row(sampler, row):
        waiting.append(int(sampler.request[row]))
        return put_back(sampler, row)

    monkeypatch.setattr(rollout.PagePool, "step", note_step)
    monkeypatch.setattr(rollout.Sampler, "put_back", note_row)
    return used, waiting


@pytest.fixture(scope="module")
def long_greedy(model):
    """What the naive loop writes, twice to each prompt."""
    return [written for p in LONG for written in 2 * [naive_greedy(model, p, 60, {2})]]


@pytest.mark.parametrize("keys, rows_wait", [(80, True), (99, True), (200, True), (999, False)])
def test_few_keys_write_the_same_greedy_tokens(
    model, monkeypatch, pages_of_8, long_greedy, keys, rows_wait
):
    """And never keep more of them than asked for, whoever has to wait."""
    used, waiting = note_pages(monkeypatch)
    options = {"max_new_tokens": 60, "stop_ids": {2}, "temperature": 0, "samples": 2}
    found = generate(model, LONG, keys=keys, **options)
    assert [(list(r.response_ids), r.finished) for r in found] == long_greedy
    assert bool(waiting) == rows_wait
    assert all(pages <= most <= keys // 8 for pages, most, _ in used)
    assert {rows for *_, rows in used} == {1 + used[0][1]}  # in memory, too, but for page 0


def test_a_row_that_waits_keeps_its_tokens_and_its_random_stream(model, monkeypatch, pages_of_8):
    """What it writes later is what it would have written, and its log-probs are right."""
    options = {"max_new_tokens": 60, "stop_ids": {2}, "samples": 3, "seed": 4}
    expected = generate(model, LONG, **options)
    _, waiting = note_pages(monkeypatch)
    found = generate(model, LONG, keys=160, **options)
    assert waiting
    assert tokens(found) == tokens(expected)
    torch.testing.assert_close(logprobs(found), logprobs(expected), atol=1e-4, rtol=0)
    assert generate(model, LONG, keys=160, **options) == found


def test_the_youngest_row_waits(model, monkeypatch, pages_of_8):
    """It loses the least; and it is the first to go on."""
    lost = []
    put_back = rollout.Sampler.put_back

    def note(sampler, row):
        written = sampler.written[: sampler.live].tolist()
        lost.append((written[row], min(written)))
        put_back(sampler, row)
        assert sampler.queue[0].written == written[row]

    monkeypatch.setattr(rollout.Sampler, "put_back", note)
    generate(model, LONG * 3, max_new_tokens=60, stop_ids={2}, keys=160, seed=1)
    assert lost and all(own == least for own, least in lost)


def test_a_straggler_does_not_make_others_wait(model):
    """Room for it and four more: they need five steps in a row, not each the straggler's."""
    prompts = [[7] * 10] + [[5, 6]] * 12
    free = generate(model, prompts, max_new_tokens=60, stop_ids={2}, seed=3)
    found, rows = decode_steps(model, prompts, max_new_tokens=60, stop_ids={2}, seed=3, keys=6 * 64)
    assert tokens(found) == tokens(free)
    assert len(rows) < 0.6 * sum(len(r.response_ids) for r in found)


def test_a_response_without_room_is_refused(model):
    """Before anything runs: it could never be written to its end."""
    with pytest.raises(ValueError, match="may have 70 keys, and there is room for 64"):
        generate(model, [[5] * 10], max_new_tokens=60, stop_ids=STOPS, keys=100)


@pytest.mark.filterwarnings("ignore:decoding without a CUDA graph")
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "without a graph after all"])
def test_no_keys_stay_after_a_call(model, monkeypatch, graphs):
    """Not even until Python looks for circles: the next call and the update need their memory."""
    pools = weakref.WeakSet()
    make = rollout.PagePool

    def note(*args):
        pool = make(*args)
        pools.add(pool)
        return pool

    def capture(graphs, shape):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(rollout, "PagePool", note)
    monkeypatch.setattr(rollout, "use_graphs", lambda device: graphs)
    monkeypatch.setattr(rollout.DecodeGraphs, "capture", capture)
    gc.disable()
    try:
        generate(model, PROMPTS, max_new_tokens=4, stop_ids=STOPS)
        assert not pools, "These keys are still in memory after generate has returned."
    finally:
        gc.enable()


# --------------------------------------------------------------------------------------------------
# Groups and seeds


def test_a_group_equals_separate_prompts(model):
    """Pitfall: shared prefix.

    One prefill for three samples gives what three prefills of the same prompt give.
    """
    together = generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, samples=3)
    apart = generate(
        model, [p for p in PROMPTS for _ in range(3)], max_new_tokens=12, stop_ids=STOPS, samples=1
    )
    assert tokens(together) == tokens(apart)


def test_a_prompt_is_prefilled_once_for_its_group(model):
    """Eight samples of a prompt cost the prompt once.

    Prefill is shared, only decoding is paid per sample.
    """
    seen = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(inputs["input_ids"].shape), with_kwargs=True
    )
    generate(model, [[5, 6, 7, 8], [9, 10, 11, 12]], max_new_tokens=3, stop_ids=set(), samples=8)
    hook.remove()
    assert sum(rows * width for rows, width in seen if width > 1) == 8  # 2 prompts of 4 tokens
    assert [shape for shape in seen if shape[1] == 1] == [
        (16, 1)
    ] * 2  # the first of 3 tokens comes from the prefill


def decode_steps(model, prompts, **options):
    """The rollouts, and how many rows each forward pass had after a prompt's."""
    rows = []

    def note(module, args, inputs):
        count, width = inputs["input_ids"].shape
        if width == 1 and "position_ids" in inputs:
            rows.append(count)

    hook = model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    rollouts = generate(model, prompts, **options)
    hook.remove()
    return rollouts, rows


@pytest.mark.parametrize("slots, most", [(5, 4), (6, 6), (999, 16), (1, 1)])
def test_slots_bound_the_batch(model, slots, most):
    """In whole groups of two, or one by one where a group is too many: what does not fit waits."""
    options = {"max_new_tokens": 4, "stop_ids": set(), "samples": 2, "slots": slots}
    _, rows = decode_steps(model, PROMPTS, **options)
    assert max(rows) == most


def test_only_live_rows_are_decoded_and_a_straggler_holds_up_nobody(model):
    """One row for each token but the first, and hardly more steps than the slots make necessary."""
    options = {"max_new_tokens": 40, "stop_ids": STOPS, "samples": 2, "slots": 8}
    rollouts, rows = decode_steps(model, PROMPTS * 4, **options)
    lengths = [len(r.response_ids) for r in rollouts]
    assert sum(rows) == sum(lengths) - len(lengths)
    in_turn = sum(max(lengths[i : i + 8]) - 1 for i in range(0, len(lengths), 8))
    assert len(rows) < 0.8 * in_turn


def test_prompts_move_in_together(model):
    """When a quarter of 16 slots is free: prefills of four prompts each, or more, but for the last.

    One by one they would cost a forward pass each.
    """
    prefills = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: prefills.append("position_ids" not in inputs), with_kwargs=True
    )
    generate(model, PROMPTS * 8, max_new_tokens=40, stop_ids=STOPS, slots=16)
    hook.remove()
    assert sum(prefills) <= 1 + 48 // 4


def test_dropout_is_off_in_the_sampler(make_model):
    """Or its log-probs would be those of a model that nobody trains."""
    model = make_model(attention_dropout=0.5)
    options = {"max_new_tokens": 12, "stop_ids": STOPS, "samples": 2}
    expected = generate(model, PROMPTS, **options)
    assert generate(model.train(), PROMPTS, **options) == expected


def test_later_prompts_change_nothing(model):
    """A response does not depend on who else is in the batch."""
    alone = generate(model, PROMPTS[:2], max_new_tokens=16, stop_ids=STOPS, samples=2, slots=4)
    crowd = generate(model, PROMPTS, max_new_tokens=16, stop_ids=STOPS, samples=2, slots=4)
    assert tokens(alone) == tokens(crowd[:4])


def test_duplicate_prompts_stay_two_groups(model):
    """Pitfall: groups by prompt text. Copies keep their places and draw their own samples."""
    prompts = [[5, 6], [7], [5, 6]]
    rollouts = generate(model, prompts, max_new_tokens=12, stop_ids=STOPS, samples=2, slots=2)
    assert [list(r.prompt_ids) for r in rollouts] == [p for p in prompts for _ in range(2)]
    assert tokens(rollouts[:2]) != tokens(rollouts[4:])


def test_the_seed_decides(model):
    """Same seed, same responses; another seed, others; and the samples of one prompt differ."""
    first, again, other = (
        tokens(generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, samples=2, seed=s))
        for s in (1, 1, 2)
    )
    assert first == again != other
    assert first[0] != first[1]


def test_temperature_zero_is_certain(model):
    """Greedy decoding ignores the seed, and each of its tokens has probability 1."""
    one, two = (
        generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, temperature=0, seed=s)
        for s in (1, 2)
    )
    assert one == two
    assert not logprobs(one).any()


def test_progress_counts_tokens_and_responses(model):
    """The progress bar's numbers add up to all tokens and all responses."""
    seen = []
    rollouts = generate(
        model,
        PROMPTS,
        max_new_tokens=12,
        stop_ids=STOPS,
        samples=2,
        slots=6,
        progress=lambda *counts: seen.append(counts),
    )
    assert [sum(counts) for counts in zip(*seen)] == [
        sum(map(len, tokens(rollouts))),
        len(rollouts),
    ]


# --------------------------------------------------------------------------------------------------
# The draw


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_match_the_probabilities(temperature):
    """Many draws from one distribution come out as often as it says."""
    logits = torch.tensor([0.0, 2.0, -1.0, 1.0, 0.5, -3.0])
    drawn, _ = sample_tokens(
        logits.repeat(20000, 1),
        torch.rand(20000, generator=torch.Generator().manual_seed(0)),
        temperature,
    )
    assert_drawn_from((logits / temperature).softmax(0), torch.bincount(drawn, minlength=6))


def test_pairs_of_tokens_match_their_joint_probability(model):
    """Each token has a random number of its own.

    With one for the whole response, the second token would follow from the first.
    """
    rollouts = generate(model, [[5, 6, 7]], max_new_tokens=2, stop_ids=set(), samples=4000)
    first, vocabulary = next_logits(model, [5, 6, 7]).softmax(0), model.config.vocab_size
    joint = torch.stack(
        [p * next_logits(model, [5, 6, 7, i]).softmax(0) for i, p in enumerate(first)]
    )
    pairs = torch.tensor([a * vocabulary + b for a, b in tokens(rollouts)])
    assert_drawn_from(joint.flatten(), torch.bincount(pairs, minlength=vocabulary**2))


@pytest.mark.parametrize("uniform, expected", [(0.0, 1), (0.49, 1), (0.51, 3), (1 - 2**-24, 3)])
def test_impossible_tokens_are_never_drawn(uniform, expected):
    """Tokens 0, 2 and 4 have probability 0; the ends of [0, 1) must not fall on them."""
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 1.0, -torch.inf]])
    drawn, logprob = sample_tokens(logits, torch.tensor([uniform]), 1.0)
    assert drawn.item() == expected
    assert logprob.item() == pytest.approx(np.log(0.5))


def test_the_largest_uniform_draws_a_possible_token_from_any_distribution():
    """Rounding may end a cumulative distribution below 1.

    The remainder must not go to a token of probability 0.
    """
    logits = 3 * torch.randn(500, 300, generator=torch.Generator().manual_seed(0))
    logits[:, 250:] = -torch.inf
    drawn, logprob = sample_tokens(logits, torch.full((500,), 1 - 2**-24), 1.0)
    assert drawn.max() < 250 and logprob.isfinite().all()


# --------------------------------------------------------------------------------------------------
# Top-k and top-p

HALVES = (2 * torch.randn(50, 40, generator=torch.Generator().manual_seed(0))).round() / 2  # ties
APART = torch.randn(50, 40, generator=torch.Generator().manual_seed(1)) * 3


@pytest.mark.parametrize("logits", [HALVES, APART], ids=["ties", "no ties"])
@pytest.mark.parametrize("top_k", [0, 1, 5, 20, 39, 40, 99])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 1e-6])
def test_truncation_is_that_of_transformers(logits, top_k, top_p):
    """First top-k, then top-p of what is left; off, too large, ties at the edge."""
    expected = TopKLogitsWarper(top_k)(None, logits) if top_k else logits
    expected = TopPLogitsWarper(top_p)(None, expected) if top_p < 1 else expected
    assert torch.equal(truncate(logits, top_k, top_p), expected)


def test_without_truncation_no_bit_changes():
    uniforms = torch.linspace(0, 0.99, 50)
    plain = sample_tokens(APART, uniforms, 0.6)
    for whole in ((0, 1.0), (40, 1.0)):
        assert all(map(torch.equal, sample_tokens(APART, uniforms, 0.6, *whole), plain))


@pytest.mark.parametrize("truncation", [(1, 1.0), (0, 1e-9)])
def test_one_token_left_is_greedy(truncation):
    tokens, found = sample_tokens(APART, torch.linspace(0, 1 - 2**-24, 50), 1.0, *truncation)
    assert torch.equal(tokens, APART.argmax(dim=1)) and not found.any()


def test_truncated_draws_and_log_probs_are_of_what_is_left():
    """After the temperature, and not before it: that decides which tokens make up 0.9."""
    logits = torch.tensor([0.0, 2.0, -1.0, 1.0, 0.5, -3.0])
    kept = truncate((logits / 0.5)[None], 4, 0.9)[0]
    assert kept.isfinite().sum() < truncate(logits[None], 4, 0.9).isfinite().sum()
    uniforms = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    tokens, found = sample_tokens(logits.repeat(20000, 1), uniforms, 0.5, 4, 0.9)
    torch.testing.assert_close(found, kept.log_softmax(0)[tokens])
    counts = torch.bincount(tokens, minlength=6)
    assert_drawn_from(kept.softmax(0), counts)
    assert not counts[kept.isinf()].any()


@pytest.mark.parametrize("truncation", [{"top_k": 2}, {"top_p": 0.3}])
def test_generate_draws_from_what_is_left(truncation, model):
    """Of every token, and not only of the first."""
    rollouts = generate(model, PROMPTS, max_new_tokens=8, stop_ids=STOPS, samples=2, **truncation)
    for r in rollouts:
        for t, token in enumerate(r.response_ids):
            logits = next_logits(model, r.prompt_ids + r.response_ids[:t])[None]
            assert truncate(logits, **({"top_k": 0, "top_p": 1.0} | truncation))[
                0, token
            ].isfinite()


# --------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    "change, words",
    [
        ({"max_new_tokens": 0}, "budget"),
        ({"prompts": [[5], []]}, "empty"),
        ({"temperature": -0.5}, "temperature"),
        ({"prompts": [[5] * 120]}, "context of 128"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_says_what_is_wrong(model, change, words):
    """A request that cannot be served raises ValueError and names the culprit."""
    request = {"prompts": [[5]], "max_new_tokens": 10, "temperature": 1.0} | change
    with pytest.raises(ValueError, match=words):
        generate(model, stop_ids=STOPS, **request)


def test_a_request_that_fits_the_context_exactly_is_served(model):
    """128 tokens, of which the prompt has 118; the longest prompt decides, wherever it stands."""
    prompts = [[5], [5] * 118]
    generate(model, prompts, max_new_tokens=10, stop_ids=STOPS)
    with pytest.raises(ValueError, match="prompt of 118 tokens and a budget of 11 exceed"):
        generate(model, prompts, max_new_tokens=11, stop_ids=STOPS)


def test_no_prompts_no_rollouts(model):
    """An empty list is a request like any other."""
    assert generate(model, [], max_new_tokens=4, stop_ids=STOPS) == []


@pytest.mark.parametrize(
    "family, config",
    [
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
        ("Mistral", {"sliding_window": 4}),
    ],
    ids=["listed in layer_types", "for all layers"],
)
def test_sliding_window_models_are_refused(make_model, family, config):
    """The cache has no windows, so a model that needs them would attend to too much, silently."""
    with pytest.raises(ValueError, match="sliding"):
        generate(make_model(family, **config), PROMPTS, max_new_tokens=4, stop_ids=STOPS)


@pytest.mark.parametrize(
    "family, config", [("Granite", {"logits_scaling": 4.0}), ("Cohere", {"logit_scale": 0.25})]
)
def test_scaled_logits_are_refused(make_model, family, config):
    """Loss and sampler use hidden @ weight.T.

    A family that scales it would train on wrong log-probs.
    """
    with pytest.raises(ModelError, match="projection"):
        check_projection(make_model(family, **config))


def test_a_folder_whose_model_scales_its_logits_is_refused(make_model, tmp_path):
    """Loading is where it is found out."""
    save_model(make_model("Granite", logits_scaling=4.0), tmp_path, "{{ messages }}")
    with pytest.raises(ModelError, match="projection"):
        load_model(str(tmp_path), "cpu")


@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama"])
def test_plain_projections_are_accepted(make_model, family):
    """The check passes where logits are one projection."""
    check_projection(make_model(family))


def save_model(model, folder, chat_template):
    """A model folder with a word-level tokenizer whose end token is 2.

    The generation config also stops at 3.
    """
    words = Tokenizer(
        models.WordLevel({f"w{i}": i for i in range(model.config.vocab_size)}, unk_token="w1")
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="w2", chat_template=chat_template
    ).save_pretrained(folder)
    model.generation_config.eos_token_id = [2, 3]
    model.save_pretrained(folder)


def test_all_stop_ids_of_a_model_are_found(make_model, tmp_path):
    """Pitfall: a second EOS id, which only the generation config lists."""
    save_model(make_model(), tmp_path, "{{ messages }}")
    assert load_model(str(tmp_path), "cpu")[2] == {2, 3}


def test_a_tokenizer_without_chat_template_is_refused(make_model, tmp_path):
    """A base model has no prompt to append an empty thinking block to."""
    save_model(make_model(), tmp_path, None)
    with pytest.raises(ModelError, match="chat template"):
        load_model(str(tmp_path), "cpu")


def test_a_folder_without_a_model_is_refused(tmp_path):
    """One message that names the source, not a traceback from inside a library."""
    with pytest.raises(ModelError, match="cannot load"):
        load_model(str(tmp_path), "cpu")
