"""Known wrong answers to assignment 5. See wrong.py."""

HINTS = {
    "shift off by one: a token is scored after itself": (
        "Your tokens are those one place before the right ones: the prompt's last token is in, the "
        "stop token is not."
    ),
    "shift off by one: one position too early": (
        "Your states stand one place too early. The state at place p predicts token p + 1."
    ),
    "the prompt's last token is learnt, the stop token is not": (
        "You take places one too early, states and tokens alike: the prompt's last token is "
        "learnt, and the stop token is not."
    ),
}

SKIPPED = {}

SELECT = "return hidden[rows, columns - 1], ids[rows, columns]"
RUN = "hidden = forward_hidden(model, ids[:, :-1])"

MORE = [
    (
        "zeros",
        "All states are 0, and all tokens.",
        "response_states",
        SELECT,
        "return hidden[rows, columns - 1] * 0, ids[rows, columns] * 0",
    ),
    (
        "no shift: the state of a token itself",
        "You take each token's own state. It has seen the token: it predicts the next one.",
        "response_states",
        RUN + "\n" + SELECT,
        "hidden = forward_hidden(model, ids)\nreturn hidden[rows, columns], ids[rows, columns]",
    ),
    (
        "the stop token is dropped",
        "You drop each response's last token. The model must learn to write the stop token.",
        "response_states",
        "stop = start + len(rollout.response_ids)",
        "stop = start + len(rollout.response_ids) - 1",
    ),
    (
        "the prompt is learnt, too",
        "You return the prompt's tokens, too. Only what the policy wrote is its action.",
        "response_states",
        "columns.append(np.arange(start, stop))",
        "columns.append(np.arange(1, stop))\nrows[-1] = np.full(stop - 1, row)",
    ),
    (
        "padding is learnt",
        "You return places behind the end of the shorter responses.",
        "response_states",
        "stop = start + len(rollout.response_ids)",
        "stop = start + max(len(r.response_ids) for r in rollouts)\nstop = min(stop, ids.shape[1])",
    ),
    (
        "the mask goes by token values",
        "You drop tokens that equal the pad token. A response may have it: go by lengths.",
        "response_states",
        SELECT,
        "kept = ids[rows, columns] != 0\nrows = rows[kept]\ncolumns = columns[kept]\n" + SELECT,
    ),
    (
        "all prompts are taken for the first one's length",
        "You begin all responses where the first one begins. Each prompt has its own length.",
        "response_states",
        "start = len(rollout.prompt_ids)",
        "start = len(rollouts[0].prompt_ids)",
    ),
    (
        "all prompts are taken for the longest",
        "You begin all responses where the longest prompt ends.",
        "response_states",
        "start = len(rollout.prompt_ids)\nstop = start + len(rollout.response_ids)",
        "start = max(len(r.prompt_ids) for r in rollouts)\n"
        "stop = min(start + len(rollout.response_ids), ids.shape[1])",
    ),
    (
        "left padding without a mask",
        "You pad on the left: positions are wrong, and real tokens see the padding.",
        "response_states",
        "",
        """sequences = [r.prompt_ids + r.response_ids for r in rollouts]
longest = max(map(len, sequences))
ids = torch.tensor([[0] * (longest - len(s)) + s for s in sequences])
hidden = forward_hidden(model, ids[:, :-1])
states = []
tokens = []
for row, rollout in enumerate(rollouts):
    n = len(rollout.response_ids)
    states.append(hidden[row, longest - 1 - n : longest - 1])
    tokens.append(ids[row, longest - n :])
return torch.cat(states), torch.cat(tokens)""",
    ),
    (
        "the response runs without its prompt",
        "You run the responses alone. They are answers to a prompt: run both as one sequence.",
        "response_states",
        "",
        """states = []
tokens = []
for rollout in rollouts:
    ids = torch.tensor([[0] + rollout.response_ids])
    states.append(forward_hidden(model, ids[:, :-1])[0])
    tokens.append(ids[0, 1:])
return torch.cat(states), torch.cat(tokens)""",
    ),
    (
        "laid out by time, not by response",
        "You go through all responses place by place. The tokens of a response lie end to end.",
        "response_states",
        SELECT,
        "order = (columns * 1000 + rows).argsort()\nrows = rows[order]\n"
        "columns = columns[order]\n" + SELECT,
    ),
    (
        "responses in reversed order",
        "Your responses come in another order than the rollouts.",
        "response_states",
        SELECT,
        "order = (-rows * 1000 + columns).argsort()\nrows = rows[order]\n"
        "columns = columns[order]\n" + SELECT,
    ),
    (
        "no gradient",
        "Your states have no gradient, so nothing is learnt.",
        "response_states",
        SELECT,
        "return hidden[rows, columns - 1].detach(), ids[rows, columns]",
    ),
    (
        "a padded table",
        "You return a padded table. The tokens lie end to end: (N, H) and (N,).",
        "response_states",
        SELECT,
        "return hidden, ids[:, 1:]",
    ),
    (
        "positions begin behind the prompt",
        "Your positions begin at the response. They count from the prompt's beginning.",
        "response_states",
        RUN,
        "starts = torch.tensor([[len(r.prompt_ids)] for r in rollouts])\n"
        "places = (torch.arange(ids.shape[1] - 1) - starts).clamp(min=0)\n"
        "hidden = forward_hidden(model, ids[:, :-1], position_ids=places)",
    ),
    (
        "logits instead of states",
        "You return logits. The states before the projection are asked for.",
        "response_states",
        SELECT,
        "return model.get_output_embeddings()(hidden)[rows, columns - 1], ids[rows, columns]",
    ),
]

WHOLE = []

RIGHT = """
def run_alone(model, rollout):
    ids = torch.tensor([list(rollout.prompt_ids) + list(rollout.response_ids)])
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    first = len(rollout.prompt_ids)
    return states[first - 1 : -1], ids[0, first:]

def response_states(model, rollouts):
    pairs = [run_alone(model, rollout) for rollout in rollouts]
    return torch.cat([states for states, _ in pairs]), torch.cat([ids for _, ids in pairs])
"""
