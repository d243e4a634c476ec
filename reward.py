r"""The math reward: 1.0 if the final boxed answer of a response equals the gold answer, else 0.0.

In RL the grader *is* the objective: a false positive is exploited within a hundred steps, a false negative is noise,
a hang stops the run. So this is a small parser of its own (text -> tokens -> values) that never executes what a policy
wrote, as sympy's `parse_expr` and `sympify` do: they are `eval`. The conventions, shown case by case in
`tests/reward_cases.tsv`:
- The answer is the last `\boxed{...}` after the last `</think>`. An unclosed or empty last box is no answer.
- Equality is exact: 0.5 is 1/2, `0.\overline{3}` is 1/3, but 0.333 is not and 3.14 is not pi.
- Units, degrees, `%`, `$`, `\text{...}` behind a value, thin spaces, thousands separators and leading zeros are
  dropped (50% is 50, not 1/2). Inside a trigonometric function degrees are degrees.
- `1,234` is a number, `(1,234)` a pair. `\log` has base 10, `i` is imaginary, `e` is Euler's number, an odd root of a
  negative number is real, `2e-3` is 0.002. `101_2` is neither `101_3` nor 5; a gold `101_2 = 5` is answered by 5.
- Sets, unions and lists of solutions are unordered, `\pm` is two values; tuples, points and matrices are ordered;
  intervals keep their ends. A list, a bound or a negation never answers a value.
- `x = 5` answers 5, `x > 3` answers `(3,\infty)`. Two equations agree if the differences of their sides are
  proportional: `y=2x+1`, `4x-2y=-2`. Other inequalities are compared as written, in either direction.
- Words are words, without case: `no` is not `on`. A choice is `(A)`, `A`, `\text{A}` or `A.`.
- What cannot be read (sums, integrals, floors, piecewise functions) equals only the same text.

Rationals are compared exactly. Everything else is evaluated to 1000 bits: a constant once, a formula at four points
+-1 + sin(n)/8, which are transcendental: a polynomial with rational coefficients that vanishes at one is zero. What
enters has at most 330 bits and no intermediate value leaves 2**-400 .. 2**400, so a difference below 2**-800 is an
identity and not `\sqrt{2}+10^{-60}`. This is no proof for towers of nested roots, but it needs no simplifier, and
sympy's takes seconds on what a policy can write, `(x+y+z)^{1000}`. Points where just one side is real are skipped:
formulas are real functions where both exist, so `\ln x^2` is `2\ln x`, but `\sqrt{x^2}` is `|x|` and not x.
"""

import math
import operator
import re
from fractions import Fraction
from functools import cache, lru_cache
from itertools import product

# Caps, each checked before the work it bounds. The second line is explained above.
MAX_CHARS, MAX_TOKENS, MAX_DEPTH, MAX_BITS = 1000, 400, 30, 10_000
INPUT_BITS, RANGE_BITS, ZERO_BITS, PRECISION, POINTS = 330, 400, 800, 1000, 4
BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")


class Refuse(Exception):
    """The text is outside the grammar or over a cap."""


