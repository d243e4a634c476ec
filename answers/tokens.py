r"""An answer's tokens; skip at first reading.

`tokenize` cuts a tidy text (spelling.py) into tokens, a pair of brackets with its inside being one,
and `Reader` hands them out. What they mean is for algebra.py to say.
"""

import re
from typing import NamedTuple

# Caps, each checked before the work that it bounds.
MAX_TOKENS = 250
MAX_DEPTH = 20  # of brackets


class Refuse(Exception):
    """The text is outside the grammar or over a cap."""


TOKEN = re.compile(
    r"""
      \d*\.\d*(?:\\overline\{\d+\}|\(\d+\))                        # 0.1\overline{6}, 0.1(6)
    | \d+_(?:\d+|\{\d+\})                                          # 101_2
    | [1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!,?\d)                    # 1,234.5
    | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?               # 12, .5, 2e-3, not 1e999999
    | \\begin\{array\}\{[lcr| ]*\}                                 # a matrix with its alignment
    | \\(?:begin|end)\{[a-zA-Z]+\}                                 # the brackets of any other
    | \\(?:mathbb|mathcal|mathfrak|d?dot|tilde|bar|overline)\{[A-Za-z]\}    # \mathbb{Z}
    | \\?log(?![a-zA-Z])                                           # \log of \log_2: no index of it
    | (?:\\[a-zA-Z]+|[a-zA-Z])(?:_(?:\d+|[a-zA-Z]|\{[^{}]*\})|')+  # x_1, \alpha_{max}, f'
    | \\[a-zA-Z]+                                                  # \frac
    | \\[\\{}]                                                     # the end of a row, \{ and \}
    | [A-Za-z]+(?![_'])                                            # xy, sin
    | [<>!]=                                                       # <=
    | \*\*                                                         # a power
    | !!                                                           # not twice a factorial: refused
    | \S                                                           # any other character
    """,
    re.ASCII | re.VERBOSE,
)
SPELLINGS = {
    "*": r"\cdot \times \ast × · ⋅",
    "/": r"\div ÷",
    ":": r"\colon ∶",
    "^": "**",
    "-": "− –",
    "<": r"\lt",
    ">": r"\gt",
    "<=": r"\le \leq \leqslant ≤",
    ">=": r"\ge \geq \geqslant ≥",
    "!=": r"\ne \neq ≠",
    "≈": r"\approx",
    "in": r"\in ∈",
    "or": r"\lor",
    "and": r"\land",
    "|": r"\lvert \rvert \vert \mid",
    "(": r"\langle ⟨",
    ")": r"\rangle ⟩",
    r"\{": r"\lbrace",
    r"\}": r"\rbrace",
    r"\cup": r"\bigcup ∪",
    r"\cap": "∩",
    r"\setminus": r"\backslash \smallsetminus",
    r"\emptyset": r"\varnothing ∅",
    "∞": r"\infty infinity",
    r"\log": r"\lg",
    r"\phi": r"\varphi φ",
    r"\pi": "π",
    r"\theta": "θ",
    r"\alpha": "α",
    r"\beta": "β",
    r"\lambda": "λ",
}
PLAIN = {other: token for token, others in SPELLINGS.items() for other in others.split()}
BRACKETS = {
    "(": (")", "]"),
    "[": (")", "]"),
    "{": ("}",),
    r"\{": (r"\}",),
    r"\begin": (r"\end",),
    r"\lfloor": (r"\rfloor",),
    r"\lceil": (r"\rceil",),
}
CLOSING = {closing for closings in BRACKETS.values() for closing in closings}
TRIG = {name: name for name in "sin cos tan cot sec csc sinh cosh tanh asin acos atan".split()}
TRIG |= {f"arc{name}": f"a{name}" for name in "sin cos tan cot sec csc".split()}
# To the names in mpmath.
FUNCTIONS = TRIG | {"ln": "log", "log": "log", "exp": "exp", "abs": "fabs", "sqrt": "sqrt"}
RESERVED = {*FUNCTIONS, "pi", "e", "i", "or", "and", "in"}


class Group(str):
    """A pair of brackets with all that is in between: one token, with its tokens in `inside`."""


class OpenBracket(NamedTuple):
    bracket: str
    inside: list[str]


def spelled(text: str) -> list[str]:
    """All tokens, for a text that cannot be read: blanks and synonyms make no difference."""
    return [PLAIN.get(token, token) for token in TOKEN.findall(text)]


def tokenize(text: str) -> list[str]:
    """The tokens outside of all brackets; raises Refuse or ValueError."""
    found = TOKEN.findall(text)
    if len(found) > MAX_TOKENS:
        raise Refuse
    still_open = [OpenBracket("", [])]
    for token in found:
        token = PLAIN.get(token, token)
        if token.startswith((r"\begin", r"\end{")):
            token, name = token.split("{", 1)  # a ValueError for a bare \begin
            if not re.match("(?:[pbB]|small)?matrix|array", name):
                raise Refuse
        bracket, inside = still_open[-1]
        if token in BRACKETS:
            still_open.append(OpenBracket(token, []))
            if len(still_open) > MAX_DEPTH:
                raise Refuse
        elif token in CLOSING:
            if token not in BRACKETS.get(bracket, ()):
                raise Refuse
            group = Group(bracket + "".join(inside) + token)
            group.inside = inside
            still_open.pop()
            still_open[-1].inside.append(group)
        else:
            inside += pieces(token, inside_brackets=bool(bracket))
    if len(still_open) > 1:
        raise Refuse
    return still_open[0].inside


def pieces(token: str, inside_brackets: bool) -> list[str]:
    """What a token stands for: `1,234` is a number but `(1,234)` a pair, `xy` is a product."""
    if token[0].isdigit() and "," in token:
        return re.findall("[^,]+|,", token) if inside_brackets else [token.replace(",", "")]
    if token.isalpha() and len(token) <= 3 and token not in RESERVED:
        return list(token)  # a longer run of letters is a name
    return [token]


def split(tokens: list[str], separators: set[str]) -> tuple[list[list[str]], list[str]]:
    """Splits at the separators; returns the parts and the separators met."""
    if separators.isdisjoint(tokens):
        return [tokens], []
    places = [k for k, token in enumerate(tokens) if token in separators]
    bounds = zip([-1, *places], [*places, len(tokens)])
    parts = [tokens[left + 1 : right] for left, right in bounds]
    return parts, [tokens[k] for k in places]


class Reader:
    """The tokens of one formula, from left to right; an empty one is the end."""

    def __init__(self, tokens: list[str]):
        self.tokens = [*tokens, ""]
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def take_if(self, token: str) -> bool:
        """Takes the next token if it is this one; says whether it was."""
        if self.peek() != token:
            return False
        self.at += 1
        return True

    def take_until(self, token: str) -> list[str]:
        """Takes all up to this token, and it; ValueError if it does not come."""
        start = self.at
        end = self.tokens.index(token, start)
        self.at = end + 1
        return self.tokens[start:end]
