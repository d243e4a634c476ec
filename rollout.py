"""A batched sampler with its own key/value cache, for any decoder-only `AutoModelForCausalLM`.

Rollouts are most of the cost of RL on a reasoning model (Section 1 of the paper), so this is where
the time goes, and saving it is TFPI's point. What `model.generate` does with left padding, a
growing cache and rows that wait for the longest one, is done here with *slots*:

    prefill  a prompt runs once for its whole group, then its keys and values are copied to the
             group's slots
    decode   one token a step for all live rows, which always stand in the first slots
    retire   a row that ends is replaced by the last live one
    refill   when a quarter of the slots is free, the next groups of the queue move in, so a
             straggler never holds up the others

Every request draws from a random stream of its own, keyed by (seed, index): what it writes does not
depend on which other requests share its batch. Top-k and top-p are for evaluation alone: log-probs
are those of the distribution that was drawn from, and the trainer's (logprobs.py) are of the whole
one, so that its ratios to a truncated one would be wrong. Left out: beam search, penalties;
sliding-window layers, which the cache has no place for.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers import DynamicCache

from cache import DecodeGraphs, SlotCache, attention, use_graphs
from support.memory import slots_that_fit
from support.model import forward_hidden, longest_alike, pad_right


@dataclass
class Rollout:
    """One sampled response, and what grading and the group's advantages (grpo.py) say of it."""

    prompt_ids: list[int]
    response_ids: list[int]  # the stop token included, so that the loss can teach it
    logprobs: list[float]  # of response_ids, under the distribution that was drawn from
    finished: bool  # False when cut at the budget
    text: str = ""
    gold: str = ""  # the right answer
    correct: bool = False  # what accuracy counts, and dynamic sampling
    reward: float = 0.0  # r(x, y); not the same once it knows partial credit or a penalty
    advantage: float = 0.0


# --------------------------------------------------------------------------------------------------
# Requests and draws


def check_request(model, prompts, max_new_tokens, temperature):
    """Raises ValueError, naming the culprit, for a request that the sampler cannot serve."""
    if max_new_tokens < 1:
        raise ValueError(f"the response budget is {max_new_tokens}; it must be at least 1 token.")
    if temperature < 0:
        raise ValueError(f"the temperature is {temperature}; it must be 0 (greedy) or positive.")
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt is empty; it must have at least 1 token.")
    longest = max(map(len, prompts))
    context = getattr(model.config, "max_position_embeddings", None)
    asked = f"a prompt of {longest} tokens and a budget of {max_new_tokens} exceed"
    if context and longest + max_new_tokens > context:
        raise ValueError(f"{asked} the model's context of {context}; lower the budget.")
    limit, kind = longest_alike(model.config)
    if limit and longest + max_new_tokens > limit:
        raise ValueError(
            f"{asked} {limit}, beyond which the model encodes all positions otherwise ({kind}); "
            "lower the budget."
        )
    # Where the config lists no layer types, sliding_window decides.
    windows = getattr(model.config, "sliding_window", None)
    kinds = getattr(model.config, "layer_types", None)
    if any(kind != "full_attention" for kind in kinds or []) or (windows and not kinds):
        raise ValueError(
            "the model has sliding-window or linear attention layers, not served here."
        )


