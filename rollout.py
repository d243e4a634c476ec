"""A batched sampler with its own key/value cache, for any decoder-only `AutoModelForCausalLM`.

Rollouts are most of the cost of RL on a reasoning model (Section 1 of the paper), so this is where the time goes, and
saving it is TFPI's point. What `model.generate` does with left padding, a growing cache and rows that wait for the
longest one, is done here with *slots*:

    cache    one preallocated (slots, kv_heads, length, head_dim) buffer a layer; each row writes at its own position,
             none is padded
    prefill  a prompt runs once for its whole group, then its keys and values are copied to the group's slots
    decode   one token a step for all live rows, which always stand in the first slots; a row that ends is replaced by
             the last live one
    refill   when a quarter of the slots is free, the next groups of the queue move in, so a straggler never holds up
             the others

Every request draws from a random stream of its own, keyed by (seed, index): what it writes does not depend on which
other requests share its batch. Left out: beam search, top-k, top-p and penalties, since the log-probs of RL must be
those of the distribution sampled from (a truncated distribution needs truncated log-probs in the trainer too);
sliding-window layers, which the cache has no place for.
"""

import inspect
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, DynamicCache

from support.model import forward_hidden


@dataclass
class Rollout:
    """One sampled response; `logprobs` are its tokens' under the distribution sampled from (temperature applied)."""

    prompt_ids: list[int]
    response_ids: list[int]  # the stop token included, so that the loss can teach it
    logprobs: list[float]
    finished: bool  # False when cut at the budget


class SlotCache:
    """Keys and values of the live rows: what a decode step gets as its cache; attention layers call `update`."""

    def __init__(self, slots, length):
        self.slots, self.length = slots, length
        # layer -> (slots, kv_heads, length, head_dim), made when the first prompts arrive
        self.keys, self.values = {}, {}
        self.rows, self.positions, self.longest, self.cleared = None, None, 0, 0

    def buffers(self):
        return (*self.keys.values(), *self.values.values())

    def admit(self, prefilled, rows, copies):
        """Copies each prompt's prefilled cache to its group's rows: prompt i to rows[i * copies:(i + 1) * copies]."""
        width = prefilled.layers[0].keys.shape[2]
        self.clear(rows.start, width)
        self.longest = max(self.longest, width)
        for layer, source in enumerate(prefilled.layers):
            # new: (prompts, kv_heads, P, head_dim)
            for store, new in ((self.keys, source.keys), (self.values, source.values)):
                if layer not in store:
                    store[layer] = new.new_empty(
                        self.slots, new.shape[1], self.length, new.shape[3]
                    )
                store[layer][rows, :, :width] = new.repeat_interleave(copies, dim=0)
                store[layer][rows, :, width : self.cleared] = 0

    def clear(self, live, length):
        """Zeros the live rows a little ahead of `length`: a masked position gets weight 0, but 0 * NaN is NaN.

        On a CPU, what is never cleared is never in memory: the budget costs nothing until responses are that long.
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
        """Prepares a decode step of rows 0..B at `positions` (B,), of which none is beyond `longest`."""
        self.clear(len(positions), longest)
        self.positions, self.longest = positions, longest
        self.rows = torch.arange(len(positions), device=positions.device)

    def update(self, key, value, layer, *args, **kwargs):
        """Writes the new token's key and value (B, kv_heads, 1, head_dim) at its row's position; returns all so far."""
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            # Under autocast, prefill may have kept a wider type.
            store[self.rows, :, self.positions] = new[:, :, 0].to(store.dtype)
        live = len(self.rows)
        return self.keys[layer][:live, :, : self.longest], self.values[layer][
            :live, :, : self.longest
        ]

    def get_seq_length(self, layer=0):
        return self.longest


def decode_attention(module, query, key, value, attention_mask, scaling, **kwargs):
    """Attention of one new token a row: query (B, heads, 1, D); key, value (B, kv_heads, L, D); mask (B, 1, 1, L) added.

    The heads that share a key/value head go through one product, so that the cache is read once and never repeated.
    In fp32, two batched products and a softmax are twice as quick on a CPU as the fused kernel, which is made for long
    queries; in bf16 they would round the scores, which the fused kernel keeps in fp32. Returns (B, 1, heads, D) and no
    weights, as transformers wants it.
    """
    batch, heads, _, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)  # (B, kv_heads, heads / kv_heads, D)
    if query.dtype == torch.float32:
        scores = (
            torch.matmul(grouped, key.transpose(2, 3)).mul_(scaling).add_(attention_mask)
        )  # (.., L)
        output = torch.matmul(scores.softmax(dim=-1), value)
    else:
        output = F.scaled_dot_product_attention(
            grouped, key, value, attention_mask.to(query.dtype), scale=scaling
        )
    return output.reshape(batch, 1, heads, width), None


AttentionInterface.register("decode", decode_attention)


@contextmanager
def attention(model, name):
    """The model with another attention function for a while."""
    before, model.config._attn_implementation = model.config._attn_implementation, name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def sample_tokens(logits, uniforms, temperature):
    """Draws one token a row by inverting the cumulative distribution at `uniforms`.

    logits (B, V) of any float type, uniforms (B,) float32 in [0, 1). Returns tokens (B,) int64 and their log-probs
    (B,) float32, computed in fp32 whatever the model's type. Temperature 0 takes the likeliest token, with
    log-prob 0: it was certain.
    """
    if temperature == 0:
        tokens = logits.argmax(dim=-1)
        return tokens, torch.zeros(len(tokens), device=logits.device)
    logits = logits.float()
    if temperature != 1:
        logits = logits / temperature
    largest = logits.amax(dim=-1, keepdim=True)  # (B, 1)
    cumulative = (logits - largest).exp_().cumsum(dim=-1)  # (B, V), not normalised
    total = cumulative[:, -1:]
    # right=True skips tokens of probability 0, whose cumulative value equals their predecessor's.
    tokens = torch.searchsorted(cumulative, uniforms[:, None] * total, right=True).clamp_(
        max=logits.shape[-1] - 1
    )
    return tokens[:, 0], (logits.gather(1, tokens) - largest - total.log())[:, 0]


def check_request(model, prompts, max_new_tokens, temperature):
    if max_new_tokens < 1:
        raise ValueError(f"the response budget is {max_new_tokens}; it must be at least 1 token.")
    if temperature < 0:
        raise ValueError(f"the temperature is {temperature}; it must be 0 (greedy) or positive.")
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt is empty; it must have at least 1 token.")
    longest, context = (
        max(map(len, prompts)),
        getattr(model.config, "max_position_embeddings", None),
    )
    if context and longest + max_new_tokens > context:
        raise ValueError(
            f"a prompt of {longest} tokens and a budget of {max_new_tokens} exceed the model's context "
            f"of {context}; lower the budget."
        )
    # Where the config lists no layer types, sliding_window decides.
    window = (
        "sliding_attention" if getattr(model.config, "sliding_window", None) else "full_attention"
    )
    if any(
        kind != "full_attention" for kind in getattr(model.config, "layer_types", None) or [window]
    ):
        raise ValueError(
            "the model has sliding-window or linear attention layers, "
            "which this sampler does not support."
        )


def cache_argument(model):
    """What the model's forward calls its cache: `cache` in newer transformers, `past_key_values` in older ones."""
    return (
        "cache"
        if "cache" in inspect.signature(model.base_model.forward).parameters
        else "past_key_values"
    )


