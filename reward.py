r"""The math reward r(x, y): 1.0 if the final answer of a response equals the gold answer, else 0.0.

It is the verifiable reward of Section 2 of the paper. TFPI leaves it alone: r(x', y) is r(x, y). In
RL the grader *is* the objective: a false positive is exploited within a hundred steps, a false
negative is noise, a hang stops the run. So an answer is parsed, and never executed: by
support/spelling.py and support/answers.py, which you may skip at first reading. Left out: partial
credit, penalties, proofs.

Which text is the answer: the content of the last `\boxed{...}` after the last `</think>`. An
unclosed or empty last box is no answer.

What equals what, case by case in `tests/reward_cases.tsv`:
- Equality is exact: 0.5 is 1/2, `0.\overline{3}` is 1/3, but 0.333 is not and 3.14 is not pi.
- Units and nouns behind a value, degrees, `%`, `$`, thin spaces, thousands separators and leading
  zeros are dropped (50% is 50, not 1/2), words that change the value are not (`5 million`). In a
  trigonometric function degrees count.
- `1,234` is a number, `(1,234)` a pair. `\log` has base 10, `i` is imaginary, `e` is Euler's
  number, an odd root of a negative number is real, `2e-3` is 0.002. `101_2` is neither `101_3` nor
  5; a gold `101_2 = 5` is answered by 5.
- Sets, unions and lists of solutions are unordered, `\pm` is two values; tuples, points and
  matrices are ordered; intervals keep their ends. A list, a bound or a negation never answers a
  value.
- `x = 5` answers 5, `x > 3` answers `(3,\infty)`. Two equations agree if the differences of their
  sides are proportional: `y=2x+1`, `4x-2y=-2`. Other inequalities are compared as written, in
  either direction.
- Words are words, without case: `no` is not `on`. A choice is `(A)`, `A`, `\text{A}` or `A.`.
- What cannot be read (sums, integrals, piecewise functions, `\max`) equals only the same text.
"""

import re

from support.answers import read, same
from support.spelling import tidy

MAX_CHARS = 1000  # of an answer that is parsed; a longer one equals only the same text
BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")
WORDS = re.compile(r"(?!.*\b(?:and|or)\b)[a-z][a-z' ]*")


def extract_answer(text: str) -> str | None:
    r"""Returns the content of the last `\boxed{...}` after the last `</think>`, or None.

    Pitfall: hedging. Of nested boxes the outer one counts, as it closes last; and neither an
    unclosed or empty last box nor an unclosed thought falls back to an earlier answer. Takes one
    pass: there may be megabytes of braces.
    """
    thought_end = text.rfind("</think>")
    if text.rfind("<think>") > thought_end:
        return None  # cut off while thinking: a box in there was not the answer yet
    answer_start = answer_end = -1
    open_braces = []  # where the content of each open box starts; 0 for other braces
    for brace in BRACES.finditer(text, thought_end + 1):
        if "boxed" in brace[0]:
            open_braces.append(brace.end())
        elif brace[0] == "{":
            open_braces.append(0)
        elif brace[0] == "}" and open_braces:
            start = open_braces.pop()
            if start:
                answer_start = start
                answer_end = brace.start()
    if max(open_braces, default=0) > answer_start:
        return None  # the last box was never closed
    # Cut out once, at the end: of nested boxes each would be a copy of all that is in it.
    return text[max(answer_start, 0) : max(answer_end, 0)].strip() or None


def is_equivalent(pred: str | None, gold: str | None) -> bool:
    """Whether two answers (without their box) are equal, by the conventions above.

    Never raises: what cannot be read equals only the same text, and None equals nothing.
    """
    if not isinstance(pred, str) or not isinstance(gold, str):
        return False
    if len(pred) > MAX_CHARS or len(gold) > MAX_CHARS:
        return pred.strip() == gold.strip() != ""
    pred = tidy(pred)
    gold = tidy(gold)
    if pred == gold or not pred or not gold:
        return pred == gold != ""
    words = [text.strip("().: ").casefold() for text in (pred, gold)]
    if all(map(WORDS.fullmatch, words)):
        return words[0] == words[1]
    try:
        return same(read(pred), read(gold))
    except Exception:  # mostly Refuse; but what an answer finds broken costs a reward, not the run
        return False


def is_readable(gold: str) -> bool:
    """Whether a response can earn this gold: its box earns 1, and the grader reads it.

    It reads mathematics, and a few words; a sentence of prose is no answer.
    """
    if len(gold) > MAX_CHARS or not is_equivalent(extract_answer(f"\\boxed{{{gold}}}"), gold):
        return False
    text = tidy(gold)
    if WORDS.fullmatch(text.strip("().: ").casefold()):
        return len(text.split()) <= 5
    try:
        read(text)
    except Exception:
        return False
    return True


def grade(response: str, gold: str) -> tuple[bool, float]:
    """Returns (correct, reward) of a response, whose box is looked for, to a gold without one.

    correct is what accuracy and dynamic sampling count. reward is what the paper calls r(x, y),
    today float(correct); partial credit or a penalty would change the reward alone.
    """
    correct = is_equivalent(extract_answer(response), gold)
    return correct, float(correct)


def math_reward(response: str, gold: str) -> float:
    """Returns r(x, y), the reward of `grade`, alone."""
    _, reward = grade(response, gold)
    return reward