def stream_seed(*numbers):
    """One 63-bit seed of some whole numbers: of run, step and draw, say."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def draw_uniforms(seed, index, count):
    """The random stream of one request: (count,) float32 in [0, 1)."""
    stream = np.random.Generator(np.random.Philox(key=[seed, index]))
    return stream.random(count, dtype=np.float32)


def truncate(logits, top_k, top_p):
    """The logits (B, V) with -inf for tokens that are not to be drawn, as transformers' warpers do.

    Kept are the top_k likeliest (0: all), and of these the likeliest that together have probability
    top_p (1: all), one at least.
    """
    if 0 < top_k < logits.shape[-1]:
        last = logits.topk(top_k).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < last, -torch.inf)  # not what equals the last
    if top_p < 1:
        ordered, order = logits.sort(dim=-1)  # the least likely first
        dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        dropped[:, -1] = False
        logits = logits.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
    return logits


def sample_tokens(logits, uniforms, temperature, top_k=0, top_p=1.0):
    """Draws one token a row by inverting the cumulative distribution at `uniforms`.

    logits (B, V) of any float type, uniforms (B,) float32 in [0, 1). Returns tokens (B,) int64 and
    their log-probs (B,) float32: of the distribution that was drawn from (pitfall: temperature),
    computed in fp32 whatever the model's type (pitfall: dtype). Temperature 0 takes the likeliest
    token, with log-prob 0: it was certain. top_k, top_p: see truncate.
    """
    if temperature == 0:
        tokens = logits.argmax(dim=-1)
        return tokens, torch.zeros(len(tokens), device=logits.device)
    logits = logits.float()
    if temperature != 1:
        logits = logits / temperature
    logits = truncate(logits, top_k, top_p)
    largest = logits.amax(dim=-1, keepdim=True)  # (B, 1)
    cumulative = (logits - largest).exp_().cumsum(dim=-1)  # (B, V), not normalised
    total = cumulative[:, -1:]
    # right=True skips tokens of probability 0, whose cumulative value equals their predecessor's.
    tokens = torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)  # (B, 1)
    tokens = tokens.clamp_(max=logits.shape[-1] - 1)
    logprobs = logits.gather(1, tokens) - largest - total.log()
    return tokens[:, 0], logprobs[:, 0]


# --------------------------------------------------------------------------------------------------
# The sampler


class Sampler:
    """One call of `generate`: the queue of prompts, and the rows that are being written.

    Live rows stand in the first slots. With groups of two and eight slots:

        slot                    0  1  2  3  4  5  6  7
        decode                  a  a  b  b  c  c  d  d      eight live rows, one token each a step
        three rows end          a  .  b  .  c  c  .  d
        retire                  a  c  b  d  c  .  .  .      the last live rows move into the gaps
        refill                  a  c  b  d  c  e  e  .      prompt e runs once, for both its rows

    A row serves one request: sample s of prompt p has number p * samples + s.
    """

    def __init__(self, model, prompts, max_new_tokens, stop_ids, draw, seed, samples, slots):
        self.model = model
        self.device = model.device
        self.prompts = prompts
        self.samples = samples
        self.budget = max_new_tokens
        self.draw = draw  # tokens (B,) and log-probs (B,) from logits (B, V) and uniforms (B,)
        self.seed = seed
        self.stops = torch.tensor(sorted(stop_ids), device=self.device)
        requests = len(prompts) * samples
        self.slots = min(slots, requests)
        self.cache = SlotCache(self.slots, max(map(len, prompts)) + self.budget)
        self.queued = 0  # prompts that have moved in
        self.live = 0  # rows that are being written
        self.longest = 0  # keys of the longest live row; 0 when not known
        # What is known of a row: its request, its last token, that token's position, how many
        # tokens it has written, its random numbers.
        self.request = self.zeros(self.slots)
        self.token = self.zeros(self.slots)
        self.position = self.zeros(self.slots)
        self.written = self.zeros(self.slots)
        self.uniforms = self.zeros(self.slots, self.budget, dtype=torch.float32)
        # What is known of a request.
        self.tokens = self.zeros(requests, self.budget, dtype=torch.int32)
        self.logprobs = self.zeros(requests, self.budget, dtype=torch.float32)
        self.lengths = [0] * requests
        self.finished = [False] * requests
        self.next_logits = self.decode
        if use_graphs(self.device):
            self.next_logits = DecodeGraphs(self.decode, self.slots, self.cache.length)

    def zeros(self, *shape, dtype=torch.long):
        return torch.zeros(*shape, dtype=dtype, device=self.device)

    def is_done(self):
        return not self.live and self.queued == len(self.prompts)

    def step(self):
        """New groups if a quarter of the slots is free, else one more token for all live rows."""
        waiting = len(self.prompts) - self.queued
        groups = min((self.slots - self.live) // self.samples, waiting)
        if groups and self.live <= self.slots * 3 // 4:
            return self.refill(groups)
        self.position[: self.live] += 1
        # After a retirement the longest row is another one, and only the device knows which.
        known = self.longest or int(self.position[: self.live].max())
        self.longest = known + 1
        return self.record(0, self.next_logits(self.live, self.longest))

    def refill(self, groups):
        """Runs the next prompts, fills their groups' rows with them, and draws first tokens."""
        logits, prefilled, ends = self.prefill(self.prompts[self.queued : self.queued + groups])
        first = self.live
        self.live += groups * self.samples
        rows = slice(first, self.live)
        requests = range(self.queued * self.samples, (self.queued + groups) * self.samples)
        self.queued += groups
        self.longest = 0
        self.cache.admit(prefilled, rows, self.samples)
        self.request[rows] = torch.arange(requests.start, requests.stop, device=self.device)
        self.position[rows] = ends.repeat_interleave(self.samples) - 1
        self.written[rows] = 0
        drawn = np.stack([draw_uniforms(self.seed, i, self.budget) for i in requests])
        self.uniforms[rows] = torch.from_numpy(drawn).to(self.device)
        return self.record(first, logits.repeat_interleave(self.samples, dim=0))

    def prefill(self, prompts):
        """Logits (prompts, V) after each prompt, its keys and values, and its length (prompts,).

        Pitfall: padding. Right padding under a causal mask: no real token sees a pad, and positions
        start at 0, so no attention mask is needed.
        """
        ids, ends = pad_right(prompts, self.device)
        prefilled = DynamicCache()
        hidden = forward_hidden(self.model, ids, prefilled)
        last = hidden[torch.arange(len(prompts), device=self.device), ends - 1]
        return self.project(last), prefilled, ends

    def decode(self, rows, length):
        """Logits (rows, V) after the first rows' last tokens; no row has over `length` keys."""
        positions = self.position[:rows]
        self.cache.step(positions, length)
        unseen = torch.arange(length, device=self.device) > positions[:, None]  # (B, L)
        mask = torch.zeros(rows, 1, 1, length, device=self.device)
        mask.masked_fill_(unseen[:, None, None], -torch.inf)
        with attention(self.model, "decode"):
            hidden = forward_hidden(
                self.model,
                self.token[:rows, None],
                self.cache,
                position_ids=positions[:, None],
                attention_mask=mask,
            )
        return self.project(hidden[:, -1])

    def project(self, hidden):
        return self.model.get_output_embeddings()(hidden)

    def record(self, first, logits):
        """Draws and stores a token for each live row from `first` on; retires the rows that ended.

        Returns how many were drawn, and how many rows ended.
        """
        rows = slice(first, self.live)
        uniforms = self.uniforms[rows].gather(1, self.written[rows, None])[:, 0]
        self.token[rows], logprobs = self.draw(logits, uniforms)
        place = (self.request[rows], self.written[rows])
        self.tokens[place] = self.token[rows].int()
        self.logprobs[place] = logprobs
        self.written[rows] += 1
        stopped = torch.isin(self.token[rows], self.stops)
        # The one wait for the device in a step without an end.
        ended = (stopped | (self.written[rows] == self.budget)).nonzero()[:, 0]
        if len(ended):
            self.retire(ended + first, stopped[ended])
        return len(logits), len(ended)

    def retire(self, ended, stopped):
        """Frees the places of rows that ended; the last live rows move into the gaps."""
        lengths = self.written[ended].tolist()
        for request, length, stop in zip(self.request[ended].tolist(), lengths, stopped.tolist()):
            self.lengths[request] = length
            self.finished[request] = stop
        places = ended.tolist()
        before = self.live
        self.live -= len(places)
        self.longest = 0
        gaps = [row for row in places if row < self.live]
        if gaps:
            sources = sorted(set(range(self.live, before)) - set(places))
            sources, gaps = torch.tensor([sources, gaps], device=self.device)
            self.cache.move(sources, gaps)
            for state in (self.request, self.token, self.position, self.written, self.uniforms):
                state[gaps] = state[sources]

    def rollouts(self):
        """All requests' rollouts, in the order of the requests."""
        tokens = self.tokens.tolist()
        logprobs = self.logprobs.tolist()
        found = []
        for i, length in enumerate(self.lengths):
            prompt = list(self.prompts[i // self.samples])
            written = (tokens[i][:length], logprobs[i][:length])
            found.append(Rollout(prompt, *written, self.finished[i]))
        return found


@torch.inference_mode()
def generate(
    model,
    prompts,
    *,
    max_new_tokens,
    stop_ids,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    seed=0,
    samples=1,
    slots=256,
    progress=None,
):
    """Samples `samples` responses to each prompt: list[Rollout], prompt by prompt.

    Group g is [g * samples:(g + 1) * samples]. prompts: lists of token ids. stop_ids: every id that
    ends a response (a model may have several; the sampler, the loss mask and the `finished` flag
    share this one set). slots bounds the batch, and so does the memory of a GPU, whatever the
    number of prompts. progress, if given, is called with the numbers of new tokens and finished
    responses after each step. Raises ValueError for a request that cannot be served.
    """
    if not prompts:
        return []
    check_request(model, prompts, max_new_tokens, temperature)
    model.eval()
    slots = min(slots, slots_that_fit(model, max(map(len, prompts)) + max_new_tokens))
    # A prompt's rows move in together. Where they are too many, it is run again for each part.
    part = max(n for n in range(1, samples + 1) if samples % n == 0 and (n <= slots or n == 1))
    prompts = [prompt for prompt in prompts for _ in range(samples // part)]
    samples = part
    draw = partial(sample_tokens, temperature=temperature, top_k=top_k, top_p=top_p)
    sampler = Sampler(model, prompts, max_new_tokens, stop_ids, draw, seed, samples, slots)
    while not sampler.is_done():
        drawn, ended = sampler.step()
        if progress:
            progress(drawn, ended)
    return sampler.rollouts()
