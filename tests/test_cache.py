"""The pages of keys: who owns which, against plain lists; attention over them, against float64."""

import numpy as np
import pytest
import torch

from cache import PAGE, PagePool, attend_pages, fit_pages, product

ROWS, LENGTH = 6, 5 * PAGE


class Prefilled:
    """What transformers hands over after prompts: one layer's keys (B, kv_heads, P, D)."""

    def __init__(self, keys):
        self.layers = [self]
        self.keys = keys
        self.values = -keys


def new_tokens(count, generator):
    return torch.randn(count, 2, 1, 4, generator=generator)


def read_row(pool, row, length):
    """A row's keys (kv_heads, length, D), page by page, from what a decode step reads."""
    pages = pool.table[row][pool.table[row] > 0]
    return torch.cat([pool.keys[0][page] for page in pages], dim=1)[:, :length]


def test_rows_keep_their_keys_whoever_comes_and_goes():
    """Random arrivals, steps, ends and moves; each row's keys stay those of a plain list."""
    generator = torch.Generator().manual_seed(0)
    chance = np.random.default_rng(0)
    pool = PagePool(20, ROWS, LENGTH, "cpu")
    rows = []  # of each live row: its keys, (kv_heads, length, D)
    ended = 0
    for _ in range(400):
        lengths = np.array([keys.shape[1] for keys in rows], dtype=np.int64)
        done = [i for i, n in enumerate(lengths) if n >= LENGTH - 1 or chance.random() < 0.01]
        if not pool.has_room(lengths + 1):
            done = [0]
        arriving = np.array([*lengths, PAGE + 9, 3], dtype=np.int64)
        if done:
            pool.release(done)
            left = len(rows) - len(done)
            gaps = [row for row in done if row < left]
            sources = sorted(set(range(left, len(rows))) - set(done))
            pool.move(sources, gaps)
            for source, gap in zip(sources, gaps):
                rows[gap] = rows[source]
            del rows[left:]
            ended += len(done)
        elif len(rows) <= ROWS - 2 and pool.has_room(arriving):
            prompts = torch.randn(2, 2, PAGE + 9, 4, generator=generator)
            pool.grow(arriving)
            pool.admit(Prefilled(prompts), len(rows), np.array([1, 0]))
            rows += [prompts[1], prompts[0, :, :3]]
        else:
            pool.grow(lengths + 1)
            pool.upload()
            pool.step(torch.from_numpy(lengths), 1 + pool.used, LENGTH // PAGE)
            new = new_tokens(len(rows), generator)
            pool.update(new, -new, 0)
            rows = [torch.cat([old, key], dim=1) for old, key in zip(rows, new)]
        for row, keys in enumerate(rows):
            assert torch.equal(read_row(pool, row, keys.shape[1]), keys)
        assert pool.used == sum(-(-keys.shape[1] // PAGE) for keys in rows) <= 20
    assert ended > 20


def attend_by_hand(query, keys, values, scaling):
    """Softmax attention in float64: query (heads, D), keys (kv_heads, L, D)."""
    per_key = len(query) // len(keys)
    rows = []
    for head, q in enumerate(query.double()):
        scores = keys[head // per_key].double() @ q * scaling
        rows.append(scores.softmax(0) @ values[head // per_key].double())
    return torch.stack(rows)


@pytest.mark.parametrize("size", [1.0, 30.0], ids=["mild scores", "scores beyond exp"])
@pytest.mark.parametrize("dtype, error", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_attention_over_scattered_pages_is_softmax_over_a_row(size, dtype, error):
    """Rows of one to three pages, in no order; a page's end, and page 0, are masked."""
    generator = torch.Generator().manual_seed(1)
    lengths = [5, 17, 24]
    table = torch.tensor([[4, 0, 0], [6, 2, 1], [3, 7, 5]])
    owner = torch.tensor([0, 1, 1, 2, 0, 2, 1, 2])
    keys, values = torch.randn(2, 8, 2, 8, 16, generator=generator).to(dtype)
    query = (size * torch.randn(3, 6, 16, generator=generator)).to(dtype)
    mask = torch.full((8, 8), -1e30)
    for row, length in enumerate(lengths):
        for column, page in enumerate(table[row].tolist()):
            mask[page, : max(0, min(8, length - 8 * column))] = 0 if page else -1e30
    found = attend_pages(query, keys, values, mask[:, None, None], owner, table, 0.25)
    assert found.dtype == dtype
    for row, length in enumerate(lengths):
        pages = [page for page in table[row].tolist() if page]
        own = [torch.cat(list(store[pages]), dim=1)[:, :length] for store in (keys, values)]
        expected = attend_by_hand(query[row], *own, 0.25)
        torch.testing.assert_close(found[row].double(), expected, rtol=error, atol=error)


def test_a_product_is_summed_in_fp32():
    """Pitfall: dtype. In bf16, and under autocast, scores would have three digits."""
    a, b = torch.randn(2, 3, 2, 64, 64, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact = (a.double() @ b.double()).float()
    torch.testing.assert_close(product(a, b), exact)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(product(a.float(), b.float()), exact)


@pytest.mark.parametrize(
    "keys, slots, longest, pages",
    [(10 * PAGE, 8, 2 * PAGE, 10), (float("inf"), 8, PAGE + 1, 16), (3 * PAGE - 1, 8, PAGE, 2)],
)
def test_pages_are_those_that_keys_and_rows_allow(keys, slots, longest, pages):
    assert fit_pages(keys, slots, longest) == pages


@pytest.mark.parametrize("keys", [-5.5, 0, 2 * PAGE - 1])
def test_a_row_without_room_is_refused(keys):
    with pytest.raises(ValueError, match="Lower the budget"):
        fit_pages(keys, 8, PAGE + 1)