class DecodeGraphs:
    """A decode step as CUDA graphs: one launch a step, where a small batch waits for hundreds of them otherwise.

    A graph has fixed shapes, so rows and length are rounded up to powers of two, and a few graphs serve a whole batch.
    The rows beyond the live ones compute what nobody reads, in slots that the next prompt overwrites.
    """

    def __init__(self, decode, slots, length):
        self.decode, self.most, self.graphs, self.pool = decode, (slots, length), {}, None

    def capture(self, shape):
        self.decode(
            *shape
        )  # makes what a graph cannot: workspaces, autocast's weights; a step done twice is harmless
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            logits = self.decode(*shape)
        self.pool = graph.pool()

        def replay():
            graph.replay()
            return logits

        return replay

    def __call__(self, rows, longest):
        shape = tuple(
            min(1 << (n - 1).bit_length(), most) for n, most in zip((rows, longest), self.most)
        )
        if shape not in self.graphs:
            try:
                self.graphs[shape] = self.capture(shape)
            except torch.OutOfMemoryError:
                raise
            except (
                RuntimeError
            ) as error:  # a model that waits for the device inside its forward, say
                warnings.warn(f"decoding without a CUDA graph, hence slower: {error}")
                self.graphs[shape] = lambda: self.decode(*shape)
        return self.graphs[shape]()[:rows]


def use_graphs(device):
    return device.type == "cuda"


