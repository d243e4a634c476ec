r"""The math reward: 1.0 if the final boxed answer of a response equals the gold answer, else 0.0.

In RL the grader *is* the objective: a false positive is exploited within a hundred steps, a false
negative is noise, a hang stops the run. So this is a small parser of its own (text -> tokens -> values),
which never executes what a policy wrote, as sympy's `parse_expr` and `sympify` do: they are `eval`.

The answer is the last `\boxed{...}` after the last `</think>`; a box in the thoughts counts for nothing,
an unclosed or empty last box is no answer. Two answers are equal by these conventions:
- Equality is exact: 0.5 is 1/2, `0.\overline{3}` is 1/3, but 0.333 is not and 3.14 is not pi.
- Units, degrees, `%`, `$`, `\text{...}` behind a value, thin spaces, thousands separators and leading
  zeros are dropped (50% is 50, not 1/2). Inside a trigonometric function degrees are degrees.
- `1,234` is a number, `(1,234)` a pair. `\log` has base 10, `i` is imaginary, `e` is Euler's number,
  an odd root of a negative number is real, `2e-3` is 0.002 (write `2e - 3` for the difference).
- `101_2` is neither `101_3` nor 5 nor 101; a gold `101_2 = 5` is answered by 5.
- Sets, unions and lists of solutions are unordered, `\pm` is two values; tuples, points, matrices are
  ordered; intervals keep their ends. `x = 5` answers 5 and `x > 3` answers `(3,\infty)`, but a list, a
  bound or a negation never answers a value. Two equations agree if the difference of the sides of one
  is a constant multiple of the other's: `y=2x+1`, `4x-2y=-2`. Other inequalities: as written, either way.
- Words are words, without case: `no` is not `on`. A choice is `(A)`, `A`, `\text{A}` or `A.`.
- What cannot be read (sums, integrals, piecewise functions, ...) equals only the same text.

Rationals are compared exactly. Anything else is evaluated to 1000 bits: a constant once, a formula at
five points n + sin(m), which are transcendental: a polynomial with rational coefficients that vanishes
at one of them is zero. Numbers that enter have at most 330 bits, intermediate values lie in
2**-400 .. 2**400 or are refused, so a difference below 2**-800 is an identity and not `\sqrt{2}+10^{-60}`.
That is no proof for towers of nested roots, but it needs no simplifier, and sympy's takes seconds on
what a policy can write, `(x+y+z)^{1000}`. Points where just one side is real are skipped: formulas are
real functions where both exist, so `\ln x^2` is `2\ln x`, but `\sqrt{x^2}` is `|x|` and not x.
"""

import math
import re
from fractions import Fraction
from functools import cache, lru_cache

# Caps, each checked before the work it bounds: answer text, tokens, nesting, exact rationals, see above.
MAX_CHARS, MAX_TOKENS, MAX_DEPTH, MAX_BITS = 1000, 400, 30, 10_000
INPUT_BITS, RANGE_BITS, ZERO_BITS, PRECISION = 330, 400, 800, 1000
BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")


class Refuse(Exception):
    """The text is outside the grammar or over a cap."""


