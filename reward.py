r"""The math reward: 1.0 if the final boxed answer of a response equals the gold answer, else 0.0.

In RL the grader *is* the objective: a false positive is exploited within a hundred steps, a false negative is noise,
a hang stops the run. So this is a small parser of its own (text -> tokens -> values) that never executes what a policy
wrote, as sympy's `parse_expr` and `sympify` do: they are `eval`. The conventions, shown case by case in
`tests/reward_cases.tsv`:
- The answer is the last `\boxed{...}` after the last `</think>`. An unclosed or empty last box is no answer.
- Equality is exact: 0.5 is 1/2, `0.\overline{3}` is 1/3, but 0.333 is not and 3.14 is not pi.
- Units and nouns behind a value, degrees, `%`, `$`, thin spaces, thousands separators and leading zeros are dropped
  (50% is 50, not 1/2), words that change the value are not (`5 million`). In a trigonometric function degrees count.
- `1,234` is a number, `(1,234)` a pair. `\log` has base 10, `i` is imaginary, `e` is Euler's number, an odd root of a
  negative number is real, `2e-3` is 0.002. `101_2` is neither `101_3` nor 5; a gold `101_2 = 5` is answered by 5.
- Sets, unions and lists of solutions are unordered, `\pm` is two values; tuples, points and matrices are ordered;
  intervals keep their ends. A list, a bound or a negation never answers a value.
- `x = 5` answers 5, `x > 3` answers `(3,\infty)`. Two equations agree if the differences of their sides are
  proportional: `y=2x+1`, `4x-2y=-2`. Other inequalities are compared as written, in either direction.
- Words are words, without case: `no` is not `on`. A choice is `(A)`, `A`, `\text{A}` or `A.`.
- What cannot be read (sums, integrals, piecewise functions, `\max`) equals only the same text.

Rationals are compared exactly. Everything else is evaluated to 1000 bits: a constant once, a formula at eight points
+-1 + sin(n)/8, which are transcendental: a polynomial with rational coefficients that vanishes at one is zero. What
enters has at most 330 bits and no intermediate value leaves 2**-400 .. 2**400, so a difference below 2**-800 is an
identity and not `\sqrt{2}+10^{-60}`. This is no proof for towers of nested roots, but it needs no simplifier, and
sympy's takes seconds on what a policy can write, `(x+y+z)^{1000}`. Formulas are real functions, compared where all
of both is real: `\ln x^2` is `2\ln x` and `\sqrt{ab}` is `\sqrt{a}\sqrt{b}`, but `\sqrt{x^2}` is `|x|` and not x.
"""

import math
import operator
import re
from fractions import Fraction
from functools import lru_cache

import mpmath

# Caps, each checked before the work it bounds. The second line is explained above.
MAX_CHARS, MAX_TOKENS, MAX_DEPTH, MAX_BITS = 1000, 250, 20, 10_000
INPUT_BITS, RANGE_BITS, ZERO_BITS, PRECISION, POINTS = 330, 400, 800, 1000, 8
MP = mpmath.MPContext()  # a context of its own: whoever else uses mpmath keeps his precision
MP.prec = PRECISION
BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")


class Refuse(Exception):
    """The text is outside the grammar or over a cap."""


