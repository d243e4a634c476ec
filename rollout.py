"""A batched sampler with its own key/value cache, for any decoder-only `AutoModelForCausalLM`.

Rollouts are most of the cost of RL on a reasoning model (Section 1 of the paper), so this is where
the time goes, and saving it is TFPI's point. What `model.generate` does with left padding, a
growing cache and rows that wait for the longest one, is done here with *slots*:

    prefill  a prompt runs once for its whole group, then its keys and values are copied to the
             group's slots
    decode   one token a step for all live rows, which always stand in the first slots
    free     a row that ends is replaced by the last live one
    refill   when a quarter of the slots is free, the next groups of the queue move in, so a
             straggler never holds up the others
    wait     when memory for keys is used up, the youngest row waits, and goes on later

Every request draws from a random stream of its own, keyed by (seed, index): what it writes does not
depend on which other requests share its batch. Top-k and top-p are for evaluation alone: log-probs
are those of the distribution that was drawn from, and the trainer's (logprobs.py) are of the whole
one: a ratio of the two would be wrong. Left out: beam search, penalties, sliding-window layers.
"""

from array import array
from collections import deque
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers import DynamicCache

from cache import PAGE, PagePool, attention, count_pages, fit_pages
from support.graphs import DecodeGraphs, use_graphs
from support.memory import PREFILL, keys_that_fit
from support.model import check_request, forward_hidden, pad_right


@dataclass
class Rollout:
    """One sampled response, and what grading and the group's advantages (grpo.py) say of it."""

    # Arrays of four bytes a number: in lists, 2,000 responses of 32K tokens would take 4 GB.
    prompt_ids: array  # of token ids, "i"
    response_ids: array  # the stop token included, so that the loss can teach it
    logprobs: array  # "f": of response_ids, under the distribution that was drawn from
    finished: bool  # False when cut at the budget
    text: str = ""
    gold: str = ""  # the right answer
    answer: str | None = None  # the text's own
    correct: bool = False  # what accuracy counts, and dynamic sampling
    reward: float = 0.0  # r(x, y); not the same once it knows partial credit or a penalty
    advantage: float = 0.0


# --------------------------------------------------------------------------------------------------
# Draws


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


@dataclass
class Waiting:
    """A sequence that is to run once, and the requests that go on from its end."""

    ids: list[int]  # a prompt, and what was written before the row was put back
    requests: list[int]
    written: int = 0


