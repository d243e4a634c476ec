r"""An answer's spelling: tidy text, and its tokens; skip at first reading.

`tidy` brings the many spellings of an answer closer to one: rules in a table, each with an example.
`tokenize` cuts what is left into tokens, a pair of brackets with its inside being one, and `Reader`
hands them out. What they mean is for answers.py to say.
"""

import re
from typing import NamedTuple

# Caps, each checked before the work that it bounds.
MAX_TOKENS = 250
MAX_DEPTH = 20  # of brackets


class Refuse(Exception):
    """The text is outside the grammar or over a cap."""


# --------------------------------------------------------------------------------------------------
# Text: drop what carries no meaning

UNICODE = str.maketrans(
    {
        "½": r"\frac12",
        "⅓": r"\frac13",
        "⅔": r"\frac23",
        "¼": r"\frac14",
        "¾": r"\frac34",
        "√": " sqrt ",
        "∛": r"\sqrt[3]",
        "′": "'",
        "⁄": "/",
        "±": r"\pm ",
    }
)
SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉", "0123456789+-n0123456789")
# Words behind a value are a unit or a noun and are dropped, unless one of these says that there is
# more: 5 million.
TELLING = (
    "a|or|and|not?|nor|never|is|are|the|if|than|least|most|more|less|over|under|above|below|about|"
    "around|between|but|approximately|except|hundred|thousand|million|billion|dozen|half|twice|"
    "squared|cubed|factorial|times|plus|minus|to|from|mod|base|choose|infinity|sqrt|alpha|beta|"
    "theta|lambda"
)
NOUNS = rf"(?i)(?!.*\b(?:{TELLING})\b)[a-z .~/^-]+"
SHORT = (
    r"(?:[cmk]?m|in|ft|yds?|mi|m?g|kg|lbs?|oz|m?[lL]|s|secs?|mins?|h|hrs?|days?|mph|[kM]?Hz|N|J|"
    r"k?W|V|USD|sq|ways)"
)
UNIT = (
    rf"(?:{SHORT}|(?!(?:{TELLING})s?\b)[a-z]{{4,}})(?![a-zA-Z])"
    r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
)
UNIT_TAIL = (  # 5 m is a length, 5m and \frac{1}{2} m are products
    rf"(?:(?:(?<=[\d)}}\]°])|(?<=\\pi)(?=\s))(?!\s*[a-zA-Z]\b)\s*|(?<=\d)(?<!\^\d)\s+){UNIT}"
    rf"(?:(?:\s*/\s*|\s+per\s+|\s+){UNIT})*\s*\.?\s*$"
)
TEXT_COMMANDS = "text|mbox|mathrm|textrm|textbf|textit|mathbf|operatorname"
TRIGONOMETRY = re.compile("sin|cos|tan|cot|sec|csc")


def unwrap_text(match: re.Match) -> str:
    r"""Replaces `\text{...}`: by nothing for a unit or noun behind a value, else by its content."""
    slash, command, content, power = match.groups()
    after_value = re.search(r"[\w)}\]!|]\s*$", match.string[: match.start()])
    # The other commands also hold operators, e and i: of theirs only units are dropped.
    droppable = NOUNS if command in ("text", "mbox") else rf"(?:[\s/~]*{SHORT})+\s*"
    if after_value and re.fullmatch(droppable, content):
        return " "
    return f"{slash or ''} {content} {power or ''}"


class Rule(NamedTuple):
    """One clean-up, tried only where its marker, a text that the pattern needs, occurs."""

    marker: str
    pattern: str
    replacement: object  # text, or a function of the match
    before: str  # what this rule alone makes of `before` is `after`: a test goes through them
    after: str


