r"""The math reward r(x, y): 1.0 if the final answer of a response equals the gold answer, else 0.0.

It is the verifiable reward of Section 2 of the paper. TFPI leaves it alone: r(x', y) is r(x, y). In
RL the grader *is* the objective: a false positive is exploited within a hundred steps, a false
negative is noise, a hang stops the run. So an answer is parsed, and never executed: by
answers/spelling.py and answers/algebra.py, which you may skip at first reading. Left out: partial
credit, penalties, proofs.

Which text is the answer: the content of the last `\boxed{...}` after the last `</think>`. An
unclosed or empty last box is no answer, and of several boxes the last one counts, not the list of
them. Neither `\boxed 42` without braces nor `\fbox{42}` is a box.

What equals what, case by case in `tests/reward_cases.tsv`:
- Equality is exact: 0.5 is 1/2, `0.\overline{3}` is 1/3, but 0.333 is not and 3.14 is not pi.
- Units and nouns behind a value, in brackets, too (`9 (apples)`), degrees, `%`, currencies, spaces,
  fonts, colours, thousands separators and leading zeros are dropped (50% is 50, not 1/2). Words
  that change the value are not (`5 million`, `10 AM`), nor letters (`2 ab`, `5m`), nor units that
  differ (`3\text{ ft}, 2\text{ in}`). In a trigonometric function degrees count.
- `1,234` is a number, `(1,234)` a pair, `1,\!234` a number in any place. A product may omit its
  sign before a power, `k\,3^k`, but `2 3`, `x2` and `(1) 5` are none. `1:2:3` is `2:4:6`.
- `\log` has base 10, `i` is imaginary, `e` is Euler's number, an odd root of a negative number is
  real, `2e-3` is 0.002. `101_2` is neither `101_3` nor 5, and `52` is not `52_8`; a gold
  `101_2 = 5` is answered by 5.
- Sets, unions and lists of solutions are unordered, `\pm` is two values; tuples, points and
  matrices are ordered; intervals keep their ends. A list, a bound or a negation never answers a
  value. Sets of reals are equal if they have the same members: `(0,2)\setminus\{1\}`,
  `(0,1)\cup(1,2)`; `x \ne 1` is all but 1.
- `x = 5` answers 5, `x > 3` answers `(3,\infty)`, `(x,y)=(1,2)` is `x=1, y=2`, which is not
  `(1,2)`: the order would be a guess. Two equations agree if the differences of their sides are
  proportional: `y=2x+1`, `4x-2y=-2`. Other inequalities are compared as written, in either
  direction.
- Words are words, without case: `no` is not `on`. A choice is `(A)`, `A`, `\text{A}` or `A.`;
  `(A) 5` is neither A nor 5.
- What cannot be read (sums, integrals, piecewise functions, `\max`) equals only the same text, but
  for blanks.
"""

import re

from answers.algebra import read, same
from answers.spelling import tidy
from answers.tokens import Refuse, spelled

MAX_CHARS = 1000  # of an answer that is parsed; a longer one equals only the same text
BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")
# Words, but not m g h, which is mgh.
WORDS = re.compile(r"(?!.*\b(?:and|or)\b)(?!(?:[a-z] )+[a-z]$)[a-z][a-z' ]*")
MAX_WORDS = 5  # of a gold that is no mathematics
FEW_WORDS = re.compile(r"[^\W\d_]+(?:[ '-]+[^\W\d_]+)*|\([A-Z]\)")
# Two words in a row, of which no formula has any.
PROSE = re.compile(r"(?<![\\A-Za-z{])(?!or |and )[A-Za-z]{2,} (?!or\b|and\b)[A-Za-z]{2,}")


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
        return spelled(pred) == spelled(gold)


def is_readable(gold: str) -> bool:
    """Whether a response can earn this gold: its box earns 1, and the grader reads it.

    It reads it as mathematics, or as a few words. Prose is neither, though the letters of its words
    might pass for a product.
    """
    if not isinstance(gold, str) or len(gold) > MAX_CHARS:
        return False
    if not is_equivalent(extract_answer(rf"\boxed{{{gold}}}"), gold):
        return False
    text = tidy(gold)
    if len(text.split()) <= MAX_WORDS and FEW_WORDS.fullmatch(text):
        return True
    try:
        read(text)
    except (Refuse, ArithmeticError, ValueError):
        return False
    return not PROSE.search(text)


def grade(response: str, gold: str) -> tuple[bool, float]:
    """Returns (correct, reward) of a response, whose box is looked for, to a gold without one.

    correct is what accuracy and dynamic sampling count. reward is what the paper calls r(x, y),
    today float(correct); partial credit or a penalty would change the reward alone.
    """
    correct = is_equivalent(extract_answer(response), gold)
    return correct, float(correct)