def extract_answer(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` after the last `</think>`, or None."""
    if text.rfind("<think>") > text.rfind("</think>"):
        return None  # cut off while thinking: a box in there was not the answer yet
    opened, answer, answer_at = [], "", -1
    for match in BRACES.finditer(text, text.rfind("</think>") + 1):  # one pass: linear in megabytes of braces
        if match[0] == "}" and opened:
            is_box, at = opened.pop()
            if is_box:  # a box around this one closes later and replaces it: no hedging by nesting
                answer, answer_at = text[at : match.start()], at
        elif match[0] not in (r"\{", r"\}", "}"):
            opened.append((match[0] != "{", match.end()))
    if any(is_box and at > answer_at for is_box, at in opened):
        return None  # the last box was never closed
    return answer.strip() or None


# --- text: drop what carries no meaning --------------------------------------------------------------

UNICODE = str.maketrans(
    {"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "√": " sqrt ", "∛": " cbrt ", "π": r"\pi ", "∞": r"\infty ",
     "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ",
     "≈": r"\approx ", "ℝ": r"\mathbb{R}", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "°": r"^\circ ",
     "½": r"\frac12", "⅓": r"\frac13", "⅔": r"\frac23", "¼": r"\frac14", "¾": r"\frac34", "⟨": "(", "⟩": ")", "′": "'",
     "\u0305": "\u0304", "€": "", "£": "", "\u2009": r"\,", "\u202f": r"\,", "\u00a0": " "}
)  # fmt: skip
SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉", "0123456789+-n0123456789")
UNITS = (
    "[cmk]?m|in|inch(?:es)?|f(?:oo|ee)?t|y(?:ar)?ds?|mi|miles?|(?:centi|milli|kilo)?met(?:er|re)s?|m?g|kg|(?:kilo)?grams?|"
    "lbs?|pounds?|oz|ounces?|tons?|m?[lL]|lit(?:er|re)s?|gallons?|s|sec(?:ond)?s?|min(?:ute)?s?|h|hrs?|hours?|days?|weeks?|"
    "months?|years?|mph|[kM]?Hz|N|J|k?W|V|deg(?:ree)?s?|rad(?:ian)?s?|percent|USD|dollars?|cents?|euros?|(?:square )?units?|"
    "sq\\.?|square|cubic|points?|people|students?|ways"
)
UNIT = rf"(?:{UNITS})(?![a-zA-Z])(?:\s*\^\s*(?:\{{\s*-?\d\s*\}}|-?\d))?"
# Text behind a value is a unit or a noun and is dropped, unless one of these words says it is more.
TELLING = set(
    "a and or not no nor never is are the if than least most more less over under above below about around between except "
    "but hundred thousand million billion dozen half twice squared cubed factorial times plus minus to from mod base".split()
)
TEXT = (
    r"(\s*/\s*)?\\(text|mbox|mathrm|textrm|textbf|textit|mathbf|operatorname)\s*\{([^{}]*)\}(\s*\^\s*\{?\s*[23]\s*\}?)?"
)


def unwrap_text(match: re.Match) -> str:
    r"""Replace `\text{...}`: by nothing for a unit or a noun behind a value, else by its bare content."""
    content = match[3].replace("~", " ").strip()
    if match[2] in ("text", "mbox"):
        noun = content and not TELLING.intersection(content.lower().split())
    else:  # also upright operators, e, i and vectors
        noun = re.fullmatch(rf"(?:[\s/]*{UNIT})+", content)
    after_value = re.search(r"[\w)}\]!|]\s*$", match.string[: match.start()])
    return "" if noun and after_value else f"{match[1] or ''} {content} {match[4] or ''}"


CLEANUPS = [  # in this order
    (r"(?<=\d)(?:\\[,;:! ]|\{,\}|~)(?=\d{3}(?!\d))", ""),  # 1\,234 and 1{,}234
    (r"\\[dtc]frac", r"\\frac"),
    (r"\\(?:left|right)(?![a-zA-Z])\s*\.?|\\[bB]igg?[lrm]?(?![a-zA-Z])|\\!|\\?[$%]", ""),
    (r"\\(?:displaystyle|boxed|vec|hat|angle|triangle)(?![a-zA-Z])|\\overline(?=\s*\{[A-Za-z])", ""),
    (TEXT, unwrap_text),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\degree", "°"),
    (r"\\[,;: ]|\\q?quad(?![a-z])|(?<=\S)~", " "),
    (r"\\(?:bar|dot)\s*\{", r"\\overline{"),
    (r"\{([^{}]*)\\choose([^{}]*)\}", r"\\binom{\1}{\2}"),
    (rf"(?:(?<=[\d)}}\]°])(?=\s|[a-zA-Z]{{2}})\s*|(?<=\\pi)\s+){UNIT}(?:(?:\s*/\s*|\s+per\s+|\s+){UNIT})*\s*\.?\s*$", ""),
    (r"(?i)^\s*all (?:real numbers|reals)\W*$", r"\\mathbb{R}"),
    (r"[.,;:\s]+$", ""),
    (r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])", ""),  # other spaces separate: 1 1/2 is not 11/2
]
CLEANUPS = [(re.compile(pattern, re.ASCII), replacement) for pattern, replacement in CLEANUPS]


def tidy(text: str) -> str:
    """Return the answer in plain spelling, without layout commands, units and separators."""
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda m: "^{" + m[0].translate(SCRIPTS) + "}", text)
        text = re.sub("[₀-₉]+", lambda m: "_{" + m[0].translate(SCRIPTS) + "}", text).translate(UNICODE)
        text = re.sub("(?:[0-9]\u0304)+", lambda m: r"\overline{" + m[0].replace("\u0304", "") + "}", text)
    for pattern, replacement in CLEANUPS:
        text = pattern.sub(replacement, text)
    return text


def read_words(text: str) -> str | None:
    """Return the case-folded words if the answer consists of nothing else, else None."""
    text = text.strip("().: ")
    return text.casefold() if re.fullmatch(r"(?!.*\b(?:and|or)\b)[A-Za-z][A-Za-z' ]*", text) else None


# --- values: a Fraction, or the list of a formula's values at the sample points (None: refused there) ---


@cache
def numerics():
    import mpmath  # only when rationals do not settle the pair; a context of its own: no global state

    context = mpmath.MPContext()
    context.prec = PRECISION
    return context


def exact(op: str, a: Fraction, b: Fraction | None = None) -> Fraction | None:
    """Return a rational result, None where it is irrational; refuse before anything large is computed."""
    result = None
    if op in "+*":
        result = a + b if op == "+" else a * b
    elif op == "fabs":
        result = abs(a)
    elif op == "factorial" and a.denominator == 1 and 0 <= a <= 1000:
        result = Fraction(math.factorial(a.numerator))
    elif op == "binomial" and a.denominator == b.denominator == 1 and 0 <= b <= a:
        if min(a, min(b, a - b) * a.numerator.bit_length()) > MAX_BITS:
            raise Refuse
        result = Fraction(math.comb(a.numerator, b.numerator))
    elif op == "^":
        if b.denominator > 1:
            a = exact_root(a, b.denominator)
        if a is not None:
            if (a.numerator.bit_length() + a.denominator.bit_length()) * abs(b.numerator) > MAX_BITS:
                raise Refuse  # 9^9^9^9 ends here
            if a == 0 and b <= 0:
                raise Refuse
            result = a**b.numerator
    if result is not None and result.numerator.bit_length() + result.denominator.bit_length() > MAX_BITS:
        raise Refuse
    return result


def exact_root(a: Fraction, k: int) -> Fraction | None:
    if k > 100 or (a < 0 and k % 2 == 0) or max(abs(a.numerator), a.denominator).bit_length() > 900:
        return None
    top, bottom = (math.isqrt(n) if k == 2 else round(n ** (1 / k)) for n in (abs(a.numerator), a.denominator))
    return Fraction(top if a > 0 else -top, bottom) if Fraction(top, bottom) ** k == abs(a) else None


def sample(value):
    """Return a Fraction as a float of 1000 bits; other samples as they are."""
    if not isinstance(value, Fraction):
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > INPUT_BITS:
        raise Refuse
    return numerics().mpf(value.numerator) / value.denominator


def numeric(op: str, a, b=None):
    """Compute one operation at one sample point; `op` comes from the tables below, never from the text."""
    mp, zero_below = numerics(), -math.inf
    rational, a, b = b if isinstance(b, Fraction) else None, sample(a), sample(b)
    if op == "+":
        value, zero_below = a + b, max(mp.mag(a), mp.mag(b)) - ZERO_BITS
    elif op == "*":
        value = a * b
    elif op == "^" and mp.mag(b) > 20:
        raise Refuse
    elif op == "^" and rational and rational.denominator % 2 and mp.im(a) == 0 and a < 0:  # the real root
        value = (-1) ** rational.numerator * mp.power(-a, b)
    elif op in ("factorial", "binomial") and mp.mag(a) > 10:
        raise Refuse
    else:
        value = mp.power(a, b) if op == "^" else getattr(mp, op)(*(x for x in (a, b) if x is not None))
        zero_below = -math.inf if op in ("^", "exp") else -ZERO_BITS  # sin(pi) leaves dust, exp has no zero
    size = mp.mag(value)
    if mp.im(value) != 0 and mp.mag(mp.im(value)) < size - ZERO_BITS:
        value = mp.re(value)
    elif mp.mag(mp.re(value)) < size - ZERO_BITS:
        value = mp.mpc(0, mp.im(value))
    if value != 0 and size >= zero_below and not -RANGE_BITS <= size <= RANGE_BITS:
        raise Refuse
    return value if size >= zero_below else mp.zero


def apply(op: str, *args):
    """Apply an operation to values: exactly if all are rational and the result is, else at each sample point."""
    if any(isinstance(arg, tuple) for arg in args):
        number, vector = sorted(args, key=lambda arg: isinstance(arg, tuple)) if op == "*" else (None, args[0])
        if isinstance(number, (Fraction, list)) and vector[:2] in (("seq", "()"), ("seq", "matrix")):
            return (*vector[:2], tuple(apply("*", number, item) for item in vector[2]))
        raise Refuse
    if all(isinstance(arg, Fraction) for arg in args):
        result = exact(op, *args)
        if result is not None:
            return result
    values = []
    for point in range(max(len(arg) if isinstance(arg, list) else 1 for arg in args)):
        try:
            at = [arg[point % len(arg)] if isinstance(arg, list) else arg for arg in args]
            values.append(None if None in at else numeric(op, *at))
        except (Refuse, ArithmeticError, ValueError):
            values.append(None)
    return values


@lru_cache(maxsize=1000)
def unknown(name: str) -> list:
    """Return the sample points of a letter: two near 1, for `x^{2023}`, and both signs."""
    mp = numerics()
    seeds = [int.from_bytes(f"{name}{k}".encode()[-40:]) for k in range(5)]
    return [s * (n + mp.sin(seed) / d) for seed, s, n, d in zip(seeds, (1, -1, 1, -1, 1 - seeds[4] // 256 % 2 * 2), (1, 1, 3, 3, 3), (8, 8, 1, 1, 1))]


def constant(name: str) -> list:
    return [+getattr(numerics(), name)]


def subtract(a, b):
    return apply("+", a, negate(b))


def negate(value):
    return apply("*", Fraction(-1), value)


def divide(a, b):
    return apply("*", a, apply("^", b, Fraction(-1)))


def read_number(text: str) -> Fraction:
    r"""Read `033`, `.5`, `1.5e-3`, `0.1\overline{6}` or `0.1(6)`."""
    digits, _, repeat = text.rstrip(")}").replace(r"\overline{", "(").partition("(")
    mantissa, _, exponent = digits.lower().partition("e")
    whole, _, decimals = mantissa.partition(".")
    if len(exponent) > 5:
        raise Refuse  # 1e999999999 would fill the memory
    value = Fraction(int(whole + decimals), 10 ** len(decimals))
    if repeat:
        value += Fraction(int(repeat), (10 ** len(repeat) - 1) * 10 ** len(decimals))
    return exact("*", value, exact("^", Fraction(10), Fraction(int(exponent or 0))))


# --- tokens and grammar ------------------------------------------------------------------------------

TOKEN = re.compile(
    r"\d*\.\d*(?:\\overline\{\d+\}|\(\d+\))"  # 0.1\overline{6}, 0.1(6)
    r"|[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!,?\d)|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r"|\\begin\{array\}\{[lcr| ]*\}|\\(?:begin|end)\{[a-z]+\}|\\mathbb\{?R\}?|\\[a-zA-Z]+|\\[\\{}]"
    r"|[A-Za-z]+|<=|>=|!=|\*\*|\S",
    re.ASCII,
)
SPELLINGS = {
    r"\cdot": "*", r"\times": "*", r"\ast": "*", r"\div": "/", ":": "/", "**": "^", r"\le": "<=", r"\leq": "<=",
    r"\leqslant": "<=", r"\ge": ">=", r"\geq": ">=", r"\geqslant": ">=", r"\lt": "<", r"\gt": ">", r"\ne": "!=",
    r"\neq": "!=", r"\in": "in", r"\approx": "≈", r"\infty": "∞", "infinity": "∞", r"\lor": "or", r"\land": "and",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\langle": "(", r"\rangle": ")", r"\lbrace": r"\{",
    r"\rbrace": r"\}", r"\varnothing": r"\emptyset", r"\varphi": r"\phi", r"\varepsilon": r"\epsilon", r"\mathbb{R}": "ℝ",
}  # fmt: skip
TRIG = {name: name for name in "sin cos tan cot sec csc sinh cosh tanh asin acos atan".split()}
TRIG |= {f"arc{name}": f"a{name}" for name in "sin cos tan cot sec csc".split()}
FUNCTIONS = TRIG | {"ln": "log", "log": "log", "exp": "exp", "abs": "fabs", "sqrt": "sqrt", "cbrt": "cbrt"}
CONSTANTS = {"pi": "pi", "e": "e", "i": "j"}
GREEK = set("alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega Delta Omega".split())
CLOSING = {"(": ")]", "[": ")]", "{": "}", r"\{": r"\}"}
LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4, "!": 5, "°": 5}
IMPLICIT, FACTOR = 3, 3.5  # an omitted product sign; the operand of a product
RELATIONS = {"=", "<", ">", "<=", ">=", "!=", "in", "≈"}
NAME = re.compile(r"(?:\\?[A-Za-z]{1,12}(?:_\w|_\{[^{}]*\})?'*)+|[fghpFGHP]'?\(.*\)|\((?:[a-zA-Z],?)+\)|\|[A-Za-z]+\|")


def tokenize(text: str) -> list[str]:
    tokens, depth = [], 0
    for token in TOKEN.findall(text):
        token = SPELLINGS.get(token, token)
        depth += (token in ("(", "[", r"\{")) - (token in (")", "]", r"\}"))
        if "," in token and depth > 0:  # 1,234 is a number, but (1,234) a pair
            tokens += re.findall("[^,]+|,", token)
        elif token.isalpha() and len(token) <= 3 and not (token in FUNCTIONS or token in ("pi", "or", "and", "in")):
            tokens += token  # xy is a product, a longer run of letters is a name
        else:
            tokens.append(token if token == "," else token.replace(",", ""))
    if len(tokens) > MAX_TOKENS:
        raise Refuse
    return tokens


def split(tokens: list[str], separators: set[str]) -> tuple[list[list[str]], list[str]]:
    """Split at the separators that are outside all brackets; return the parts and the separators met."""
    parts, met, depth = [[]], [], 0
    for token in tokens:
        depth += (token in CLOSING or token.startswith(r"\begin")) - (token in (")", "]", "}", r"\}") or token.startswith(r"\end"))
        if token in separators and depth == 0:
            met.append(token)
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, met


def read_list(tokens: list[str], depth: int = 0):
    r"""Read `a, b`, `a or b`, `A \cup B` as a list of its members, a single member as itself."""
    parts, separators = split(tokens, {",", ";", "or", "and", r"\cup"})
    members = []
    for part in parts:
        if not part and len(parts) > 1 and set(separators) & {"or", "and"}:
            continue  # "1, 2, and 3"
        free, tied = (part.count(sign) if r"\{" not in part else 0 for sign in (r"\pm", r"\mp"))
        if free + tied > 3 or len(part) << free > MAX_TOKENS:
            raise Refuse  # k signs are 2**k values
        for choice in range(2 if tied else 2**free):  # with \mp all signs change together
            signs = iter([choice & 1] * 3 if tied else [choice >> k & 1 for k in range(3)])
            member = relation([{r"\pm": "+-", r"\mp": "-+"}[t][next(signs)] if t in (r"\pm", r"\mp") else t for t in part], depth)
            union = isinstance(member, tuple) and member[0] == "list" and set(separators) <= {r"\cup"}
            members += member[1] if union else [member]
    if "and" in separators and any(isinstance(m, tuple) and m[0] == "eq" and isinstance(m[2], tuple) for m in members):
        raise Refuse  # "x > 1 and x < 3" is an intersection, a list is a union
    return members[0] if len(members) == 1 else ("list", tuple(members))


def is_name(tokens: list[str]) -> bool:
    """Say whether the side of a relation only names the answer: x, AB, Area, (x,y), |v|, f(x), f(2)."""
    known = any(token.lstrip("\\") in FUNCTIONS or token.lstrip("\\") in CONSTANTS for token in tokens)
    return bool(NAME.fullmatch("".join(tokens))) and not known


def relation(tokens: list[str], depth: int):
    """Read a formula, or a chain of relations between formulas; directions are turned to `<`."""
    parts, ops = split(tokens, RELATIONS)
    if "≈" in ops and not (ops[0] == "≈" and is_name(parts[0])):  # pi, about 3.14: the exact side is the answer
        parts, ops = parts[: ops.index("≈") + 1], ops[: ops.index("≈")]
    sides, named = [Parser(part, depth).all() for part in parts], [is_name(part) for part in parts]
    if not ops:
        return sides[0]
    if set(ops) <= {"=", "in", "≈"}:
        if not named[0] and all(same(side, sides[-1]) for side in sides):
            return sides[-1]  # 2+3 = 5
        ends = (sides[0], sides[-1])
        difference = None if any(isinstance(side, tuple) for side in ends) else subtract(*ends)
        if named[0] or named[-1] and len(sides) == 2:
            return ("eq", "".join(parts[0 if named[0] else -1]), ends[named[0]], difference)
        if len(sides) > 2 or not isinstance(difference, list) or len(difference) == 1:
            raise Refuse  # 5 = 6
        return ("eq", "", None, difference)
    if ops == ["!="]:
        return ("seq", "!=", (("list", tuple(sides)),))
    if set(ops) <= {">", ">="}:
        parts, sides, named, ops = parts[::-1], sides[::-1], named[::-1], [op.replace(">", "<") for op in ops[::-1]]
    if not set(ops) <= {"<", "<="}:
        raise Refuse
    if len(sides) == 2 and named[0]:  # x < 3 is -oo < x < 3
        parts, sides, named, ops = [[], *parts], [negate(unknown("∞")), *sides], [False, *named], ["<", *ops]
    elif len(sides) == 2 and named[1]:
        sides, ops = [*sides, unknown("∞")], [*ops, "<"]
    if len(sides) == 3 and named[1]:
        interval = ("seq", "([)]"[ops[0] == "<="] + ")]"[ops[1] == "<="], (sides[0], sides[2]))
        return ("eq", "".join(parts[1]), interval, None)
    return ("seq", " ".join(ops), tuple(sides))


class Parser:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, tokens: list[str], depth: int, trig: bool = False):
        self.tokens, self.at, self.depth, self.trig = [*tokens, ""], 0, depth, trig

    def all(self):
        value = self.expression()
        if self.peek():
            raise Refuse
        return value

    def peek(self) -> str:
        return self.tokens[self.at]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def expression(self, tight: float = 0):
        """Read operators that bind at least as tightly as `tight`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refuse
        left = self.prefix(tight)
        while token := self.peek():
            name = token.lstrip("\\")
            implicit = token not in LEVELS and (token[0] in "\\([{|∞" or token.isalpha())  # 2 3 and x2 are no products
            if (IMPLICIT if implicit else LEVELS.get(token, -1)) < tight:
                break
            if implicit and tight == IMPLICIT and (name in FUNCTIONS or token in "([{|"):
                break  # the argument in \sin x \cos x
            if implicit:
                left = apply("*", left, self.expression(FACTOR))
                continue
            self.take()
            if token in "+-":
                right = self.expression(LEVELS["*"])
                left = apply("+", left, right) if token == "+" else subtract(left, right)
            elif token in "*/":
                right = self.expression(FACTOR)
                left = apply("*", left, right) if token == "*" else divide(left, right)
            elif token == "^":
                left = apply("^", left, self.expression(LEVELS["^"]))
            elif token == "!":
                if self.peek() == "!":
                    raise Refuse  # a double factorial is not the factorial of a factorial
                left = apply("factorial", left)
            elif self.trig:  # a degree sign
                left = apply("*", left, divide(constant("pi"), Fraction(180)))
        self.depth -= 1
        return left

    def prefix(self, tight: float):
        """Read a number, a name, a bracket, a command or a function with its argument."""
        token = self.take()
        name = token.lstrip("\\")
        if token in ("+", "-"):
            value = self.expression(max(tight, LEVELS["*"]))
            return negate(value) if token == "-" else value
        if token[:1].isdigit() or token[:1] == "." and len(token) > 1:
            return self.number(token)
        if token in CLOSING:
            return self.bracket(token)
        if token == "|":
            inside = self.until({"|"})
            return apply("fabs", Parser(inside, self.depth, self.trig).all())
        if token.startswith(r"\begin"):
            return self.matrix()
        if token in (r"\frac", r"\binom"):
            a, b = self.group(), self.group()
            return divide(a, b) if token == r"\frac" else apply("binomial", a, b)
        if name in FUNCTIONS:
            return self.function(token, FUNCTIONS[name])
        if name in CONSTANTS:
            return constant(CONSTANTS[name])
        if token == "ℝ":
            return ("seq", "()", (negate(unknown("∞")), unknown("∞")))
        if token == r"\emptyset":
            return ("list", ())
        if token == "∞" or token.isalpha() or name in GREEK:
            return unknown(name + self.subscript())  # infinity is an unknown: it equals only itself
        raise Refuse

    def until(self, closing: set[str]) -> list[str]:
        """Take the tokens up to the matching bracket, and the bracket."""
        start, depth = self.at, 0
        while depth or self.peek() not in closing:
            token = self.take()
            if not token:
                raise Refuse
            depth += (token in CLOSING) - (token in (")", "]", "}", r"\}"))
        self.at += 1
        return self.tokens[start : self.at - 1]

    def bracket(self, opening: str):
        inside = self.until(set(CLOSING[opening]) if opening != r"\{" else {r"\}"})
        closing = self.tokens[self.at - 1]
        if opening == r"\{":
            return as_set(read_list(inside, self.depth + 1)) if inside else ("list", ())
        items = tuple(Parser(part, self.depth, self.trig).all() for part in split(inside, {","})[0])
        if len(items) == 1 and opening + closing in ("()", "[]", "{}"):
            return items[0]
        return as_set(("list", items)) if opening == "{" else ("seq", opening + closing, items)

    def matrix(self):
        start = self.at
        while not self.take().startswith(r"\end"):
            if not self.peek():
                raise Refuse
        rows = split(self.tokens[start : self.at - 1], {r"\\"})[0]
        rows = [[Parser(cell, self.depth).all() for cell in split(row, {"&"})[0]] for row in rows if row]
        if len(rows) > 1 and all(len(row) == 1 for row in rows):  # a column is a vector
            return ("seq", "()", tuple(row[0] for row in rows))
        return ("seq", "matrix", tuple(("seq", "matrix", tuple(row)) for row in rows))

    def number(self, token: str):
        r"""Read a number literal, a mixed number `1\frac12` or `1 1/2`, or `101_2`: a name, not its value."""
        before, value = self.tokens[self.at - 2] if self.at > 1 else "", read_number(token)
        following = self.tokens[self.at : self.at + 3]
        if following[0] == "_":
            base = self.subscript().strip("_{}")
            if not (token.isdigit() and base.isdigit() and len(base) <= 2 and int(max(token)) < int(base)):
                raise Refuse
            return value if base == "10" else unknown(f"{value}_{base}")
        if token.isdigit() and before != "^":
            if following[0] == r"\frac":
                start, part = self.at, self.prefix(FACTOR)
                if isinstance(part, Fraction) and 0 < part < 1:
                    return value + part
                self.at = start
            elif following[0].isdigit() and following[1] == "/" and following[2].isdigit():
                self.at += 3
                return value + divide(read_number(following[0]), read_number(following[2]))
        return value

    def subscript(self) -> str:
        start = self.at
        if self.peek() == "_":
            self.take()
            if self.take() == "{":
                self.until({"}"})
        while self.peek() == "'":
            self.take()
        return "".join(self.tokens[start : self.at]).replace("{", "").replace("}", "")

    def group(self):
        r"""Read the argument of a LaTeX command: `{...}`, or one token, which is one digit in `\frac12`."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return Fraction(token[0])
        return self.prefix(FACTOR)

    def function(self, token: str, function: str):
        root, base, exponent, trig = function in ("sqrt", "cbrt"), None, None, self.trig
        if token == r"\sqrt":
            index = Fraction(2)
            if self.peek() == "[":
                self.take()
                index = Parser(self.until({"]"}), self.depth).all()
            return apply("^", self.group(), divide(Fraction(1), index))
        if token.endswith("log"):
            base = self.group() if self.peek() == "_" and self.take() else Fraction(10)
        if self.peek() == "^" and self.take():
            exponent = self.expression(LEVELS["^"])
        self.trig = trig or function in TRIG.values()
        argument = self.prefix(FACTOR) if self.peek() in ("(", "[", "{", "|") else self.expression(FACTOR if root else IMPLICIT)
        self.trig = trig
        if root:
            return apply("^", argument, Fraction(1, 2 if function == "sqrt" else 3))
        if exponent == -1 and function in TRIG.values():
            function, exponent = "a" + function, None
        value = apply(function, argument)
        value = value if base is None else divide(value, apply("log", base))
        return value if exponent is None else apply("^", value, exponent)


# --- comparison --------------------------------------------------------------------------------------


def close(a, b) -> bool:
    mp = numerics()
    return mp.mag(a - b) < max(mp.mag(a), mp.mag(b)) - ZERO_BITS or a == b


def same_formula(a, b) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = (value if isinstance(value, list) else apply("*", Fraction(1), [sample(value)]) for value in (a, b))
    pairs = [(a[k % len(a)], b[k % len(b)]) for k in range(max(len(a), len(b)))]
    im = numerics().im
    pairs = [(u, v) for u, v in pairs if u is not None and v is not None and (im(u) == 0) == (im(v) == 0)]
    return len(pairs) >= min(2, len(a), len(b)) and all(close(u, v) for u, v in pairs)


def same_equation(a, b) -> bool:
    """Say whether left - right of one equation is a constant multiple of the other's."""
    if a[3] is None or b[3] is None:
        return a[1] == b[1] and a[2] is not None and b[2] is not None and same(a[2], b[2])
    if not isinstance(a[3], list) or not isinstance(b[3], list):
        return False
    ratios = [u / v for u, v in zip(a[3], b[3]) if u and v]
    return len(ratios) >= 2 and all(close(ratio, ratios[0]) for ratio in ratios)


def as_set(value):
    """Drop the repeated members of a set."""
    if not isinstance(value, tuple) or value[0] != "list":
        return value
    return ("list", tuple(x for k, x in enumerate(value[1]) if not any(same(x, y) for y in value[1][:k])))


def same_members(a: tuple, b: tuple) -> bool:
    """Match the members of two lists one to one; greedy is enough, as equality is transitive."""
    rest = list(b)
    for item in a:
        match = next((k for k, other in enumerate(rest) if same(item, other)), None)
        if match is None:
            return False
        del rest[match]
    return not rest


def same(a, b) -> bool:
    kinds = [value[0] if isinstance(value, tuple) else "formula" for value in (a, b)]
    if kinds == ["eq", "eq"]:
        return same_equation(a, b)
    if "eq" in kinds:  # x = 5 answers 5
        a, b = (a, b) if kinds[0] == "eq" else (b, a)
        return a[2] is not None and same(a[2], b)
    if kinds[0] != kinds[1]:
        return False
    if kinds[0] == "formula":
        return same_formula(a, b)
    if kinds[0] == "list":
        return len(a[1]) == len(b[1]) and same_members(a[1], b[1])
    return a[1] == b[1] and len(a[2]) == len(b[2]) and all(map(same, a[2], b[2]))


def is_equivalent(pred: str | None, gold: str | None) -> bool:
    """Say whether two answers (without their box) are equal by the conventions of this file."""
    if not isinstance(pred, str) or not isinstance(gold, str):
        return False
    if len(pred) > MAX_CHARS or len(gold) > MAX_CHARS:
        return pred.strip() == gold.strip() != ""
    pred, gold = tidy(pred), tidy(gold)
    if pred == gold or not pred or not gold:
        return pred == gold != ""
    pred_words, gold_words = read_words(pred), read_words(gold)
    if pred_words and gold_words:
        return pred_words == gold_words
    try:
        return same(read_list(tokenize(pred)), read_list(tokenize(gold)))
    except (Refuse, ArithmeticError, ValueError, RecursionError):
        return False


def math_reward(response: str, gold: str) -> float:
    """Return 1.0 if the response's final answer equals the gold answer, else 0.0."""
    return float(is_equivalent(extract_answer(response), gold))