def extract_answer(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` after the last `</think>`, or None."""
    if text.rfind("<think>") > text.rfind("</think>"):
        return None  # cut off while thinking: a box in there was not the answer yet
    opened, answer, answer_at = [], "", -1  # opened: where the open boxes begin, 0 for other braces
    for match in BRACES.finditer(text, text.rfind("</think>") + 1):  # one pass, as there may be megabytes of braces
        if match[0] == "}" and opened:
            if start := opened.pop():  # a box around this one closes later and replaces it: no hedging by nesting
                answer, answer_at = text[start : match.start()], start
        elif match[0] == "{" or "boxed" in match[0]:
            opened.append(match.end() if "boxed" in match[0] else 0)
    if max(opened, default=0) > answer_at:
        return None  # the last box was never closed
    return answer.strip() or None


# --- text: drop what carries no meaning --------------------------------------------------------------

UNICODE = str.maketrans(
    {"½": r"\frac12", "⅓": r"\frac13", "⅔": r"\frac23", "¼": r"\frac14", "¾": r"\frac34", "√": " sqrt ",
     "∛": r"\sqrt[3]", "′": "'", "⁄": "/", "±": r"\pm "}
)  # fmt: skip
SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉", "0123456789+-n0123456789")
# Words behind a value are a unit or a noun and are dropped, unless one of these says that there is more.
TELLING = (
    "a|or|and|not?|nor|never|is|are|the|if|than|least|most|more|less|over|under|above|below|about|around|between|but|"
    "approximately|except|hundred|thousand|million|billion|dozen|half|twice|squared|cubed|factorial|times|plus|minus|"
    "to|from|mod|base|choose|infinity|sqrt|alpha|beta|theta|lambda"
)
NOUNS = rf"(?i)(?!.*\b(?:{TELLING})\b)[a-z .~/^-]+"
SHORT = r"(?:[cmk]?m|in|ft|yds?|mi|m?g|kg|lbs?|oz|m?[lL]|s|secs?|mins?|h|hrs?|days?|mph|[kM]?Hz|N|J|k?W|V|USD|sq|ways)"
UNIT = rf"(?:{SHORT}|(?!(?:{TELLING})s?\b)[a-z]{{4,}})(?![a-zA-Z])(?:\s*\^\s*(?:\{{\s*-?\d\s*\}}|-?\d))?"
UNIT_TAIL = (  # 5 m is a length, 5m and \frac{1}{2} m are products
    rf"(?:(?:(?<=[\d)}}\]°])|(?<=\\pi)(?=\s))(?!\s*[a-zA-Z]\b)\s*|(?<=\d)(?<!\^\d)\s+){UNIT}"
    rf"(?:(?:\s*/\s*|\s+per\s+|\s+){UNIT})*\s*\.?\s*$"
)
TEXT_COMMANDS = "text|mbox|mathrm|textrm|textbf|textit|mathbf|operatorname"


def unwrap_text(match: re.Match) -> str:
    r"""Replace `\text{...}`: by nothing for a unit or a noun behind a value, else by its bare content."""
    slash, command, content, power = match.groups()
    after_value = re.search(r"[\w)}\]!|]\s*$", match.string[: match.start()])
    droppable = NOUNS if command in ("text", "mbox") else rf"(?:[\s/~]*{SHORT})+\s*"  # others: operators, e, i
    return " " if after_value and re.fullmatch(droppable, content) else f"{slash or ''} {content} {power or ''}"


# Applied in this order, each only where its marker (a substring that it needs) occurs: marker, pattern, replacement.
CLEANUPS = [
    ("", r"(?<=\d)(?:\\[,;:!]|\\? |\{,\})(?=\d{3}(?![\d/]))", ""),  # 1\,234, 1 234
    ("\\", r"\\[dtc](frac|binom)", r"\\\1"),
    ("\\", r"\\(?:(?:left|right)(?![a-z])\s*\.?|[bB]igg?[lrm]?(?![a-z])|!|(?:displaystyle|boxed|angle)(?![a-z]))", ""),
    ("\\", r"\\(?:vec|hat|overline|overrightarrow)\s*\{\s*([A-Za-z]+)\s*\}", r" \1"),
    ("", r"\\?[$%€£]|(?<!\\)\\[()\[\]]", ""),
    ("\\", rf"(\s*/\s*)?\\({TEXT_COMMANDS})\s*\{{([^{{}}]*)\}}(\s*\^\s*\{{?\s*[23]\s*\}}?)?", unwrap_text),
    ("", r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:st|nd|rd|th)(?![a-zA-Z])\s*\}?", ""),  # 21^{st}
    ("", r"(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\degree(?![a-z])|°)(?:\s*[CF]\b)?", "°"),
    ("", r"(?<!\\)\\[,;: ]|\\q?quad(?![a-z])|(?<=\S)~", " "),
    ("nswer", r"^\s*(?:[Tt]he )?(?:final )?[Aa]nswer(?: is\b\s*:?|\s*[:=])", ""),
    ("\\", r"\\(?:bar|dot)\s*\{", r"\\overline{"),
    ("\\", r"(\\frac|\\binom|\\sqrt)\s*(\d)", r"\1{\2}"),
    ("\\frac", r"(?<![\w.^}])(\d+)\s*(\\frac\{\d+\}(?:\{\d+\}|\s*\d))", r"(\1+\2)"),  # mixed numbers: 1\frac12 ...
    ("/", r"(?<![\w.^}/])(\d+)\s+(\d+/\d+)(?!\.?\d)", r"(\1+\2)"),  # ... and 1 1/2
    ("", UNIT_TAIL, ""),
    ("", r"^\s*[Aa]ll real(?:s| numbers)\W*$|\\mathbb\s*(?:\{R\}|R\b)", "ℝ"),
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
    text = " ".join(text.split())
    for marker, pattern, replacement in CLEANUPS:
        if marker in text:
            text = pattern.sub(replacement, text)
    return text if re.search("sin|cos|tan|cot|sec|csc", text) else text.replace("°", "")


# --- values: a Fraction; a list of the values at the sample points, just one for a constant; or a tuple:
# --- ("seq", brackets, items), ("list", items), ("eq", name, value, left - right) ----------------------

COUNTING = {"factorial": lambda a, _: math.factorial(a), "binomial": math.comb}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
OPAQUE = {"floor": "expm1", "ceil": "erfc"}  # of a formula: any function will do, each equals only itself
INFINITY, MINUS_INFINITY = ("seq", "+∞", ()), ("seq", "-∞", ())  # no arithmetic: each equals only itself


def exact(op: str, a: Fraction, b: Fraction = Fraction(1)) -> Fraction | None:
    """Return a rational result, None where it may be irrational; refuse before anything large is computed."""
    if op in ARITHMETIC:
        result = ARITHMETIC[op](a, b)
    elif op == "^" and b.denominator == 1:
        bits = a.numerator.bit_length() + a.denominator.bit_length()
        if bits * abs(b.numerator) > MAX_BITS or a == 0 >= b:
            raise Refuse  # 9^9^9^9 ends here, and 0^0
        result = a**b.numerator
    elif op in COUNTING and a.denominator == b.denominator == 1 and 0 <= a <= 1000 and 0 <= b:
        result = Fraction(COUNTING[op](int(a), int(b)))
    else:
        return None
    if result.numerator.bit_length() + result.denominator.bit_length() > MAX_BITS:
        raise Refuse
    return result


def numeric(op: str, args: tuple, exponent: Fraction | None):
    """Compute one operation at one sample point; `op` comes from the tables below, never from the text."""
    zero_below = -math.inf
    if op in ("^", *COUNTING) and MP.mag(args[-1]) > 15:
        raise Refuse
    if op in ARITHMETIC:
        value = ARITHMETIC[op](*args)
        zero_below = max(map(MP.mag, args)) - ZERO_BITS if op in "+-" else zero_below
    elif op == "^" and exponent and exponent.denominator == 1:
        value = args[0] ** exponent.numerator
    elif op == "^" and exponent and exponent.denominator % 2 and isinstance(args[0], MP.mpf) and args[0] < 0:
        value = (-1) ** exponent.numerator * MP.power(-args[0], args[1])  # the real root
    else:
        value = getattr(MP, "power" if op == "^" else op)(*args)
        zero_below = -math.inf if op in ("^", "exp") else -ZERO_BITS  # sin(pi) leaves dust; these have no zero
    size = MP.mag(value)
    if not value or size < zero_below:
        return MP.zero
    if not -RANGE_BITS <= size <= RANGE_BITS:
        raise Refuse
    if isinstance(value, MP.mpf):
        return value
    parts = [part if MP.mag(part) >= size - ZERO_BITS else 0 for part in (value.real, value.imag)]
    return MP.mpc(*parts)  # complex even if real: the type tells `same_formula` where it came from


def sampled(value: Fraction | list) -> list:
    if isinstance(value, list):
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > INPUT_BITS:
        raise Refuse
    return [MP.mpf(value.numerator) / value.denominator]


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
    op = OPAQUE.get(op, op) if count > 1 else op
    return [numeric(op, at, exponent) for at in zip(*(column * (count // len(column)) for column in columns))]


@lru_cache(maxsize=256)
def unknown(name: str) -> list:
    """Return the sample points of a letter, near +-1 because of `x^{2023}`: two where all are positive, and three pairs
    of opposite signs, such that two letters have all combinations of signs (if they differ in the three bits)."""
    seed = int.from_bytes(name.encode()[:30])
    signs = [1, 1] + [sign * (-1) ** (seed % 29 >> bit) for bit in range(3) for sign in (1, -1)]
    return [sign + MP.sin(POINTS * seed + point) / 8 for point, sign in enumerate(signs)]


def read_number(text: str) -> Fraction:
    r"""Read `033`, `.5`, `1.5e-3`, `0.1\overline{6}` or `0.1(6)`."""
    if text.isdigit():
        return Fraction(int(text))
    digits, _, repeat = text.rstrip(")}").replace(r"\overline{", "(").partition("(")
    if not repeat:
        return Fraction(digits)
    return Fraction(digits) + Fraction(int(repeat), (10 ** len(repeat) - 1) * 10 ** len(digits.partition(".")[2]))


# --- tokens and grammar ------------------------------------------------------------------------------

WORDS = re.compile(r"(?!.*\b(?:and|or)\b)[a-z][a-z' ]*")
TOKEN = re.compile(
    r"\d*\.\d*(?:\\overline\{\d+\}|\(\d+\))|\d+_(?:\d+|\{\d+\})"  # 0.1\overline{6}, 0.1(6), 101_2
    r"|[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!,?\d)|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?"  # not 1e999999999
    r"|\\begin\{array\}\{[lcr| ]*\}|\\(?:begin|end)\{[a-z]+\}|\\?log(?![a-zA-Z])"
    r"|(?:\\[a-zA-Z]+|[a-zA-Z])(?:_(?:\d+|[a-zA-Z]|\{[^{}]*\})|')+|\\[a-zA-Z]+|\\[\\{}]"
    r"|[A-Za-z]+(?![_'])|[<>!]=|\*\*|!!|\S",
    re.ASCII,
)
SPELLINGS = r"""
    \cdot * \times * \ast * × * · * ⋅ * \div / ÷ / : / ** ^ − - – - \le <= \leq <= \leqslant <= ≤ <= \ge >= \geq >=
    \geqslant >= ≥ >= \lt < \gt > \ne != \neq != ≠ != \in in ∈ in \approx ≈ \infty ∞ infinity ∞ \lg \log \lor or
    \land and ∪ \cup \lvert | \rvert | \vert | \langle ( ⟨ ( \rangle ) ⟩ ) \lbrace \{ \rbrace \}
    \varnothing \emptyset ∅ \emptyset \varphi \phi φ \phi π \pi θ \theta α \alpha β \beta λ \lambda""".split()
SPELLINGS = dict(zip(SPELLINGS[::2], SPELLINGS[1::2]))
TRIG = {name: name for name in "sin cos tan cot sec csc sinh cosh tanh asin acos atan".split()}
TRIG |= {f"arc{name}": f"a{name}" for name in "sin cos tan cot sec csc".split()}
FUNCTIONS = TRIG | {"ln": "log", "log": "log", "exp": "exp", "abs": "fabs", "sqrt": "sqrt"}  # to the names in mpmath
RESERVED = {*FUNCTIONS, "pi", "e", "i", "or", "and", "in"}
GREEK = "alpha beta gamma delta epsilon eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega Delta".split()
BRACKETS = {"(": ")]", "[": ")]", "{": "}", r"\{": [r"\}"], r"\begin": [r"\end"]}
BRACKETS |= {r"\lfloor": [r"\rfloor"], r"\lceil": [r"\rceil"]}
CLOSING = {closing for closings in BRACKETS.values() for closing in closings}
IMPLICIT, FACTOR = 3, 3.5  # how tightly an omitted product sign binds, and the operand of a product
LEVELS = {"+": (1, 2), "-": (1, 2), "*": (2, FACTOR), "/": (2, FACTOR), "^": (4, 4), "!": (5, 0), "°": (5, 0)}
LEVELS |= {r"\choose": (0, 1), r"\over": (0, 1)}
OPERATIONS = {"!": "factorial", "°": "radians"}  # to the names in mpmath
OPERATIONS |= {r"\over": "/", r"\frac": "/", r"\choose": "binomial", r"\binom": "binomial"}
CONSTANTS = {r"\emptyset": ("list", ()), "∞": INFINITY, "ℝ": ("seq", "()", (MINUS_INFINITY, INFINITY))}
CONSTANTS |= {"pi": [+MP.pi], r"\pi": [+MP.pi], "e": [+MP.e], r"\e": [+MP.e], "i": [MP.j], r"\i": [MP.j]}
BARE, DIGITS = str.maketrans("", "", "\\{}"), set("0123456789.")
RELATIONS = {"=", "<", ">", "<=", ">=", "!=", "in", "≈"}
# The side of a relation that only names the answer: x, AB, Area, x_1, f(x), f(2), (x,y), |v|, 101_2.
NAME = re.compile(
    r"(?:\\?[A-Za-z](?:_\d+|_[A-Za-z]|_\{[^{}]*\}|')*)+|[fghpFGHP](?:\^\{-1\})?\(.*\)|\((?:[a-zA-Z],?)+\)"
    r"|\|[A-Za-z]+\||\d+_\{?\d+\}?"
)


class Group(str):
    """A pair of brackets with all that is in between: one token, which remembers its tokens in `inside`."""


def tokenize(text: str) -> list[str]:
    found, groups = TOKEN.findall(text), [("", [])]  # groups: the brackets still open, and the tokens in them so far
    for token in found:
        token = SPELLINGS.get(token, token)
        token = token[: token.index("{")] if token.startswith((r"\begin", r"\end{")) else token
        opening, tokens = groups[-1]
        if token in BRACKETS:
            groups.append((token, []))
        elif token in CLOSING:
            if token not in BRACKETS.get(opening, ""):
                raise Refuse
            groups.pop()
            group = Group(opening + "".join(tokens) + token)
            group.inside = tokens
            groups[-1][1].append(group)
        elif token[0].isdigit() and "," in token:  # 1,234 is a number, but (1,234) a pair
            tokens += re.findall("[^,]+|,", token) if opening else [token.replace(",", "")]
        elif token.isalpha() and len(token) <= 3 and token not in RESERVED:
            tokens += token  # xy is a product, a longer run of letters is a name
        else:
            tokens.append(token)
        if len(groups) > MAX_DEPTH or len(found) > MAX_TOKENS:
            raise Refuse
    [(_, tokens)] = groups  # else a bracket was left open: a ValueError
    return tokens


def split(tokens: list[str], separators: set[str]) -> tuple[list[list[str]], list[str]]:
    """Split at the separators; return the parts and the separators met."""
    if separators.isdisjoint(tokens):
        return [tokens], []
    at = [k for k, token in enumerate(tokens) if token in separators]
    return [tokens[a + 1 : b] for a, b in zip([-1, *at], [*at, len(tokens)])], [tokens[k] for k in at]


def members(value) -> tuple:
    return value[1] if isinstance(value, tuple) and value[0] == "list" else (value,)


def read_list(tokens: list[str]):
    r"""Read `a, b`, `a or b`, `A \cup B` as a list of its members, a single member as itself."""
    parts, separators = split(tokens, {",", ";", "or", "and", r"\cup"})
    if "and" in separators and not {"<", ">", "<=", ">="}.isdisjoint(tokens):
        raise Refuse  # "x > 1 and x < 3" is an intersection, a list is a union
    worded = "or" in separators or "and" in separators
    items = [relation(part) for part in parts if part or not worded]  # "1, 2, and 3" has an empty part
    if set(separators) == {r"\cup"}:
        items = [member for item in items for member in members(item)]
    return items[0] if len(items) == 1 else ("list", tuple(items))


def relation(tokens: list[str]):
    """Read a formula, or a chain of relations between formulas."""
    parts, ops = split(tokens, RELATIONS)
    if set(ops) <= {">", ">="}:
        parts, ops = parts[::-1], [op.replace(">", "<") for op in ops[::-1]]
    sides = [formula(part) for part in parts]
    if not ops:
        return sides[0]
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
    if len(sides) == 2 and named[0]:  # x < 3 is -oo < x < 3
        parts, sides, ops = ["", *parts], [MINUS_INFINITY, *sides], ["<", *ops]
    elif len(sides) == 2 and named[1]:
        sides, ops = [*sides, INFINITY], [*ops, "<"]
    elif len(sides) != 3 or not named[1] or not set(ops) <= {"<", "<="}:
        return ("seq", " ".join(ops), tuple(sides))
    ends = ("[" if ops[0] == "<=" else "(") + ("]" if ops[1] == "<=" else ")")
    return ("eq", "".join(parts[1]), ("seq", ends, (sides[0], sides[2])), None)


def formula(tokens: list[str]):
    """Read all of the tokens as one formula."""
    rest = ["", *reversed(tokens)]  # the next token is the last one, "" is the end
    value = expression(rest)
    if len(rest) > 1:
        raise Refuse
    return value


def expression(rest: list[str], tight: float = 0):
    """Read a formula up to an operator that binds less tightly than `tight`: precedence climbing."""
    left = prefix(rest, tight)
    postfix = False
    while token := rest[-1]:
        follows = token[0] in "\\([{|" or token[0].isalpha() or postfix  # not: 2 3, x2
        implicit = follows and token not in LEVELS
        argument_ends = tight == IMPLICIT and (token.lstrip("\\") in FUNCTIONS or token[0] in "([{|")  # \sin x \cos x
        level, operand = (IMPLICIT, FACTOR) if implicit else LEVELS.get(token, (-1, 0))
        if level < tight or implicit and argument_ends:
            break
        op, postfix = "*" if implicit else rest.pop(), not operand
        left = apply(OPERATIONS.get(op, op), left, *([expression(rest, operand)] if operand else []))
    return left


def prefix(rest: list[str], tight: float = FACTOR):
    """Read a number, a name, a bracket, or a command with its arguments."""
    token = rest.pop()
    if token[:1] in DIGITS and "_" not in token:
        return read_number(token)
    if token in CONSTANTS:
        return CONSTANTS[token]
    if token in ("+", "-"):
        if rest[-1] == "∞":
            return INFINITY if rest.pop() and token == "+" else MINUS_INFINITY
        return apply("*", Fraction(f"{token}1"), expression(rest, max(tight, 2)))
    if isinstance(token, Group):
        return bracket(token)
    if token == "|":
        end = len(rest) - 1 - rest[::-1].index("|")
        inside, rest[end:] = rest[:end:-1], []
        return apply("fabs", formula(inside))
    if token in (r"\frac", r"\binom"):
        return apply(OPERATIONS[token], prefix(rest), prefix(rest))
    name = token.translate(BARE)
    stem, _, subscript = name.rstrip("'").partition("_")
    if name in FUNCTIONS:
        return function(name, rest)
    if stem.isdigit() and subscript:  # 101_2 is an unknown of that name, not a value
        return Fraction(int(stem)) if subscript == "10" else unknown(f"{int(stem)}_{subscript}")
    if stem in GREEK or stem.isalpha() and token[0] != "\\":
        return unknown(name)
    raise Refuse


def bracket(group: Group):
    if group.startswith(r"\{"):
        return read_list(group.inside) if group.inside else ("list", ())
    if group.startswith(r"\begin"):
        rows = [tuple(map(formula, split(row, {"&"})[0])) for row in split(group.inside, {r"\\"})[0] if row]
        if len(rows) > 1 and all(len(row) == 1 for row in rows):  # a column is a vector
            return ("seq", "()", tuple(row[0] for row in rows))
        return ("seq", "matrix", tuple(("seq", "matrix", row) for row in rows))
    items, brackets = tuple(map(formula, split(group.inside, {","})[0])), group[0] + group[-1]
    if group[0] == "\\":
        return apply("floor" if group.startswith(r"\lfloor") else "ceil", *items)
    if len(items) == 1 and brackets in ("()", "[]", "{}"):
        return items[0]
    return ("list", items) if brackets == "{}" else ("seq", brackets, items)


def function(name: str, rest: list[str]):
    op, base, exponent = FUNCTIONS[name], Fraction(10), None
    if name == "sqrt":
        index = formula(rest.pop().inside) if rest[-1][:1] == "[" else Fraction(2)
        return apply("^", prefix(rest), apply("/", Fraction(1), index))
    if name == "log" and rest[-1] == "_":
        rest.pop()
        base = prefix(rest)
    if rest[-1] == "^":
        rest.pop()
        exponent = expression(rest, 4)
    if exponent == -1 and name in TRIG:
        op, exponent = "a" + op, None
    value = apply(op, prefix(rest) if rest[-1][:1] in set("([{|") else expression(rest, IMPLICIT))
    value = apply("/", value, apply("log", base)) if name == "log" else value
    return value if exponent is None else apply("^", value, exponent)


# --- comparison --------------------------------------------------------------------------------------


def same_formula(a, b) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = sampled(a), sampled(b)
    pairs = list(zip(a * (POINTS // len(a)), b * (POINTS // len(b))))
    real = [pair for pair in pairs if all(isinstance(value, MP.mpf) for value in pair)]
    pairs = real if len(real) > 1 else pairs  # one point says nothing about equations: all are proportional there
    return all(u == v or MP.mag(u - v) < MP.mag(u) - ZERO_BITS for u, v in pairs)


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
    r"""Read an answer. Each `\pm` is both signs, independently of the others; with a `\mp` all change together."""
    if r"\pm" not in text and r"\mp" not in text:
        return read_list(tokenize(text))
    if text.count(r"\pm") > 3:
        raise Refuse  # k signs are 2**k values
    versions = [text.replace(r"\pm", sign, 1) for sign in "+-"]
    if r"\mp" in text:
        versions = [text.replace(r"\pm", plus).replace(r"\mp", minus) for plus, minus in ("+-", "-+")]
    return ("list", tuple(member for version in versions for member in members(read(version))))


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


def grade(response, gold):
    correct = is_equivalent(extract_answer(response), gold)
    return correct, float(correct)
