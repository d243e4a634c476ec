"""The teacher of distill.py: a program that writes chains of thought for the bundled problems.

The teacher solves a problem in *passes*. A pass writes the steps of the chain. A step is either
done in the head (`85 * 6 = 510`) or broken into easy ones (`85 * 6: 80 * 6 = 480, 5 * 6 = 30,
480 + 30 = 510`). After a pass the teacher may check itself with another; when two results differ
("Wait"), it goes on until a result comes twice. The thinking breaks nearly every hard step and
checks a lot; the solution after `</think>` is the same kind of text with less of both.

The solution is drawn from *one* distribution, whether the thinking block is empty or not. If it
were terse after thinking only, RL on the other mode would teach a style in a place where the model
has never seen it, and break the thinking mode.

A teacher that checks needs mistakes to find. They are put into passes that a later pass will check,
and the wrong digits are *left out of the loss*: the model learns to notice a mistake, not to make
one. Left out: sampling from a real teacher, and filtering by its correctness.
"""

from lesson.arithmetic import allowed, apply_op

# detail: the share of hard steps that are broken up
# check: the probability of one more checking pass, of which there are at most three
THINKING = {"detail": 0.9, "check": 0.85}
SOLUTION = {"detail": 0.33, "check": 0.3}
MISTAKES = 0.12  # the probability of a wrong digit in one of the passes, if there is a check

# A trace is a list of (text, learn) pieces; those with learn = False are read by the model but not
# imitated.


def break_up(value, symbol, n):
    """The easy steps (left, symbol, right) of a hard one; none if it is easy itself."""
    if symbol in "+-" and n > 10 and n % 10:
        ones = n % 10
        tens = n - ones
        return [(value, symbol, tens), (apply_op(value, symbol, tens), symbol, ones)]
    if symbol == "*" and value > 10 and value % 10:
        ones = value % 10
        tens = value - ones
        return [(tens, "*", n), (ones, "*", n), (tens * n, "+", ones * n)]
    if symbol == "/" and value > 10 * n and value // n % 10:
        ones = value // n % 10
        tens = value // n - ones
        subtraction = (value, "-", n * tens)
        return [(n, "*", tens), subtraction, (n * ones, "/", n), (tens, "+", ones)]
    if symbol == "%":
        return break_up_remainder(value, n)
    return []


def break_up_remainder(value, n):
    """Takes away the tens of the quotient times n, then the ones."""
    steps = []
    ones = value // n % 10
    tens = value // n - ones
    for part in (tens, ones):
        if part:
            steps += [(n, "*", part), (value, "-", n * part)]
            value -= n * part
    return steps


def slip(value, ops, rng):
    """A believable wrong result: one digit off by one or two.

    The right one if the chain, the remaining ops, could not go on from the wrong one.
    """
    digits = list(str(value))
    place = rng.randrange(len(digits))
    digits[place] = str((int(digits[place]) + rng.choice((1, 2, 8, 9))) % 10)
    wrong = int("".join(digits))
    after = wrong
    for symbol, n in ops:
        if not allowed(after, symbol, n):
            return value
        after = apply_op(after, symbol, n)
    return wrong


def write_step(value, symbol, n, easy):
    """The text of one step up to its result, which may be a wrong one: `47 + 38`, or more."""
    text = f"{value} {'mod' if symbol == '%' else symbol} {n}"
    if not easy:
        return text
    equations = [f"{left} {op} {right} = {apply_op(left, op, right)}" for left, op, right in easy]
    return f"{text}: {', '.join(equations)}".rpartition(" = ")[0]


def write_pass(start, ops, detail, mistake, rng):
    """The steps of the chain as (text, learn) pieces, and its result.

    With `mistake`, one of the results is wrong.
    """
    pieces = []
    value = start
    mistake_at = rng.randrange(len(ops)) if mistake else -1
    for i, (symbol, n) in enumerate(ops):
        right = apply_op(value, symbol, n)
        result = slip(right, ops[i + 1 :], rng) if i == mistake_at else right
        easy = break_up(value, symbol, n) if rng.random() < detail else []
        text = write_step(value, symbol, n, easy)
        end = ". " if i < len(ops) - 1 else "."
        pieces += [(f"{text} = ", True), (str(result), result == right), (end, True)]
        value = result
    return pieces, value


def write_work(problem, detail, check, answer, rng):
    """One pass, or several until a result comes twice, then `So ...`, as (text, learn) pieces.

    The last result is right.
    """
    checks = 0
    while checks < 3 and rng.random() < check:
        checks += 1
    mistake_at = rng.randrange(checks + 1) if checks and rng.random() < MISTAKES else -1
    pieces = []
    results = []
    while len(results) <= checks or (checks and results.count(results[-1]) < 2):
        mistake = len(results) == mistake_at
        steps, result = write_pass(problem.start, problem.ops, detail, mistake, rng)
        if results:
            verdict = " Same." if result in results else " Wait, that differs."
            steps = [("Check: ", True), *steps, (verdict, True)]
        pieces += [*steps, ("\n", True)]
        results.append(result)
    return pieces + [(f"So {answer}", True)]


def write_trace(problem, thinking, rng):
    """A whole response as (text, learn) pieces, but for the token that ends it.

    Without thinking it is the solution alone: the empty block is in the prompt.
    """
    block = []
    if thinking:
        work = write_work(problem, **THINKING, answer=problem.answer + ".", rng=rng)
        block = [("<think>\n", True), *work, ("\n</think>\n\n", True)]
    solution = write_work(problem, **SOLUTION, answer=f"\\boxed{{{problem.answer}}}", rng=rng)
    return block + solution
