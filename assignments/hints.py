"""Three hints for each assignment: a question, the place, nearly the line."""

HINTS = {
    1: (
        "Three prompts: one ends in `assistant`, one in `<think>`, one in `</think>`. What "
        "must stand at the end of each, and how often?",
        "Only the end of the prompt counts: search with CLOSED, whose `$` holds it there, and "
        "never with `in`. OPEN finds the opened tag with what follows it.",
        "If CLOSED finds something, return the prompt. Else let OPEN put nothing in the place "
        "of what it finds, and add the block.",
    ),
    2: (
        "What may a policy write that earns a reward without an answer? An early box in its "
        "thoughts, a second guess, a box that it never closes ...",
        "Go through the braces in order with a stack: a box or a brace opens, a brace closes "
        "what was opened last. Begin behind the last </think>.",
        "Push where a box's content starts, and 0 for other braces. When one is popped that "
        "is a box, note down start and end. At the end: is a box still open that began behind "
        "that start?",
    ),
    3: (
        "Two samples, one right: if you choose both, can you miss? What does 1 - (1 - c/n)^k "
        "say there?",
        "Count the choices of k samples that hold wrong ones alone, and all choices. math.comb "
        "counts, in whole numbers, and knows that there are none where too few are wrong.",
        "1 minus the quotient of two binomials: k of the n - c wrong ones, and k of n. Divide "
        "the whole numbers by each other before anything becomes a float.",
    ),
    4: (
        "Three tokens of probability 0.2, 0.5 and 0.3, laid end to end. Which one is drawn at "
        "u = 0.1, at 0.2, at 0.69, at 0.7?",
        "In this order: fp32, temperature, truncate, then the cumulative sums of the "
        "probabilities. torch.searchsorted finds the place; its argument right says what "
        "happens where values are equal.",
        "Subtract the row's largest logit before exp. The cumulative sums end at a total that "
        "rounding keeps from 1, so look for u times the total; the log-prob is the token's "
        "logit, less the largest, less the log of the total.",
    ),
    5: (
        "After reading `a b c` the model is at place 2. Which token does it predict there?",
        "A response of R tokens after a prompt of P stands at places P to P + R - 1. It is "
        "predicted one place earlier each. Pad on the right, and go by these places, never by "
        "the tokens' values.",
        "Run all but the last column. For each rollout note down its row and its response's "
        "columns; index the states with (rows, columns - 1), and the ids with (rows, columns).",
    ),
    6: (
        "With what is a response compared: with all responses of the batch, or with those to "
        "the same question?",
        "Look at three things in turn: the mean that is subtracted, what it is divided by "
        "(a sample's deviation divides by G - 1), and what happens when all rewards are equal.",
        "Return zeros before you divide if the largest reward is the smallest; else subtract "
        "the group's mean and divide by the group's std as torch computes it by default.",
    ),
    7: (
        "Draw the gain of one token against its ratio, once for A = 1 and once for A = -1. On "
        "which side of 1 is each of them flat?",
        "The clip itself stops nothing; what stops the gradient is which of the two products, "
        "with the ratio or with the clipped ratio, is taken. And a loss is minimised.",
        "Two products, ratio times A and clipped ratio times A; of each token the smaller one, "
        "times its weight, summed, with a minus. Clamp the difference of the log-probs before "
        "exp, to 20 on either side.",
    ),
    8: (
        "Two wrong responses, of 3 and of 6 tokens. How hard is one token of each pushed down, "
        "if each token counts once? And if each response counts once?",
        "First one number a response, in a tensor (responses,). Then each response's number as "
        "often as it has tokens, end to end.",
        "The numbers are 1 over: the sum of all lengths; responses times own length; responses "
        "times budget. torch.repeat_interleave lays them out.",
    ),
    9: (
        "What are the advantages of a group in which all are right? What does it cost to keep "
        "it in the batch?",
        "Two lists grow with each draw: all groups, and those that are not flat. When do you "
        "stop, and what do you do with a surplus?",
        "A loop over the numbers of the draws: extend both lists, and break once as many are "
        "kept as wanted. Cut the first list at the end, never the second.",
    ),
    10: (
        "Where does x' come in, and where does it go on by itself, in the rollouts' prompt_ids?",
        "sample_groups: problems, cursor, prompts, answers, sampler. train_step: draw, "
        "advantages of what is kept, one update, count, describe all that was drawn.",
        "dynamic_sampling wants a function of the draw alone: functools.partial, or a lambda, "
        "around sample_groups(run, stage, draw). Metrics are dicts: join them with |.",
    ),
    11: (
        "Draw five points and a line through them. What would have to be true of its slope, and of "
        "the points' distance from it, for you to go on with the stage?",
        "np.polyfit(x, y, 1, cov=True) gives the line and the covariance of its two numbers; or "
        "write the two formulas down with np.arange and means.",
        "may_rise knows rising only: give it the last `window` of the accuracy, and of one less "
        "the truncation. Over if it says False twice; False before there are `window`.",
    ),
    12: (
        "Which metric would each bug move first, and which not at all? Which of them can be seen "
        "at step 1, before anything was learnt?",
        "Look at logprob_gap, flat_groups and truncated first: three of the bugs stand there from "
        "the beginning. Then at how reward, tokens and clipped go on.",
        "A bug that moves a metric moves it at many steps in a row; a single point outside of the "
        "band is chance. The run without such a metric is the one without a bug.",
    ),
    13: (
        "Which of the three trains on what is measured, thinking with room to finish? Which on "
        "something else? How many tokens does each generate for twelve steps?",
        "README's table of the small model is for 45 steps and less a stage, and other seeds: "
        "twelve do less. RESULTS.md has curves of each method.",
        "An interval of 10 points of accuracy and of 60 tokens is honest for one run: the "
        "standard error of its measurement alone is 2.5 points.",
    ),
    14: (
        "A log-prob is z_t minus the log of the sum of all exp(z). What is its derivative by "
        "z_t, and by any other z_v?",
        "For each chunk: logits in fp32, over the temperature, log-probs, then token_grad. Its "
        "result times (onehot - probs) over the temperature is the gradient of the logits.",
        "The gradient of the chunk's logits (C, V) times head fills the chunk's rows of "
        "grad_hidden; transposed, times the chunk's states, it is added to grad_head.",
    ),
    15: (
        "Get the naive loop right first. Then: what of the forward pass for token t was already "
        "computed for token t - 1?",
        "One forward pass a prompt, whose keys and values all its responses get; then one token a "
        "row and step. Rows are of unequal length: each needs its own position, and a mask over "
        "what is padding in its cache.",
        "Keep a list of live rows, of at most `slots`. When one ends, take it out and let the next "
        "request in; its random stream goes by its own number, not by its row.",
    ),
    16: (
        "What is the smallest change whose effect you could predict? What would you see if it had "
        "none?",
        "Six runs take 40 minutes on two cores. Use --out for each, the same --seed on both "
        "sides, and --steps, so that both sides are of one length.",
        "statistics.stdev is the sample's. With three seeds and a deviation of one point, a "
        "difference of one point is no finding.",
    ),
}
