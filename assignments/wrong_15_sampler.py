"""Known wrong answers to assignment 15. See wrong.py.

They are slow samplers, each with one mistake, so that they do not depend on how the project's own
is built.
"""

HINTS = {
    "top-p is not passed on": "top_p is not passed on to the draw.",
}

SKIPPED = {
    "dropout is on in the sampler": "the grading tests' model has no dropout",
    "a circle keeps the keys after a call": "how the project's own sampler is built",
}

MORE = []

HEAD = """
def generate(
    model, prompts, *, max_new_tokens, stop_ids, temperature=1.0, top_k=0, top_p=1.0, seed=0,
    samples=1, slots=256, progress=None,
):
"""

# One response at a time, the whole sequence again for each token.
NAIVE = (
    HEAD
    + """
    found = []
    for request in range(len(prompts) * samples):
        prompt = list(prompts[request // samples])
        uniforms = torch.from_numpy(draw_uniforms(seed, request, max_new_tokens))
        response, logprobs, finished = [], [], False
        while len(response) < max_new_tokens and not finished:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + response])).logits[:, -1]
            u = uniforms[len(response)][None]
            token, logprob = sample_tokens(logits, u, temperature, top_k, top_p)
            response.append(token.item())
            logprobs.append(logprob.item())
            finished = response[-1] in stop_ids
        found.append(Rollout(prompt, response, logprobs, finished))
        if progress:
            progress(len(response), 1)
    return found
"""
)


# Keys and values are kept, row by row; rows are padded on the left for each step.
CACHED = (
    """
class Row:
    def __init__(self, request, prompt):
        self.request, self.prompt = request, prompt
        self.keys = []
        self.response, self.logprobs, self.finished = [], [], False

    def length(self):
        return self.keys[0][0].shape[1] if self.keys else 0

def pack(rows):
    longest = max(row.length() for row in rows)
    kept = DynamicCache()
    for layer in range(len(rows[0].keys)):
        parts = []
        for part in (0, 1):
            padded = []
            for row in rows:
                state = row.keys[layer][part]
                blank = state.new_zeros(state.shape[0], longest - state.shape[1], state.shape[2])
                padded.append(torch.cat([blank, state], dim=1))
            parts.append(torch.stack(padded))
        kept.update(*parts, layer)
    return kept, longest

def feed(model, rows):
    kept, longest = pack(rows)
    places = torch.tensor([[row.length()] for row in rows])
    sees = torch.arange(longest + 1) >= longest - places
    mask = torch.zeros(len(rows), 1, 1, longest + 1).masked_fill(~sees[:, None, None], -torch.inf)
    ids = torch.tensor([[row.response[-1]] for row in rows])
    hidden = forward_hidden(model, ids, kept, position_ids=places, attention_mask=mask)
    for i, row in enumerate(rows):
        n = row.length() + 1
        row.keys = [(l.keys[i, :, -n:], l.values[i, :, -n:]) for l in kept.layers]
    return model.get_output_embeddings()(hidden[:, -1])
"""
    + HEAD
    + """
    with torch.no_grad():
        waiting = list(range(len(prompts) * samples))
        rows, done, firsts = [], {}, {}
        while waiting or rows:
            while waiting and len(rows) < slots:
                request = waiting.pop(0)
                number = request // samples
                row = Row(request, list(prompts[number]))
                if number not in firsts:
                    kept = DynamicCache()
                    hidden = forward_hidden(model, torch.tensor([row.prompt]), kept)
                    logits = model.get_output_embeddings()(hidden[:, -1])
                    firsts[number] = logits, [(l.keys[0], l.values[0]) for l in kept.layers]
                logits, row.keys = firsts[number]
                write(row, logits, seed, max_new_tokens, stop_ids, temperature, top_k, top_p)
                rows.append(row)
                if ended(row, max_new_tokens):
                    rows.remove(row)
                    done[request] = row
                if progress:
                    progress(1, int(request in done))
            if rows:
                logits = feed(model, rows)
                for i, row in enumerate(rows):
                    these = logits[i : i + 1]
                    write(row, these, seed, max_new_tokens, stop_ids, temperature, top_k, top_p)
                over = [row for row in rows if ended(row, max_new_tokens)]
                if progress:
                    progress(len(rows), len(over))
                for row in over:
                    done[row.request] = row
                rows = [row for row in rows if not ended(row, max_new_tokens)]
    found = [done[request] for request in sorted(done)]
    return [Rollout(r.prompt, r.response, r.logprobs, r.finished) for r in found]

def write(row, logits, seed, budget, stop_ids, temperature, top_k, top_p):
    u = torch.from_numpy(draw_uniforms(seed, row.request, budget))[len(row.response)][None]
    token, logprob = sample_tokens(logits, u, temperature, top_k, top_p)
    row.response.append(token.item())
    row.logprobs.append(logprob.item())
    row.finished = row.response[-1] in stop_ids

def ended(row, budget):
    return row.finished or len(row.response) == budget
"""
)

RIGHT = CACHED

