"""The sampler's keys and values, and how a decode step reads them.

    SlotCache         one preallocated (slots, kv_heads, length, head_dim) buffer a layer; each row
                      writes at its own position, and none is padded
    decode_attention  one new query a row against all its keys
    DecodeGraphs      on CUDA, a decode step as one launch instead of hundreds

rollout.py tells the story; this file is where it is quick. Left out: a paged cache (a slot has room
for the whole budget, of which a CPU only pays for what is written), windows, quantised keys.
"""

import warnings
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from transformers import AttentionInterface


class SlotCache:
    """Keys and values of the live rows: a decode step's cache; attention layers call `update`."""

    def __init__(self, slots, length):
        self.slots = slots
        self.length = length
        # layer -> (slots, kv_heads, length, head_dim), made when the first prompts arrive
        self.keys = {}
        self.values = {}
        self.longest = 0  # no live row has written at or beyond it
        self.cleared = 0  # live rows hold no leftovers before it
        # Of the step that is being decoded: its rows (B,), and where each writes (B,).
        self.rows = None
        self.positions = None

    def buffers(self):
        return (*self.keys.values(), *self.values.values())

    def admit(self, prefilled, rows, copies):
        """Copies each prompt's prefilled cache to its group's rows.

        Prompt i goes to the `copies` rows from rows.start + i * copies on.
        """
        width = prefilled.layers[0].keys.shape[2]
        self.clear(rows.start, width)
        self.longest = max(self.longest, width)
        for layer, source in enumerate(prefilled.layers):
            # new: (prompts, kv_heads, P, head_dim)
            for store, new in ((self.keys, source.keys), (self.values, source.values)):
                if layer not in store:
                    shape = (self.slots, new.shape[1], self.length, new.shape[3])
                    store[layer] = new.new_empty(shape)
                store[layer][rows, :, :width] = new.repeat_interleave(copies, dim=0)
                store[layer][rows, :, width : self.cleared] = 0

    def clear(self, live, length):
        """Zeros the live rows a little ahead of `length`.

        A masked position has weight 0, but 0 * NaN is NaN. On a CPU, what is never cleared is never
        in memory: the budget costs nothing until responses are that long.
        """
        if length > self.cleared:
            end = min(self.length, length + 64)
            for buffer in self.buffers():
                buffer[:live, :, self.cleared : end] = 0
            self.cleared = end

    def move(self, sources, targets):
        for buffer in self.buffers():
            buffer[targets, :, : self.longest] = buffer[sources, :, : self.longest]

    def step(self, positions, longest):
        """Prepares a decode step of rows 0..B at `positions` (B,), all of them before `longest`."""
        self.clear(len(positions), longest)
        self.positions = positions
        self.longest = longest
        self.rows = torch.arange(len(positions), device=positions.device)

    def update(self, key, value, layer, *args, **kwargs):
        """Writes (B, kv_heads, 1, head_dim) at each row's position; returns all keys and values."""
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            # Under autocast, prefill may have kept a wider type.
            store[self.rows, :, self.positions] = new[:, :, 0].to(store.dtype)
        live = len(self.rows)
        keys = self.keys[layer][:live, :, : self.longest]
        values = self.values[layer][:live, :, : self.longest]
        return keys, values

    def get_seq_length(self, layer=0):
        return self.longest


def decode_attention(module, query, key, value, attention_mask, scaling, **kwargs):
    """Attention of one new token a row: (B, 1, heads, D), and no weights, as transformers wants it.

    query (B, heads, 1, D); key, value (B, kv_heads, L, D); attention_mask (B, 1, 1, L), added. The
    heads that share a key/value head go through one product, so that the cache is read once and
    never repeated. In fp32, two batched products and a softmax are twice as quick on a CPU as the
    fused kernel, which is made for long queries; in bf16 they would round the scores, which the
    fused kernel keeps in fp32.
    """
    batch, heads, _, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)  # (B, kv_heads, heads / kv_heads, D)
    if query.dtype == torch.float32:
        scores = torch.matmul(grouped, key.transpose(2, 3))  # (B, kv_heads, heads / kv_heads, L)
        scores.mul_(scaling).add_(attention_mask)
        output = torch.matmul(scores.softmax(dim=-1), value)
    else:
        mask = attention_mask.to(query.dtype)
        output = F.scaled_dot_product_attention(grouped, key, value, mask, scale=scaling)
    return output.reshape(batch, 1, heads, width), None


AttentionInterface.register("decode", decode_attention)


@contextmanager
def attention(model, name):
    """The model with another attention function for a while."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


class DecodeGraphs:
    """A decode step as CUDA graphs: one launch a step, where a small batch waits for hundreds.

    A graph has fixed shapes, so rows and length are rounded up to powers of two, and a few graphs
    serve a whole batch. The rows beyond the live ones compute what nobody reads, in slots that the
    next prompt overwrites.
    """

    def __init__(self, decode, slots, length):
        self.decode = decode
        self.most = (slots, length)
        self.graphs = {}  # (rows, length) -> a function that gives the logits (rows, V)
        self.pool = None  # memory that all graphs share

    def capture(self, shape):
        # First without a graph, which makes what a graph cannot: workspaces, autocast's weights. A
        # step that is done twice is harmless.
        self.decode(*shape)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            logits = self.decode(*shape)
        self.pool = graph.pool()

        def replay():
            graph.replay()
            return logits

        return replay

    def __call__(self, rows, longest):
        """What decode(rows, longest) returns: logits (rows, V)."""
        powers = [1 << (n - 1).bit_length() for n in (rows, longest)]
        shape = tuple(map(min, powers, self.most))
        if shape not in self.graphs:
            try:
                self.graphs[shape] = self.capture(shape)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a model that waits for the device in its forward, say
                warnings.warn(f"decoding without a CUDA graph, hence slower: {error}")
                self.graphs[shape] = lambda: self.decode(*shape)
        return self.graphs[shape]()[:rows]


def use_graphs(device):
    return device.type == "cuda"