class Sampler:
    """One call of `generate`: the queue, and the rows that are being written.

    Live rows stand in the first slots. With groups of two and eight slots:

        slot                    0  1  2  3  4  5  6  7
        decode                  a  a  b  b  c  c  d  d      eight live rows, one token each a step
        three rows end          a  .  b  .  c  c  .  d
        they are freed          a  c  b  d  c  .  .  .      the last live rows move into the gaps
        refill                  a  c  b  d  c  e  e  .      prompt e runs once, for both its rows
        no page is left         a  c  b  d  c  e  .  .      the youngest waits, and goes on later

    A row serves one request: sample s of prompt p has number p * samples + s.
    """

    def __init__(self, model, prompts, budget, stop_ids, draw, streams, samples, slots, pages):
        self.model = model
        self.project = model.get_output_embeddings()  # logits (B, V) of last states (B, H)
        self.device = model.device
        self.prompts = prompts
        self.samples = samples
        self.budget = budget
        self.draw = draw  # tokens (B,) and log-probs (B,) from logits (B, V) and uniforms (B,)
        self.streams = streams  # the key of each request's random stream
        self.stops = torch.tensor(sorted(stop_ids), device=self.device)
        requests = len(prompts) * samples
        groups = np.arange(requests).reshape(-1, samples).tolist()
        self.queue = deque(map(Waiting, prompts, groups))
        self.slots = min(slots, requests)
        length = max(map(len, prompts)) + self.budget
        pages = min(pages, self.slots * count_pages(length))
        self.cache = PagePool(pages, self.slots, length, self.device)
        self.live = 0  # rows that are being written
        zeros = partial(torch.zeros, device=self.device)
        # What is known of a row: how many keys it has (on the host), its request, its last token,
        # that token's position, how many tokens it has written, its random numbers.
        self.keys = np.zeros(self.slots, dtype=np.int64)
        self.request = zeros(self.slots, dtype=torch.long)
        self.token = zeros(self.slots, dtype=torch.long)
        self.position = zeros(self.slots, dtype=torch.long)
        self.written = zeros(self.slots, dtype=torch.long)
        self.uniforms = zeros(self.slots, self.budget)
        # What is known of a request.
        self.tokens = zeros(requests, self.budget, dtype=torch.int32)
        self.logprobs = zeros(requests, self.budget)
        self.lengths = zeros(requests, dtype=torch.long)
        self.finished = zeros(requests, dtype=torch.bool)
        most = (self.slots, 1 + pages, count_pages(length))
        graphs = use_graphs(self.device)
        self.next_logits = DecodeGraphs(self.decode, most) if graphs else self.decode

    def step(self):
        """New rows if a quarter of the slots is free, else one more token for all live rows."""
        if self.live <= self.slots * 3 // 4 and (entering := self.take_waiting()):
            return self.refill(entering)
        while not self.cache.has_room(self.keys[: self.live] + 1):
            self.put_back(int(self.written[: self.live].argmin()))
        self.keys[: self.live] += 1
        self.position[: self.live] += 1
        self.cache.grow(self.keys[: self.live])
        self.cache.upload()
        columns = count_pages(int(self.keys[: self.live].max()))
        return self.record(0, self.next_logits(self.live, 1 + self.cache.used, columns))

    def take_waiting(self):
        """Those at the queue's front that there is room for, with a page more for each row."""
        taken = []
        keys = self.keys[: self.live].tolist()
        longest = 0
        while self.queue:
            ids = self.queue[0].ids
            keys += [len(ids)] * len(self.queue[0].requests)
            longest = max(longest, len(ids))
            too_many = taken and (len(taken) + 1) * longest > PREFILL
            if too_many or len(keys) > self.slots or not self.cache.has_room(np.add(keys, PAGE)):
                break
            taken.append(self.queue.popleft())
        return taken

    def refill(self, entering):
        """Runs what waited, fills a row for each of its requests, and draws their next tokens."""
        logits, prefilled, ends = self.prefill([waiting.ids for waiting in entering])
        first = self.live
        source = np.repeat(np.arange(len(entering)), [len(w.requests) for w in entering])
        requests = [request for waiting in entering for request in waiting.requests]
        self.live += len(requests)
        rows = slice(first, self.live)
        self.keys[rows] = [len(entering[i].ids) for i in source]
        self.cache.grow(self.keys[: self.live])
        self.cache.admit(prefilled, first, source)
        self.request[rows] = torch.tensor(requests, device=self.device)
        self.written[rows] = torch.tensor([entering[i].written for i in source], device=self.device)
        source = torch.from_numpy(source).to(self.device)
        self.position[rows] = ends[source] - 1
        drawn = [draw_uniforms(*self.streams[i], self.budget) for i in requests]
        self.uniforms[rows] = torch.from_numpy(np.stack(drawn)).to(self.device)
        return self.record(first, logits[source])

    def prefill(self, sequences):
        """Logits (B, V) after each sequence, its keys and values, and its length (B,).

        Pitfall: padding. Right padding under a causal mask: no real token sees a pad, and positions
        start at 0, so no attention mask is needed.
        """
        ids, ends = pad_right(sequences, self.device)
        prefilled = DynamicCache()
        hidden = forward_hidden(self.model, ids, prefilled)
        last = hidden[torch.arange(len(sequences), device=self.device), ends - 1]
        return self.project(last), prefilled, ends

    def decode(self, rows, pages, columns):
        """Logits (rows, V) after the first rows' last tokens; pages, columns: PagePool.step's."""
        positions = self.position[:rows]
        self.cache.step(positions, pages, columns)
        with attention(self.model, self.cache.attend):
            hidden = forward_hidden(
                self.model,
                self.token[:rows, None],
                self.cache,
                position_ids=positions[:, None],
                attention_mask=self.cache.mask,
            )
        return self.project(hidden[:, -1])

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
            ended += first
            request = self.request[ended]
            self.lengths[request] = self.written[ended]
            self.finished[request] = stopped[ended - first]
            self.free(ended.tolist())
        return len(logits), len(ended)

    def put_back(self, row):
        """The row's request waits again, with what it has written; its random stream goes on."""
        request = int(self.request[row])
        written = int(self.written[row])
        ids = self.prompts[request // self.samples] + self.tokens[request, :written].tolist()
        self.queue.appendleft(Waiting(ids, [request], written))
        self.free([row])

    def free(self, places):
        """Frees places of rows; the last live rows move into the gaps."""
        self.cache.release(places)
        before = self.live
        self.live -= len(places)
        if gaps := [row for row in places if row < self.live]:
            sources = sorted(set(range(self.live, before)) - set(places))
            self.cache.move(sources, gaps)
            self.keys[gaps] = self.keys[sources]
            sources, gaps = torch.tensor([sources, gaps], device=self.device)
            for state in (self.request, self.token, self.position, self.written, self.uniforms):
                state[gaps] = state[sources]

    def rollouts(self):
        """All requests' rollouts, in the order of the requests."""
        tokens = self.tokens.cpu().numpy()
        logprobs = self.logprobs.cpu().numpy()
        found = []
        for i, (length, finished) in enumerate(zip(self.lengths.tolist(), self.finished.tolist())):
            prompt = array("i", self.prompts[i // self.samples])
            response = array("i", tokens[i, :length].tobytes())
            own = array("f", logprobs[i, :length].tobytes())
            found.append(Rollout(prompt, response, own, finished))
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
    numbers=None,
    slots=256,
    keys=None,
    progress=lambda drawn, ended: None,
):
    """Samples `samples` responses to each prompt: list[Rollout], prompt by prompt.

    Group g is [g * samples:(g + 1) * samples]. prompts: lists of token ids. stop_ids: every id that
    ends a response (a model may have several; the sampler, the loss mask and the `finished` flag
    share this one set). numbers: the prompts' among all that are asked here and elsewhere; random
    streams go by them. At most `slots` responses are written at once, and the keys of at most
    `keys` tokens are kept (None: of as many as there is memory for). progress is called with the
    numbers of new tokens and ended responses. Raises ValueError for what cannot be served.
    """
    if not prompts:
        return []
    check_request(model, prompts, max_new_tokens, temperature)
    model.eval()
    prompt = max(map(len, prompts))
    longest = prompt + max_new_tokens
    keys = keys_that_fit(model, slots, longest) if keys is None else keys
    pages = fit_pages(keys, slots, longest)
    # A prompt's rows move in together. Where they are too many, it is run again for each part.
    at_once = min(slots, pages // count_pages(min(prompt + PAGE, longest)))
    part = max(n for n in range(1, samples + 1) if samples % n == 0 and n <= at_once)
    numbers = numbers or range(len(prompts))
    streams = [(seed, number * samples + i) for number in numbers for i in range(samples)]
    prompts = [prompt for prompt in prompts for _ in range(samples // part)]
    draw = partial(sample_tokens, temperature=temperature, top_k=top_k, top_p=top_p)
    sampler = Sampler(model, prompts, max_new_tokens, stop_ids, draw, streams, part, slots, pages)
    while sampler.live or sampler.queue:
        progress(*sampler.step())
    del sampler.next_logits  # a circle: all keys would stay until Python looks for circles
    return sampler.rollouts()