ROWS = [  # of NAIVE
    (
        "zeros",
        "You return no responses.",
        "    found = []\n",
        "    return []\n",
    ),
    (
        "only the first stop id stops",
        "You look for one stop id. A model may have several; each ends a response.",
        "in stop_ids",
        "in sorted(stop_ids)[:1]",
    ),
    (
        "the stop token is left out of the response",
        "You leave out the stop token. It stays in the response, so that the loss can teach it.",
        "        found.append(",
        "        response, logprobs = response[: len(response) - finished], "
        "logprobs[: len(logprobs) - finished]\n        found.append(",
    ),
    (
        "finished is the wrong way round",
        "finished is True for a stop token, and False for a response that was cut at the budget.",
        "logprobs, finished))",
        "logprobs, not finished))",
    ),
    (
        "a response that fits the budget exactly counts as truncated",
        "A stop token at the last place of the budget is a stop all the same.",
        "logprobs, finished))",
        "logprobs, finished and len(response) < max_new_tokens))",
    ),
    (
        "the budget is one token short",
        "Your responses have one token less than the budget allows.",
        "len(response) < max_new_tokens and",
        "len(response) < max(1, max_new_tokens - 1) and",
    ),
    (
        "the budget counts the prompt",
        "The budget is that of the response, without its prompt.",
        "len(response) < max_new_tokens and",
        "len(prompt) + len(response) <= max_new_tokens and",
    ),
    (
        "all responses share one random stream",
        "All requests have the same random numbers: the samples of a group would be equal.",
        "draw_uniforms(seed, request, max_new_tokens)",
        "draw_uniforms(seed, 0, max_new_tokens)",
    ),
    (
        "the samples of a prompt share one random stream",
        "Your stream goes by the prompt, so all of its samples are equal.",
        "draw_uniforms(seed, request, max_new_tokens)",
        "draw_uniforms(seed, request // samples, max_new_tokens)",
    ),
    (
        "the seed is ignored",
        "Your random numbers do not go by the seed.",
        "draw_uniforms(seed, request, max_new_tokens)",
        "draw_uniforms(0, request, max_new_tokens)",
    ),
    (
        "one random number for the whole response",
        "You use the first random number for every token of a response.",
        "uniforms[len(response)][None]",
        "uniforms[:1]",
    ),
    (
        "prompts are taken in turn",
        "Group g is [g * samples : (g + 1) * samples]: all samples of a prompt in a row.",
        "request // samples",
        "request % len(prompts)",
    ),
    (
        "the temperature is not passed on",
        "You draw at temperature 1, whatever is asked for.",
        "u, temperature, top_k",
        "u, 1.0, top_k",
    ),
    (
        "always greedy",
        "You always take the likeliest token.",
        "u, temperature, top_k",
        "u, 0.0, top_k",
    ),
    (
        "the first token comes from the first place",
        "You draw from the logits at the prompt's beginning. Its last place predicts what follows.",
        ".logits[:, -1]",
        ".logits[:, 0]",
    ),
    (
        "the last token is not seen",
        "You draw from the logits one place too early.",
        ".logits[:, -1]",
        ".logits[:, max(-2, -len(prompt + response))]",
    ),
    (
        "progress is not called",
        "progress is to be called with new tokens and ended responses.",
        "    if progress:\n            progress(len(response), 1)\n",
        "",
    ),
]

CACHED_ROWS = [
    (
        "positions of new tokens start at 0",
        "Your new tokens' positions do not count the prompt.",
        "position_ids=places",
        "position_ids=torch.tensor([[len(row.response) - 1] for row in rows])",
    ),
    (
        "positions count the padding",
        "Your positions count the padding of shorter rows.",
        "position_ids=places",
        "position_ids=torch.full_like(places, longest)",
    ),
    (
        "padding is seen",
        "Your rows attend to the padding of their cache: it needs a mask.",
        "attention_mask=mask",
        "attention_mask=mask * 0",
    ),
    (
        "a prompt runs once for each response",
        "All is right, but a prompt runs again for each of its responses. Keys and values of a "
        "prompt are the same for all of them.",
        "if number not in firsts:",
        "if True:",
    ),
    (
        "a straggler holds up the others",
        "All is right, but you fill the slots only when all of them are free.",
        "while waiting and len(rows) < slots:",
        "refill = not rows\n            while refill and waiting and len(rows) < slots:",
    ),
    (
        "one row at a time",
        "All is right, but rows run one after another. Run as many as there are slots at once.",
        "len(rows) < slots:",
        "len(rows) < 1:",
    ),
    (
        "slots do not bound the batch",
        "You run more rows at once than there are slots, which bound the memory.",
        "len(rows) < slots:",
        "True:",
    ),
]


def changed(code, old, new):
    assert code.count(old) >= 1, old
    return code.replace(old, new)


WHOLE = [(name, hint, changed(NAIVE, old, new)) for name, hint, old, new in ROWS]
WHOLE += [(name, hint, changed(CACHED, old, new)) for name, hint, old, new in CACHED_ROWS]
WHOLE.append(
    (
        "nothing is kept",
        "All is right, but each token costs the whole sequence again. Keep keys and values.",
        NAIVE,
    )
)