# fmt: off
RULES = [  # in this order
    # Thousands are one number.
    Rule("", r"(?<=\d)(?:\\[,;:!]|\\? |\{,\})(?=\d{3}(?![\d/]))", "",
         before=r"1\,234", after="1234"),
    # Layout: sizes of fractions and brackets, arrows, dollars, \( \).
    Rule("\\", r"\\[dtc](frac|binom)", r"\\\1",
         before=r"\dfrac{1}{2}", after=r"\frac{1}{2}"),
    Rule("\\", r"\\(?:(?:left|right)(?![a-z])\s*\.?|[bB]igg?[lrm]?(?![a-z])|!|"
               r"(?:displaystyle|boxed|angle)(?![a-z]))", "",
         before=r"\left(1,2\right)", after="(1,2)"),
    Rule("\\", r"\\(?:vec|hat|overline|overrightarrow)\s*\{\s*([A-Za-z]+)\s*\}", r" \1",
         before=r"2\vec{v}", after="2 v"),
    Rule("", r"\\?[$%€£]|(?<!\\)\\[()\[\]]", "",
         before=r"\$50\%", after="50"),
    # Text: a unit behind a value goes, a word stays.
    Rule("\\", rf"(\s*/\s*)?\\({TEXT_COMMANDS})\s*\{{([^{{}}]*)\}}"
               r"(\s*\^\s*\{?\s*[23]\s*\}?)?", unwrap_text,
         before=r"5\text{ cm}^2", after="5 "),
    # Ordinals and degrees.
    Rule("", r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:st|nd|rd|th)(?![a-zA-Z])\s*\}?", "",
         before="21^{st}", after="21"),
    Rule("", r"(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\degree(?![a-z])|°)"
             r"(?:\s*[CF]\b)?", "°",
         before=r"45^{\circ}", after="45°"),
    # Spaces of LaTeX.
    Rule("", r"(?<!\\)\\[,;: ]|\\q?quad(?![a-z])|(?<=\S)~", " ",
         before=r"1,\quad2", after="1, 2"),
    Rule("nswer", r"^\s*(?:[Tt]he )?(?:final )?[Aa]nswer(?: is\b\s*:?|\s*[:=])", "",
         before="The answer is: 5", after=" 5"),
    # One spelling of repeating decimals, of arguments without braces, of mixed numbers.
    Rule("\\", r"\\(?:bar|dot)\s*\{", r"\\overline{",
         before=r"0.\bar{3}", after=r"0.\overline{3}"),
    Rule("\\", r"(\\frac|\\binom|\\sqrt)\s*(\d)", r"\1{\2}",
         before=r"\frac12", after=r"\frac{1}2"),
    Rule("\\frac", r"(?<![\w.^}])(\d+)\s*(\\frac\{\d+\}(?:\{\d+\}|\s*\d))", r"(\1+\2)",
         before=r"1\frac{1}{2}", after=r"(1+\frac{1}{2})"),
    Rule("/", r"(?<![\w.^}/])(\d+)\s+(\d+/\d+)(?!\.?\d)", r"(\1+\2)",
         before="1 1/2", after="(1+1/2)"),
    # Units behind a value, outside of \text.
    Rule("", UNIT_TAIL, "",
         before="12 miles per hour", after="12"),
    # Sets.
    Rule("", r"^\s*[Aa]ll real(?:s| numbers)\W*$|\\mathbb\s*(?:\{R\}|R\b)", "ℝ",
         before="all real numbers", after="ℝ"),
    Rule("\\{", r"\\\{\s*[a-z]\s*(?:\\in\s*ℝ\s*)?(?:\||\\mid(?![a-z])|:)(.*)\\\}", r"\1",
         before=r"\{x|x>3\}", after="x>3"),
    # The end of a sentence; then the spaces that separate nothing: 1 2 is not 12.
    Rule("", r"(?<![.,;:\s])\s*[.,;:]?\s*$", "",
         before="5 .", after="5"),
    Rule(" ", r"\s+", " ",
         before="1   2", after="1 2"),
    Rule(" ", r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])|(?<=,) (?!\d{3})", "",
         before="x + 1, 2", after="x+1,2"),
]
# fmt: on
RULES = [rule._replace(pattern=re.compile(rule.pattern, re.ASCII)) for rule in RULES]


def tidy(text: str) -> str:
    """Returns the answer in plain spelling, without layout commands, units and separators."""
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda m: "^{" + m[0].translate(SCRIPTS) + "}", text)
        text = re.sub("[₀-₉]+", lambda m: "_{" + m[0].translate(SCRIPTS) + "}", text)
        text = text.translate(UNICODE)
    text = " ".join(text.split())
    for rule in RULES:
        if rule.marker in text:
            text = rule.pattern.sub(rule.replacement, text)
    return text if TRIGONOMETRY.search(text) else text.replace("°", "")


# --------------------------------------------------------------------------------------------------
# Tokens

TOKEN = re.compile(
    r"""
      \d*\.\d*(?:\\overline\{\d+\}|\(\d+\))                        # 0.1\overline{6}, 0.1(6)
    | \d+_(?:\d+|\{\d+\})                                          # 101_2
    | [1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!,?\d)                    # 1,234.5
    | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?               # 12, .5, 2e-3, not 1e999999
    | \\begin\{array\}\{[lcr| ]*\}                                 # a matrix with its alignment
    | \\(?:begin|end)\{[a-z]+\}                                    # the brackets of any other
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
    "/": r"\div ÷ :",
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
    "|": r"\lvert \rvert \vert",
    "(": r"\langle ⟨",
    ")": r"\rangle ⟩",
    r"\{": r"\lbrace",
    r"\}": r"\rbrace",
    r"\cup": "∪",
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


def tokenize(text: str) -> list[str]:
    """The tokens outside of all brackets; raises Refuse or ValueError."""
    found = TOKEN.findall(text)
    if len(found) > MAX_TOKENS:
        raise Refuse
    still_open = [OpenBracket("", [])]
    for token in found:
        token = PLAIN.get(token, token)
        if token.startswith((r"\begin", r"\end{")):
            token = token[: token.index("{")]  # a ValueError for a bare \begin
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