def extract_answer(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` after the last `</think>`, or None."""
    if text.rfind("<think>") > text.rfind("</think>"):
        return None  # cut off while thinking: a box in there was not the answer yet
    opened, answer, answer_at = [], "", -1
    for match in BRACES.finditer(text, text.rfind("</think>") + 1):  # one pass, as there may be megabytes of braces
        if match[0] == "}" and opened:
            is_box, at = opened.pop()
            if is_box:  # a box around this one closes later and replaces it: no hedging by nesting
                answer, answer_at = text[at : match.start()], at
        elif match[0] == "{" or "boxed" in match[0]:
            opened.append((match[0] != "{", match.end()))
    if any(is_box and at > answer_at for is_box, at in opened):
        return None  # the last box was never closed
    return answer.strip() or None


# --- text: drop what carries no meaning --------------------------------------------------------------

UNICODE = str.maketrans(
    {"½": r"\frac12", "⅓": r"\frac13", "⅔": r"\frac23", "¼": r"\frac14", "¾": r"\frac34", "√": " sqrt ",
     "∛": r"\sqrt[3]", "′": "'", "\u2009": r"\,", "\u202f": r"\,", "\u00a0": " "}
)  # fmt: skip
SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉", "0123456789+-n0123456789")
UNITS = (
    "[cmk]?m|in|inch(?:es)?|f(?:oo|ee)?t|y(?:ar)?ds?|mi|miles?|(?:centi|milli|kilo)?met(?:er|re)s?|m?g|kg|lbs?|pounds?|"
    "(?:kilo)?grams?|oz|ounces?|tons?|m?[lL]|lit(?:er|re)s?|gallons?|s|sec(?:ond)?s?|min(?:ute)?s?|h|hrs?|hours?|days?|"
    "weeks?|months?|years?|mph|[kM]?Hz|N|J|k?W|V|deg(?:ree)?s?|rad(?:ian)?s?|percent|USD|dollars?|cents?|euros?|units?|"
    "sq\\.?|square|cubic|points?|people|students?|ways"
)
TEXT_COMMANDS = "text|mbox|mathrm|textrm|textbf|textit|mathbf|operatorname"
UNIT = rf"(?:{UNITS})(?![a-zA-Z])(?:\s*\^\s*(?:\{{\s*-?\d\s*\}}|-?\d))?"
UNIT_TAIL = (  # 5 m is a length, 5m and \frac{1}{2} m are products
    rf"(?:(?:(?<=[\d)}}\]°])|(?<=\\pi)(?=\s))(?!\s*[a-zA-Z]\b)\s*|(?<=\d)(?<!\^\d)\s+){UNIT}"
    rf"(?:(?:\s*/\s*|\s+per\s+|\s+){UNIT})*\s*\.?\s*$"
)
# Text behind a value is a unit or a noun and is dropped, unless one of these words says that it is more.
TELLING = set(
    "a or and not no nor never is are the if than least most more less over under above below about around between but "
    "approximately except hundred thousand million billion dozen half twice squared cubed factorial times plus minus to "
    "from mod base".split()
)


def unwrap_text(match: re.Match) -> str:
    r"""Replace `\text{...}`: by nothing for a unit or a noun behind a value, else by its bare content."""
    slash, command, content, power = match.groups()
    if command in ("text", "mbox"):
        noun = re.fullmatch("[A-Za-z .~/^-]+", content) and not TELLING & set(content.lower().replace("~", " ").split())
    else:  # also upright operators, e, i and vectors
        noun = re.fullmatch(rf"(?:[\s/~]*{UNIT})+\s*", content)
    after_value = re.search(r"[\w)}\]!|]\s*$", match.string[: match.start()])
    return " " if noun and after_value else f"{slash or ''} {content} {power or ''}"


# Applied in this order, each only where its marker (a substring that it needs) occurs: marker, pattern, replacement.
CLEANUPS = [
    ("\\", r"(?<=\d)\\[,;:! ](?=\d{3}(?!\d))", ""),  # 1\,234
    ("{,}", r"(?<=\d)\{,\}(?=\d{3}(?!\d))", ""),
    ("\\", r"\\[dtc](frac|binom)", r"\\\1"),
    ("\\", r"\\(?:(?:left|right)(?![a-z])\s*\.?|[bB]igg?[lrm]?(?![a-z])|!|(?:displaystyle|boxed|angle)(?![a-z]))", ""),
    ("\\", r"\\(?:vec|hat|overline|overrightarrow)\s*\{\s*([A-Za-z]+)\s*\}", r" \1"),
    ("", r"\\?[$%€£]", ""),
    ("\\", rf"(\s*/\s*)?\\({TEXT_COMMANDS})\s*\{{([^{{}}]*)\}}(\s*\^\s*\{{?\s*[23]\s*\}}?)?", unwrap_text),
    ("\\", r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\degree(?![a-z])", "°"),
    ("°", r"°(?:\s*[CF]\b)?", "°"),
    ("\\", r"(?<!\\)\\[,;: ]|\\q?quad(?![a-z])", " "),
    ("~", r"(?<=\S)~", " "),
    ("\\", r"\\(?:bar|dot)\s*\{", r"\\overline{"),
    ("\\choose", r"\{([^{}]*)\\choose([^{}]*)\}", r"\\binom{\1}{\2}"),
    ("\\", r"(\\frac|\\binom|\\sqrt)\s*(\d)", r"\1{\2}"),
    ("\\frac", r"(?<![\w.^}])(\d+)\s*(\\frac\{\d+\}(?:\{\d+\}|\s*\d))", r"(\1+\2)"),  # mixed numbers: 1\frac12 ...
    ("/", r"(?<![\w.^}/])(\d+)\s+(\d+/\d+)(?!\.?\d)", r"(\1+\2)"),  # ... and 1 1/2
    ("", UNIT_TAIL, ""),
    ("all", r"(?i)^\s*all (?:real numbers|reals)\W*$", "ℝ"),
    ("\\mathbb", r"\\mathbb\s*(?:\{R\}|R\b)", "ℝ"),
    ("\\{", r"\\\{\s*[a-z]\s*(?:\\in\s*ℝ\s*)?(?:\||\\mid(?![a-z])|:)(.*)\\\}", r"\1"),  # {x | x > 3}
    ("", r"(?<![.,;:\s])\s*[.,;:]?\s*$", ""),
    (" ", r"\s+", " "),
    (" ", r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])|(?<=,) (?!\d{3})", ""),  # other spaces separate: 1 2 is not 12
]
CLEANUPS = [(marker, re.compile(pattern, re.ASCII), replacement) for marker, pattern, replacement in CLEANUPS]


def tidy(text: str) -> str:
    """Return the answer in plain spelling, without layout commands, units and separators."""
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda m: "^{" + m[0].translate(SCRIPTS) + "}", text)
        text = re.sub("[₀-₉]+", lambda m: "_{" + m[0].translate(SCRIPTS) + "}", text).translate(UNICODE)
    text = text.replace("\n", " ").replace("\t", " ")
    for marker, pattern, replacement in CLEANUPS:
        if marker in text:
            text = pattern.sub(replacement, text)
    return text if re.search("sin|cos|tan|cot|sec|csc", text) else text.replace("°", "")


# --- values: a Fraction; a list of the values at the sample points, just one for a constant; or a tuple:
# --- ("seq", brackets, items), ("list", items), ("eq", name, value, left - right) ----------------------

ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
INFINITY, MINUS_INFINITY = ("seq", "+∞", ()), ("seq", "-∞", ())  # no arithmetic: each equals only itself


@cache
def numerics():
    import mpmath  # only when rationals do not settle the pair; a context of its own: no global state

    context = mpmath.MPContext()
    context.prec = PRECISION
    return context


def exact(op: str, a: Fraction, b: Fraction | None = None) -> Fraction | None:
    """Return a rational result, None where it may be irrational; refuse before anything large is computed."""
    if op in ARITHMETIC:
        result = ARITHMETIC[op](a, b)
    elif op == "^" and b.denominator == 1:
        bits = a.numerator.bit_length() + a.denominator.bit_length()
        if bits * abs(b.numerator) > MAX_BITS or a == 0 >= b:
            raise Refuse  # 9^9^9^9 ends here, and 0^0
        result = a**b.numerator
    elif op == "factorial" and a.denominator == 1 and 0 <= a <= 1000:
        result = Fraction(math.factorial(a.numerator))
    elif op == "binomial" and a.denominator == b.denominator == 1 and 0 <= b <= a <= MAX_BITS:
        result = Fraction(math.comb(a.numerator, b.numerator))
    else:
        return None
    if result.numerator.bit_length() + result.denominator.bit_length() > MAX_BITS:
        raise Refuse
    return result


def numeric(op: str, args: tuple, exponent: Fraction | None):
    """Compute one operation at one sample point; `op` comes from the tables below, never from the text."""
    mp, zero_below = numerics(), -math.inf
    if op in ("^", "factorial", "binomial") and mp.mag(args[-1]) > 15:
        raise Refuse
    if op in ARITHMETIC:
        value = ARITHMETIC[op](*args)
        zero_below = max(map(mp.mag, args)) - ZERO_BITS if op in "+-" else zero_below
    elif op == "^" and exponent and exponent.denominator == 1:
        value = args[0] ** exponent.numerator
    elif op == "^" and exponent and exponent.denominator % 2 and mp.im(args[0]) == 0 and args[0] < 0:
        value = (-1) ** exponent.numerator * mp.power(-args[0], args[1])  # the real root
    else:
        value = getattr(mp, "power" if op == "^" else op)(*args)
        zero_below = -math.inf if op in ("^", "exp") else -ZERO_BITS  # sin(pi) leaves dust; these have no zero
    size = mp.mag(value)
    if not value or size < zero_below:
        return mp.zero
    if not -RANGE_BITS <= size <= RANGE_BITS:
        raise Refuse
    if isinstance(value, mp.mpf) or mp.mag(value.imag) < size - ZERO_BITS:
        return mp.re(value)
    return mp.mpc(0, value.imag) if mp.mag(value.real) < size - ZERO_BITS else value


def sampled(value: Fraction | list) -> list:
    if isinstance(value, list):
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > INPUT_BITS:
        raise Refuse
    return [numerics().mpf(value.numerator) / value.denominator]


def apply(op: str, *args):
    """Apply an operation to values: exactly if they and the result are rational, else at each sample point."""
    if vectors := [arg for arg in args if isinstance(arg, tuple)]:
        scalars = [arg for arg in args if not isinstance(arg, tuple)]
        if op != "*" or not scalars or vectors[0][1] not in ("()", "matrix"):
            raise Refuse
        return (*vectors[0][:2], tuple(apply("*", *scalars, item) for item in vectors[0][2]))
    if all(isinstance(arg, Fraction) for arg in args) and (result := exact(op, *args)) is not None:
        return result
    exponent, columns = args[-1] if isinstance(args[-1], Fraction) else None, [sampled(arg) for arg in args]
    count = max(map(len, columns))
    return [numeric(op, at, exponent) for at in zip(*(column * (count // len(column)) for column in columns))]


@lru_cache(maxsize=256)
def unknown(name: str) -> list:
    """Return the sample points of a letter: near +-1, for `x^{2023}`; the signs of two letters differ somewhere."""
    mp, bits = numerics(), int.from_bytes(name.encode()[:30])
    signs = (1, -1, (-1) ** bits, (-1) ** (bits // 2))
    return [sign + mp.sin(POINTS * bits + point) / 8 for point, sign in enumerate(signs)]


def read_number(text: str) -> Fraction:
    r"""Read `033`, `.5`, `1.5e-3`, `0.1\overline{6}` or `0.1(6)`."""
    if text.isdigit():
        return Fraction(int(text))
    digits, _, repeat = text.rstrip(")}").replace(r"\overline{", "(").partition("(")
    value = Fraction(digits)
    if repeat:
        value += Fraction(int(repeat), (10 ** len(repeat) - 1) * 10 ** len(digits.partition(".")[2]))
    return exact("+", value, Fraction(0))


# --- tokens and grammar ------------------------------------------------------------------------------

WORDS = re.compile(r"(?!.*\b(?:and|or)\b)[a-z][a-z' ]*")
TOKEN = re.compile(
    r"\d*\.\d*(?:\\overline\{\d+\}|\(\d+\))|\d+_(?:\d+|\{\d+\})"  # 0.1\overline{6}, 0.1(6), 101_2
    r"|[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!,?\d)|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4}(?!\d))?"  # not 1e999999999
    r"|\\begin\{array\}\{[lcr| ]*\}|\\(?:begin|end)\{[a-z]+\}|\\?log(?![a-zA-Z])"
    r"|(?:\\[a-zA-Z]+|[a-zA-Z])(?:_(?:\d+|[a-zA-Z]|\{[^{}]*\})|')+|\\[a-zA-Z]+|\\[\\{}]"
    r"|[A-Za-z]+(?![_'])|[<>!]=|\*\*|!!|\S",
    re.ASCII,
)
SPELLINGS = r"""
    \cdot * \times * \ast * × * · * ⋅ * \div / ÷ / : / ** ^ − - – - \le <= \leq <= \leqslant <= ≤ <= \ge >= \geq >=
    \geqslant >= ≥ >= \lt < \gt > \ne != \neq != ≠ != \in in ∈ in \approx ≈ \infty ∞ infinity ∞ \lg \log \lor or
    \land and ∪ \cup ± \pm ∓ \mp \lvert | \rvert | \vert | \langle ( ⟨ ( \rangle ) ⟩ ) \lbrace \{ \rbrace \}
    \varnothing \emptyset ∅ \emptyset \varphi \phi φ \phi π \pi θ \theta α \alpha β \beta λ \lambda""".split()
SPELLINGS = dict(zip(SPELLINGS[::2], SPELLINGS[1::2]))
TRIG = {name: name for name in "sin cos tan cot sec csc sinh cosh tanh asin acos atan".split()}
TRIG |= {f"arc{name}": f"a{name}" for name in "sin cos tan cot sec csc".split()}
FUNCTIONS = TRIG | {"ln": "log", "log": "log", "exp": "exp", "abs": "fabs", "sqrt": "sqrt"}  # to the names in mpmath
CONSTANTS = {"pi": "pi", "e": "e", "i": "j"}
RESERVED = {*FUNCTIONS, *CONSTANTS, "or", "and", "in"}
GREEK = "alpha beta gamma delta epsilon eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega Delta".split()
BRACKETS = {"(": ")]", "[": ")]", "{": "}", r"\{": [r"\}"], r"\begin": [r"\end"]}
NESTING = dict.fromkeys(BRACKETS, 1) | dict.fromkeys([")", "]", "}", r"\}", r"\end"], -1)
IMPLICIT, FACTOR = 3, 3.5  # how tightly an omitted product sign binds, and the operand of a product
LEVELS = {"+": (1, 2), "-": (1, 2), "*": (2, FACTOR), "/": (2, FACTOR), "^": (4, 4), "!": (5, 0), "°": (5, 0)}
POSTFIX = {"!": "factorial", "°": "radians"}
BARE, DIGITS = str.maketrans("", "", "\\{}"), set("0123456789.")
RELATIONS = {"=", "<", ">", "<=", ">=", "!=", "in", "≈"}
# The side of a relation that only names the answer: x, AB, Area, x_1, f(x), f(2), (x,y), |v|, 101_2.
NAME = re.compile(
    r"(?:\\?[A-Za-z](?:_\d+|_[A-Za-z]|_\{[^{}]*\}|')*)+|[fghpFGHP](?:\^\{-1\})?\(.*\)|\((?:[a-zA-Z],?)+\)"
    r"|\|[A-Za-z]+\||\d+_\{?\d+\}?"
)


def tokenize(text: str) -> list[str]:
    tokens, depth = [], 0
    for token in TOKEN.findall(text):
        token = SPELLINGS.get(token, token)
        token = token[: token.index("{")] if token.startswith((r"\begin", r"\end{")) else token
        depth += NESTING.get(token, 0)
        if token[0].isdigit() and "," in token:  # 1,234 is a number, but (1,234) a pair
            tokens += re.findall("[^,]+|,", token) if depth else [token.replace(",", "")]
        elif token.isalpha() and len(token) <= 3 and token not in RESERVED:
            tokens += token  # xy is a product, a longer run of letters is a name
        else:
            tokens.append(token)
    if len(tokens) > MAX_TOKENS:
        raise Refuse
    return tokens


def split(tokens: list[str], separators: set[str]) -> tuple[list[list[str]], list[str]]:
    """Split at the separators that are outside all brackets; return the parts and the separators met."""
    if separators.isdisjoint(tokens):
        return [tokens], []
    parts, met, depth = [[]], [], 0
    for token in tokens:
        depth += NESTING.get(token, 0)
        if token in separators and depth == 0:
            met.append(token)
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, met


def choose_signs(tokens: list[str]) -> list[list[str]]:
    r"""Return a version for each choice of signs; with \mp all of them change together, else each is free."""
    places = [k for k, token in enumerate(tokens) if token in (r"\pm", r"\mp")]
    if not places or r"\{" in tokens:  # a set chooses for each member
        return [tokens]
    if len(places) > 3 or len(tokens) << len(places) > MAX_TOKENS:
        raise Refuse  # k signs are 2**k values
    versions = []
    for choice in product((1, -1), repeat=1 if r"\mp" in tokens else len(places)):
        versions.append(list(tokens))
        for place, sign in zip(places, choice * len(places)):
            versions[-1][place] = "+" if (sign > 0) == (tokens[place] == r"\pm") else "-"
    return versions


def read_list(tokens: list[str], depth: int):
    r"""Read `a, b`, `a or b`, `A \cup B` as a list of its members, a single member as itself."""
    parts, separators = split(tokens, {",", ";", "or", "and", r"\cup"})
    if "or" in separators or "and" in separators:
        parts = [part for part in parts if part]  # "1, 2, and 3"
    members = []
    for part in parts:
        for signed in choose_signs(part):
            member = relation(signed, depth)
            flat = isinstance(member, tuple) and member[0] == "list" and set(separators) <= {r"\cup"}
            members += member[1] if flat else [member]
    if "and" in separators and any(isinstance(m, tuple) and m[0] == "eq" and isinstance(m[2], tuple) for m in members):
        raise Refuse  # "x > 1 and x < 3" is an intersection, a list is a union
    return members[0] if len(members) == 1 else ("list", tuple(members))


def relation(tokens: list[str], depth: int):
    """Read a formula, or a chain of relations between formulas."""
    parts, ops = split(tokens, RELATIONS)
    if not ops:
        return Parser(tokens, depth).all()
    if set(ops) <= {">", ">="}:
        parts, ops = parts[::-1], [op.replace(">", "<") for op in ops[::-1]]
    sides = [Parser(part, depth).all() for part in parts]
    named = [bool(NAME.fullmatch("".join(part))) and not RESERVED & {t.strip("\\") for t in part} for part in parts]
    if len(ops) > named[0] and ops[-1] == "≈":  # "pi, about 3.14": the exact side is the answer
        parts, sides, ops = parts[:-1], sides[:-1], ops[:-1]
    first, last = sides[0], sides[-1]
    if set(ops) <= {"=", "in", "≈"}:
        if not named[0] and all(same(side, last) for side in sides):
            return last  # 2+3 = 5
        difference = None if isinstance(first, tuple) or isinstance(last, tuple) else apply("-", first, last)
        if named[0] or len(sides) == 2 and named[1]:
            return ("eq", "".join(parts[not named[0]]), last if named[0] else first, difference)
        if len(sides) > 2 or difference is None or len(sampled(difference)) == 1:
            raise Refuse  # 5 = 6
        return ("eq", "", None, difference)
    if ops == ["!="]:
        return ("seq", "!=", (("list", (first, last)),))
    if not set(ops) <= {"<", "<="}:
        raise Refuse
    if len(sides) == 2 and named[0]:  # x < 3 is -oo < x < 3
        parts, sides, ops = ["", *parts], [MINUS_INFINITY, *sides], ["<", *ops]
    elif len(sides) == 2 and named[1]:
        sides, ops = [*sides, INFINITY], [*ops, "<"]
    elif len(sides) != 3 or not named[1]:
        return ("seq", " ".join(ops), tuple(sides))
    ends = ("[" if ops[0] == "<=" else "(") + ("]" if ops[1] == "<=" else ")")
    return ("eq", "".join(parts[1]), ("seq", ends, (sides[0], sides[2])), None)


class Parser:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, tokens: list[str], depth: int):
        self.tokens, self.at, self.depth = [*tokens, ""], 0, depth

    def take(self, expected: str = "") -> str:
        """Take the next token; if another one is expected, take nothing and return ''."""
        token = self.tokens[self.at]
        if not token or expected and token != expected:
            return ""
        self.at += 1
        return token

    def until(self, closing: str) -> list[str]:
        """Take the tokens up to the closing bracket, and the bracket."""
        start, depth = self.at, 0
        while depth or self.tokens[self.at] not in closing:
            depth += NESTING.get(self.take(), 0)
            if not self.tokens[self.at]:
                raise Refuse
        self.at += 1
        return self.tokens[start : self.at - 1]

    def all(self):
        value = self.expression()
        if self.take():
            raise Refuse
        return value

    def expression(self, tight: float = 0):
        """Read a formula up to an operator that binds less tightly than `tight`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refuse
        left = self.prefix(tight)
        while token := self.tokens[self.at]:
            follows = token[0] in "\\([{|" or token[0].isalpha() or self.tokens[self.at - 1] == "!"  # not: 2 3, x2
            implicit = follows and token not in LEVELS
            argument_ends = tight == IMPLICIT and (token.lstrip("\\") in FUNCTIONS or token in "([{|")  # \sin x \cos x
            level, operand = (IMPLICIT, FACTOR) if implicit else LEVELS.get(token, (-1, 0))
            if level < tight or implicit and argument_ends:
                break
            op = "*" if implicit else self.take()
            left = apply(op, left, self.expression(operand)) if operand else apply(POSTFIX[op], left)
        self.depth -= 1
        return left

    def prefix(self, tight: float = FACTOR):
        """Read a number, a name, a bracket, or a command with its arguments."""
        token = self.take()
        if token[:1] in DIGITS and "_" not in token:
            return read_number(token)
        if token == "∞" or token in ("+", "-") and self.take("∞"):
            return MINUS_INFINITY if token == "-" else INFINITY
        if token in ("+", "-"):
            return apply("*", Fraction(f"{token}1"), self.expression(max(tight, 2)))
        if token in BRACKETS:
            return self.bracket(token)
        if token == "|":
            return apply("fabs", Parser(self.until("|"), self.depth).all())
        if token in (r"\frac", r"\binom"):
            return apply("/" if token == r"\frac" else "binomial", self.prefix(), self.prefix())
        name = token.translate(BARE)
        stem, _, subscript = name.rstrip("'").partition("_")
        if token == r"\emptyset":
            return ("list", ())
        if token == "ℝ":
            return ("seq", "()", (MINUS_INFINITY, INFINITY))
        if name in FUNCTIONS:
            return self.function(name)
        if name in CONSTANTS:
            return [+getattr(numerics(), CONSTANTS[name])]
        if stem.isdigit() and subscript:  # 101_2 is an unknown of that name, not a value
            return Fraction(int(stem)) if subscript == "10" else unknown(f"{int(stem)}_{subscript}")
        if stem in GREEK or stem.isalpha() and token[0] != "\\":
            return unknown(name)
        raise Refuse

    def bracket(self, opening: str):
        inside = self.until(BRACKETS[opening])
        if opening == r"\{":
            return read_list(inside, self.depth + 1) if inside else ("list", ())
        if opening == r"\begin":
            rows = [split(row, {"&"})[0] for row in split(inside, {r"\\"})[0] if row]
            rows = [[Parser(cell, self.depth).all() for cell in row] for row in rows]
            if len(rows) > 1 and all(len(row) == 1 for row in rows):  # a column is a vector
                return ("seq", "()", tuple(row[0] for row in rows))
            return ("seq", "matrix", tuple(("seq", "matrix", tuple(row)) for row in rows))
        items = tuple(Parser(part, self.depth).all() for part in split(inside, {","})[0])
        brackets = opening + self.tokens[self.at - 1]
        if len(items) == 1 and brackets in ("()", "[]", "{}"):
            return items[0]
        return ("list", items) if opening == "{" else ("seq", brackets, items)

    def function(self, name: str):
        function, exponent = FUNCTIONS[name], None
        if name == "sqrt":
            index = Parser(self.until("]"), self.depth).all() if self.take("[") else Fraction(2)
            return apply("^", self.prefix(), apply("/", Fraction(1), index))
        base = self.prefix() if name == "log" and self.take("_") else Fraction(10)
        if self.take("^"):
            exponent = self.expression(4)
        if exponent == -1 and name in TRIG:
            function, exponent = "a" + function, None
        value = apply(function, self.prefix() if self.tokens[self.at] in "([{|" else self.expression(IMPLICIT))
        value = apply("/", value, apply("log", base)) if name == "log" else value
        return value if exponent is None else apply("^", value, exponent)


# --- comparison --------------------------------------------------------------------------------------


def same_formula(a, b) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    mp, a, b = numerics(), sampled(a), sampled(b)
    pairs = zip(a * (POINTS // len(a)), b * (POINTS // len(b)))
    alike = [(u, v) for u, v in pairs if (mp.im(u) == 0) == (mp.im(v) == 0)]  # else just one side is real
    return len(alike) >= 2 and all(u == v or mp.mag(u - v) < mp.mag(u) - ZERO_BITS for u, v in alike)


def same(a, b) -> bool:
    """Compare two values; of lists each member must be in the other one."""
    kinds = [value[0] if isinstance(value, tuple) else "formula" for value in (a, b)]
    if kinds == ["eq", "eq"]:
        if a[3] is None or b[3] is None:
            return a[1] == b[1] != "" and same(a[2], b[2])
        u, v = a[3], b[3]  # proportional: u / u[0] = v / v[0]
        return bool(u[0] and v[0]) and same_formula([x * v[0] for x in u], [x * u[0] for x in v])
    if "eq" in kinds:  # x = 5 answers 5
        a, b = (a, b) if kinds[0] == "eq" else (b, a)
        return a[2] is not None and same(a[2], b)
    if kinds[0] != kinds[1]:
        return False
    if kinds[0] == "formula":
        return same_formula(a, b)
    if kinds[0] == "list":
        return all(any(same(x, y) for y in b[1]) for x in a[1]) and all(any(same(x, y) for x in a[1]) for y in b[1])
    return a[1] == b[1] and len(a[2]) == len(b[2]) and all(map(same, a[2], b[2]))


@lru_cache(maxsize=256)
def read(text: str):
    return read_list(tokenize(text), 0)


def is_equivalent(pred: str | None, gold: str | None) -> bool:
    """Say whether two answers (without their box) are equal by the conventions of this file."""
    if not isinstance(pred, str) or not isinstance(gold, str):
        return False
    if len(pred) > MAX_CHARS or len(gold) > MAX_CHARS:
        return pred.strip() == gold.strip() != ""
    pred, gold = tidy(pred), tidy(gold)
    if pred == gold or not pred or not gold:
        return pred == gold != ""
    words = [text.strip("().: ").casefold() for text in (pred, gold)]
    if all(map(WORDS.fullmatch, words)):
        return words[0] == words[1]
    try:
        return same(read(pred), read(gold))
    except Exception:  # mostly Refuse; but whatever an answer finds broken here costs one reward, not the run
        return False


def math_reward(response: str, gold: str) -> float:
    """Return 1.0 if the response's final answer equals the gold answer, else 0.0."""
    return float(is_equivalent(extract_answer(response), gold))