@torch.inference_mode()
def generate(
    model,
    prompts,
    *,
    max_new_tokens,
    stop_ids,
    temperature=1.0,
    seed=0,
    samples=1,
    slots=256,
    progress=None,
):
    """Samples `samples` responses to each prompt: list[Rollout], prompt by prompt.

    Group g is [g * samples:(g + 1) * samples]. prompts: list of token-id lists. stop_ids: every id that ends a
    response (a model may have several; the sampler, the loss mask and the `finished` flag share this one set).
    slots bounds the batch, and with max_new_tokens the memory, whatever the number of prompts. progress, if given,
    is called with the numbers of new tokens and finished responses after each step. Raises ValueError for a
    request that cannot be served.
    """
    if not prompts:
        return []
    check_request(model, prompts, max_new_tokens, temperature)
    model.eval()
    device, head, cache_name = model.device, model.get_output_embeddings(), cache_argument(model)
    slots = max(min(slots, len(prompts) * samples), samples)
    cache = SlotCache(slots, max(map(len, prompts)) + max_new_tokens)
    stops = torch.tensor(sorted(stop_ids), device=device)
    tokens_out = torch.zeros(
        len(prompts) * samples, max_new_tokens, dtype=torch.int32, device=device
    )
    logprobs_out = torch.zeros(len(prompts) * samples, max_new_tokens, device=device)
    lengths, finished = [0] * len(tokens_out), [False] * len(tokens_out)
    # The state of a row: which request it serves, its last token, where that token goes, how many it has written, its
    # random numbers.
    request, token, position, written = (
        torch.zeros(slots, dtype=torch.long, device=device) for _ in range(4)
    )
    uniforms = torch.zeros(slots, max_new_tokens, device=device)
    live, queued, longest = 0, 0, 0  # longest: keys of the longest live row, 0 when not known

    def prefill(batch):
        """Logits (prompts, V) after each prompt, and its keys and values."""
        ids, ends = pad_right(batch, device)
        prefilled = DynamicCache()
        # Right padding under a causal mask: no real token sees a pad, and positions start at 0, so no attention mask
        # is needed.
        hidden = forward_hidden(model, input_ids=ids, use_cache=True, **{cache_name: prefilled})
        return head(hidden[torch.arange(len(batch), device=device), ends - 1]), prefilled, ends

    def decode(rows, length):
        """Logits (rows, V) of the next token of the first rows, none of which has more than `length` keys."""
        cache.step(position[:rows], length)
        hidden_keys = torch.arange(length, device=device) > position[:rows, None]  # (B, L)
        mask = torch.zeros(rows, 1, 1, length, device=device).masked_fill_(
            hidden_keys[:, None, None], -torch.inf
        )
        with attention(model, "decode"):
            hidden = forward_hidden(
                model,
                input_ids=token[:rows, None],
                position_ids=position[:rows, None],
                attention_mask=mask,
                use_cache=True,
                **{cache_name: cache},
            )
        return head(hidden[:, -1])

    def retire(ended, stopped):
        """Frees the places of rows that ended; the last live rows move into them, so that live rows stay together."""
        nonlocal live, longest
        for index, length, stop in zip(
            request[ended].tolist(), written[ended].tolist(), stopped.tolist()
        ):
            lengths[index], finished[index] = length, stop
        places = ended.tolist()
        live, longest = live - len(places), 0
        targets = [row for row in places if row < live]
        if targets:
            sources = sorted(set(range(live, live + len(places))) - set(places))
            sources, targets = torch.tensor([sources, targets], device=device)
            cache.move(sources, targets)
            for state in (request, token, position, written, uniforms):
                state[targets] = state[sources]

    def record(first, last, logits):
        """Samples for rows first..last, stores the tokens, and retires the rows that ended."""
        rows = slice(first, last)
        token[rows], logprob = sample_tokens(
            logits, uniforms[rows].gather(1, written[rows, None])[:, 0], temperature
        )
        tokens_out[request[rows], written[rows]] = token[rows].int()
        logprobs_out[request[rows], written[rows]] = logprob
        written[rows] += 1
        stopped = torch.isin(token[rows], stops)
        # The one wait for the device in a step without an end.
        ended = (stopped | (written[rows] == max_new_tokens)).nonzero()[:, 0]
        if len(ended):
            retire(ended + first, stopped[ended])
        if progress:
            progress(last - first, len(ended))

    next_logits = DecodeGraphs(decode, slots, cache.length) if use_graphs(device) else decode
    while live or queued < len(prompts):
        free = min((slots - live) // samples, len(prompts) - queued)
        if free and (live == 0 or live <= slots * 3 // 4):
            logits, prefilled, ends = prefill(prompts[queued : queued + free])
            first, live, longest = live, live + free * samples, 0
            cache.admit(prefilled, slice(first, live), samples)
            new = range(queued * samples, (queued + free) * samples)
            request[first:live] = torch.arange(new.start, new.stop, device=device)
            position[first:live] = ends.repeat_interleave(samples) - 1
            written[first:live] = 0
            drawn = np.stack([draw_uniforms(seed, i, max_new_tokens) for i in new])
            uniforms[first:live] = torch.from_numpy(drawn).to(device)
            queued += free
            record(first, live, logits.repeat_interleave(samples, dim=0))
        else:
            position[:live] += 1
            longest = longest + 1 if longest else int(position[:live].max()) + 1
            record(0, live, next_logits(live, longest))

    tokens_out, logprobs_out = tokens_out.tolist(), logprobs_out.tolist()
    return [
        Rollout(list(prompts[i // samples]), tokens_out[i][:n], logprobs_out[i][:n], finished[i])
        for i, n in enumerate(lengths)
    ]


def draw_uniforms(seed, index, count):
    """The random stream of one request: (count,) float32 in [0, 1)."""
    return np.random.Generator(np.random.Philox(key=[seed, index])).random(count, dtype=np.float32)


def pad_right(sequences, device):
    """Token-id lists as ids (B, T) int64, padded with 0, and their lengths (B,)."""
    ids = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    for row, sequence in zip(ids, sequences):
        row[: len(sequence)] = sequence
    return torch.from_numpy(ids).to(device), torch.tensor(
        [len(s) for s in sequences], device=device
    )
