"""Attention of one new token a row over keys that lie in pages, wherever a row's pages are.

Each page is its row's query against the keys in it, by a softmax of its own; a row's pages are then
averaged, each with its share of the row's sum: softmax by parts (flash decoding). Nothing is
gathered, nothing padded: every page is read once. Left out: a kernel of our own.
"""

from contextlib import contextmanager

import torch
import transformers  # its attention is fetched when it is first asked for: half of its import


def attend_pages(query, keys, values, mask, owner, table, scaling):
    """Attention (B, heads, D) of query (B, heads, D), in its type.

    keys, values (pages, kv_heads, size, D); mask (pages, 1, 1, size), added to the scores; owner
    (pages,), the row of a page; table (B, columns), the pages of a row, and beyond them a page that
    is masked wholly. The heads that share a key's head go through one product.
    """
    batch, heads, width = query.shape
    grouped = query.reshape(batch, keys.shape[1], -1, width)  # (B, kv_heads, G, D)
    scores = product(grouped[owner].to(keys.dtype), keys.transpose(2, 3))
    scores = torch.add(mask, scores, alpha=scaling)  # (pages, kv_heads, G, size)
    probs = scores.softmax(dim=-1)
    parts = product(probs.to(values.dtype), values)  # (pages, kv_heads, G, D)
    # Each page's logarithm of its sum of exp(score): the largest prob is exp(largest score) / sum.
    sums = scores.amax(dim=-1, keepdim=True) - probs.amax(dim=-1, keepdim=True).log()
    share = sums[table].softmax(dim=1)  # (B, columns, kv_heads, G, 1); of what is masked, 0
    output = (share * parts[table]).sum(dim=1)
    return output.reshape(batch, heads, width).to(query.dtype)


def product(a, b):
    """a @ b (N, kv_heads, ., .) in fp32, whatever type they are read in (pitfall: dtype)."""
    with torch.autocast(a.device.type, enabled=False):
        if a.is_cuda and a.dtype != torch.float32:  # without copies in fp32
            found = torch.bmm(a.flatten(0, 1), b.flatten(0, 1), out_dtype=torch.float32)
            return found.unflatten(0, a.shape[:2])
        return torch.matmul(a.float(), b.float())


@contextmanager
def attention(model, function):
    """Within it, the model's layers call another attention function."""
    transformers.AttentionInterface.register("decode", function)
    before = model.config._attn_implementation
    model.config._attn_implementation = "decode"
    try:
        yield
    finally:
        model.config._attn_implementation = before
        # What is registered stays alive, and an object's method keeps the object: all keys.
        transformers.AttentionInterface.register("decode", None)
