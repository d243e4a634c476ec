"""The sampler's keys and values, in pages that the rows share, and attention over them.

A row owns as many pages of 64 tokens as it has written, so that memory goes to tokens that are
there, not to budgets. Pages in use always stand in front, and a step reads these and nothing else.
Rows a, b and c:

    page              1  2  3  4  5  6  7
    owner             a  b  c  a  c  b  c
    row b ends        a  .  c  a  c  .  c      its pages are free
                      a  c  c  a  c  .  .      the last one moves into the gap

A new token's query meets the keys of a page by a softmax of its own, wherever the row's pages are;
they are then averaged, each with its share of the row's sum: softmax by parts (flash decoding).
Nothing is gathered, nothing padded: every page is read once. Left out: pages that the rows of a
group share, windows, quantised keys, a kernel of our own.
"""

from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
import transformers  # its attention is fetched when it is first asked for: half of its import

PAGE = 64  # tokens
MASKED = -1e30  # a score; -inf would make NaN of a page that has no other
FAR = 1 << 40  # the start of a page that nobody owns: beyond all positions


class PagePool:
    """Keys and values of the live rows: a decode step's cache; attention layers call `update`.

    Room for `pages` pages, of up to `slots` rows of up to `length` tokens. Page 0 is nobody's.
    """

    def __init__(self, pages, slots, length, device):
        self.pages = pages
        self.used = 0  # pages 1 to used are owned
        # layer -> (1 + pages, kv_heads, PAGE, head_dim), made when the first prompts arrive
        self.keys = {}
        self.values = {}
        # Who owns what is kept on the host; a step reads copies on the device.
        self.table = np.zeros((slots, count_pages(length)), dtype=np.int64)  # a row's pages, or 0
        self.owner = np.zeros(1 + pages, dtype=np.int64)  # a page's row
        self.start = np.full(1 + pages, FAR)  # a page's first position in its row
        self.copies = [torch.tensor(array, device=device) for array in self.arrays()]

    def arrays(self):
        return self.table, self.owner, self.start

    def buffers(self):
        return (*self.keys.values(), *self.values.values())

    def has_room(self, lengths):
        """Whether there are pages for rows of these lengths (B,), none longer than the longest."""
        return np.minimum(count_pages(lengths), self.table.shape[1]).sum() <= self.pages

    def grow(self, lengths):
        """Gives the first rows pages for `lengths` (B,) tokens; there must be enough."""
        first = self.used + 1
        owned = np.count_nonzero(self.table[: len(lengths)], axis=1)
        wanted = count_pages(lengths)
        for row in np.flatnonzero(wanted > owned):
            columns = np.arange(owned[row], wanted[row])
            pages = self.used + 1 + np.arange(len(columns))
            self.table[row, columns] = pages
            self.owner[pages] = row
            self.start[pages] = columns * PAGE
            self.used += len(pages)
        if self.used >= first:
            for buffer in self.buffers():  # a masked key has weight 0, but 0 * NaN is NaN
                buffer[first : self.used + 1] = 0

    def admit(self, prefilled, first, source):
        """Copies a prefilled cache: row first + i goes on from its sequence source[i]."""
        width = prefilled.layers[0].keys.shape[2]
        columns = count_pages(width)
        pages = self.table[first : first + len(source), :columns]
        rows, columns_used = np.nonzero(pages)
        target = pages[rows, columns_used]
        for layer, found in enumerate(prefilled.layers):
            for store, new in ((self.keys, found.keys), (self.values, found.values)):
                if layer not in store:
                    shape = (1 + self.pages, new.shape[1], PAGE, new.shape[3])
                    store[layer] = new.new_empty(shape)
                    store[layer][0] = 0
                padded = F.pad(new, (0, 0, 0, columns * PAGE - width))
                cut = padded.unflatten(2, (columns, PAGE))  # (B, kv_heads, columns, PAGE, D)
                store[layer][target] = cut[source[rows], :, columns_used]

    def release(self, rows):
        """Takes the rows' pages; the last pages in use move into the gaps."""
        freed = self.table[rows]
        freed = freed[freed > 0]
        self.table[rows] = 0
        before = self.used
        self.used -= len(freed)
        gaps = freed[freed <= self.used]
        moved = np.setdiff1d(np.arange(self.used + 1, before + 1), freed)
        self.owner[gaps] = self.owner[moved]
        self.start[gaps] = self.start[moved]
        self.table[self.owner[gaps], self.start[gaps] // PAGE] = gaps
        self.owner[self.used + 1 : before + 1] = 0
        self.start[self.used + 1 : before + 1] = FAR
        if len(gaps):
            for buffer in self.buffers():
                buffer[gaps] = buffer[moved]

    def move(self, sources, targets):
        """Rows get other numbers; their pages stay where they are."""
        self.table[targets] = self.table[sources]
        self.table[sources] = 0
        for row in targets:
            pages = self.table[row]
            self.owner[pages[pages > 0]] = row

    def upload(self):
        for copy, array in zip(self.copies, self.arrays()):
            copy.copy_(torch.from_numpy(array))

    def step(self, positions, pages, columns):
        """Prepares a decode step of rows 0..B at `positions` (B,): what all layers share.

        All pages in use are among the first `pages`, and no row has more than `columns`.
        """
        table, owner, start = self.copies
        self.place = (
            table[: len(positions)].gather(1, positions[:, None] // PAGE)[:, 0],
            positions % PAGE,
        )
        self.table_read = table[: len(positions), :columns]
        self.owner_read = owner[:pages]
        at = start[:pages, None] + torch.arange(PAGE, device=positions.device)
        self.mask = torch.zeros(at.shape, device=positions.device)
        self.mask.masked_fill_(at > positions[self.owner_read, None], MASKED)
        self.mask = self.mask[:, None, None]  # (pages, 1, 1, PAGE)

    def update(self, key, value, layer, *args, **kwargs):
        """Writes (B, kv_heads, 1, D) at each row's position; returns the pages that are read."""
        pages, places = self.place
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            # Under autocast, prefill may have kept a wider type.
            store[pages, :, places] = new[:, :, 0].to(store.dtype)
        read = slice(len(self.owner_read))
        return self.keys[layer][read], self.values[layer][read]

    def get_seq_length(self, layer=0):
        return 0

    def attend(self, module, query, key, value, attention_mask, scaling, **kwargs):
        """What layers call instead of their attention: (B, 1, heads, D), and no weights."""
        pages = (key, value, attention_mask, self.owner_read, self.table_read)
        return attend_pages(query[:, :, 0], *pages, scaling)[:, None], None


def count_pages(tokens):
    return -(-tokens // PAGE)


def fit_pages(keys, slots, longest):
    """How many pages to have for up to `keys` tokens, in `slots` rows of up to `longest`.

    Raises ValueError where one such row has no room.
    """
    one = count_pages(longest)
    pages = int(min(keys / PAGE, slots * one))
    if pages < one:
        raise ValueError(
            f"one response may have {longest} keys, and there is room for {max(0, pages) * PAGE}. "
            "Lower the budget, or use a smaller model."
        )
    return pages


# --------------------------------------------------------------------------------------------------
# Attention


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
