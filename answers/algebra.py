r"""An answer's algebra: values, grammar, comparison; skip at first reading.

`read` makes a value of a tidy text (spelling.py) by its tokens (tokens.py), `same` compares two
values. reward.py says what equals what; this is how. A small parser of its own never executes what
a policy wrote, as sympy's `parse_expr` and `sympify` do: they are `eval`. It needs no simplifier
either, and sympy's takes seconds on what a policy can write, `(x+y+z)^{1000}`. What is outside the
grammar or over a cap raises Refuse; 5/0 is an ArithmeticError, an odd spelling may be another
error.

Rationals are compared exactly. Everything else is evaluated to 1000 bits: a constant once, a
formula at eight points +-1 + sin(n)/8. These are transcendental: a polynomial with rational
coefficients that vanishes at one is zero. What enters has at most 330 bits and no intermediate
value leaves 2**-400 .. 2**400, so a difference below 2**-800 is an identity, and not that of
`\sqrt{2}+10^{-60}` to `\sqrt{2}`. This is no proof for towers of nested roots.

Formulas are real functions, compared where all of both is real: `\ln x^2` is `2\ln x` and
`\sqrt{ab}` is `\sqrt{a}\sqrt{b}`, but `\sqrt{x^2}` is `|x|` and not x.
"""

import functools
import math
import operator
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import mpmath

from answers.tokens import FUNCTIONS, RESERVED, TRIG, Group, Reader, Refuse, split, tokenize

# Caps, each checked before the work that it bounds.
MAX_SIGNS = 3  # k signs \pm are 2**k values
MAX_BITS = 10_000  # of an exact result
MAX_EXPONENT_BITS = 15  # of an exponent, and of what is counted, at a sample point
# These five are explained above.
PRECISION = 1000
INPUT_BITS = 330
RANGE_BITS = 400
ZERO_BITS = 800
POINTS = 8
MP = mpmath.MPContext()  # a context of its own: whoever else uses mpmath keeps his precision
MP.prec = PRECISION
# Both signs are left out in x != \pm 2, and in all reals but \pm 2.
EXCLUDED = re.compile(
    r"(?:(?!\\pm).)*(?:\\(?:setminus|backslash|smallsetminus|neq?)(?![a-z])|≠).*\\pm"
)


# --------------------------------------------------------------------------------------------------
# Values. A formula is a Fraction where it is rational, else the list of its values at the sample
# points (of one value for a constant). Every other answer is one of three structures.


@dataclass(frozen=True)
class Ordered:
    """`(1,2)`, `[0,1)`, a matrix and each of its rows, an infinity, `a < b < c`."""

    brackets: str  # or what else says of which kind it is
    items: tuple


@dataclass(frozen=True)
class Unordered:
    r"""`\{1,2\}`, `1 or 2`, a union of intervals; each item may stand there twice."""

    items: tuple


@dataclass(frozen=True)
class Equation:
    """`x = 5` has a name and a value, `x + y = 5` neither; the value of `x > 3` is the interval."""

    name: str
    value: object  # None if no side names the answer
    difference: object  # left - right, a formula; None if a side is a structure


STRUCTURES = (Ordered, Unordered, Equation)
INFINITY = Ordered("+∞", ())  # no arithmetic: it equals only itself
MINUS_INFINITY = Ordered("-∞", ())
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COUNTING = {"factorial": lambda n, _: math.factorial(n), "binomial": math.comb}
# Of a formula any function will do in their place: each equals only itself.
OPAQUE = {"floor": "expm1", "ceil": "erfc"}


def apply(op: str, *args):
    """Applies an operation to values: exactly while all is rational, else at each sample point.

    op: of ARITHMETIC, SET_OPERATIONS, "^", or the name of a function in mpmath. It comes from the
    tables of this file, never from the text. Raises Refuse, ArithmeticError or ValueError.
    """
    if op in SET_OPERATIONS:
        return combine(op, *args)
    if any(isinstance(arg, STRUCTURES) for arg in args):
        return scale(op, args)
    if all(isinstance(arg, Fraction) for arg in args):
        result = exact(op, *args)
        if result is not None:
            return result
    exponent = args[-1] if isinstance(args[-1], Fraction) else None
    columns = [sampled(arg) for arg in args]
    count = max(map(len, columns))
    # A constant has one value, which goes with each sample point of a formula.
    columns = [column * (count // len(column)) for column in columns]
    op = OPAQUE.get(op, op) if count > 1 else op
    return [numeric(op, row, exponent) for row in zip(*columns)]


def scale(op: str, args: tuple) -> Ordered:
    """A number times a point or a matrix: all the arithmetic that there is with structures."""
    structures = [arg for arg in args if isinstance(arg, STRUCTURES)]
    scalars = [arg for arg in args if not isinstance(arg, STRUCTURES)]
    vector = structures[0]
    if op != "*" or not scalars or not isinstance(vector, Ordered):
        raise Refuse
    if vector.brackets not in ("()", "matrix"):
        raise Refuse
    return Ordered(vector.brackets, tuple(apply("*", *scalars, item) for item in vector.items))


def exact(op: str, a: Fraction, b: Fraction = Fraction(1)) -> Fraction | None:
    """A rational result, None if it may be irrational; refuses before it computes what is large."""
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


def sampled(value: Fraction | list) -> list:
    """A formula's values at the sample points."""
    if isinstance(value, list):
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > INPUT_BITS:
        raise Refuse
    return [MP.mpf(value.numerator) / value.denominator]


def numeric(op: str, args: tuple, exponent: Fraction | None):
    """One operation at one sample point. exponent: the last argument, where it is rational."""
    if op in ("^", *COUNTING) and MP.mag(args[-1]) > MAX_EXPONENT_BITS:
        raise Refuse
    if op == "^":
        value = power(*args, exponent)
    elif op in ARITHMETIC:
        value = ARITHMETIC[op](*args)
    else:
        value = getattr(MP, op)(*args)
    size = MP.mag(value)
    if not value or size < dust(op, args):
        return MP.zero
    if not -RANGE_BITS <= size <= RANGE_BITS:
        raise Refuse
    if isinstance(value, MP.mpf):
        return value
    # Complex even if real: the type tells `same_formula` where it came from.
    parts = (value.real, value.imag)
    return MP.mpc(*(part if MP.mag(part) >= size - ZERO_BITS else 0 for part in parts))


def power(base, height, exponent: Fraction | None):
    """base ** height; exponent: the height where it is rational. An odd root is the real one."""
    if exponent and exponent.denominator == 1:
        return base**exponent.numerator
    if exponent and exponent.denominator % 2 and isinstance(base, MP.mpf) and base < 0:
        return (-1) ** exponent.numerator * MP.power(-base, height)
    return MP.power(base, height)


def dust(op: str, args: tuple):
    """The size, in bits, below which a result is zero with an error of rounding, as in sin(pi)."""
    if op in ("+", "-"):
        return max(map(MP.mag, args)) - ZERO_BITS
    if op in ("*", "/", "^", "exp"):
        return -math.inf  # these make no zero of what is not zero
    return -ZERO_BITS


@functools.lru_cache(maxsize=256)
def unknown(name: str) -> list:
    """The sample points of a letter, near +-1 because of `x^{2023}`.

    At the first two all letters are positive. Then come three pairs of opposite signs, such that
    two letters have all combinations of signs (if they differ in the three bits).
    """
    seed = int.from_bytes(name.encode()[:30], "big")
    signs = [1, 1]
    for bit in range(3):
        sign = (-1) ** (seed % 29 >> bit)
        signs += [sign, -sign]
    return [sign + MP.sin(POINTS * seed + point) / 8 for point, sign in enumerate(signs)]


def read_number(text: str) -> Fraction:
    r"""Reads `033`, `.5`, `1.5e-3`, `0.1\overline{6}` or `0.1(6)`."""
    if text.isdigit():
        return Fraction(int(text))
    digits, _, repeat = text.rstrip(")}").replace(r"\overline{", "(").partition("(")
    if not repeat:
        return Fraction(digits)
    _, _, decimals = digits.partition(".")
    nines = 10 ** len(repeat) - 1
    return Fraction(digits) + Fraction(int(repeat), nines * 10 ** len(decimals))


# --------------------------------------------------------------------------------------------------
# Sets of reals: the ends e0 < e1 < ... of all intervals cut the line into atoms, numbered from left
# to right: 0 is what lies below e0, 1 is e0, 2 what lies between e0 and e1, 3 is e1. A set of atoms
# is a Python set, and so the operations on sets are Python's.

SET_OPERATIONS = {r"\cup": operator.or_, r"\cap": operator.and_, r"\setminus": operator.sub}
INTERVALS = ("()", "[]", "(]", "[)")


def combine(op: str, a, b):
    """The union, intersection or difference of two sets: as it is written, if not of reals."""
    if isinstance(a, Equation) or isinstance(b, Equation):
        raise Refuse
    parts = [intervals(a), intervals(b)]
    if None not in parts:
        ends = sorted_ends([end for part in parts for piece in part for end in piece.items])
        left, right = [set().union(*(atoms(piece, ends) for piece in part)) for part in parts]
        return real_set(SET_OPERATIONS[op](left, right), ends)
    if op == r"\cup":
        return Unordered((*members(a), *members(b)))
    if op == r"\setminus":
        return Ordered(op, (a, b))
    raise Refuse


def intervals(value) -> list | None:
    """A set of reals as intervals, a number being one; None if it is no such set."""
    found = []
    for member in members(value):
        piece = member if isinstance(member, Ordered) else Ordered("[]", (member, member))
        if piece.brackets not in INTERVALS or len(piece.items) != 2:
            return None
        low, high = map(position, piece.items)
        if low is None or high is None or low > high or low == high and piece.brackets != "[]":
            return None
        found.append(piece)
    return found


def position(end):
    """Where an end lies on the line, None if that cannot be said."""
    if end in (INFINITY, MINUS_INFINITY):
        return MP.inf if end == INFINITY else -MP.inf
    if not is_number(end):
        return None
    [number] = sampled(end)
    return number if isinstance(number, MP.mpf) else None


def sorted_ends(found: list) -> list:
    """The finite ends in rising order, each once."""
    ends = []
    for end in sorted(found, key=position):
        if not isinstance(end, Ordered) and not (ends and same_formula(ends[-1], end)):
            ends.append(end)
    return ends


def atoms(piece: Ordered, ends: list) -> range:
    """The numbers of the atoms of one interval."""
    low, high = piece.items
    first = 0
    last = 2 * len(ends)
    for k, end in enumerate(ends):
        if not isinstance(low, Ordered) and same_formula(end, low):
            first = 2 * k + 1 + (piece.brackets[0] == "(")
        if not isinstance(high, Ordered) and same_formula(end, high):
            last = 2 * k + 1 - (piece.brackets[1] == ")")
    return range(first, last + 1)


def real_set(found: set, ends: list):
    """Back from atoms to intervals; of one, that one, and of one point, the number."""
    ends = [MINUS_INFINITY, *ends, INFINITY]
    pieces = []
    for first in sorted(atom for atom in found if atom - 1 not in found):
        last = first
        while last + 1 in found:
            last += 1
        low = ends[(first + 1) // 2]
        high = ends[last // 2 + 1]
        brackets = "(["[first % 2] + ")]"[last % 2]
        pieces.append(low if first == last and first % 2 else Ordered(brackets, (low, high)))
    return pieces[0] if len(pieces) == 1 else Unordered(tuple(pieces))


# --------------------------------------------------------------------------------------------------
# Grammar: lists of relations between formulas

BOUNDS = {"<", ">", "<=", ">=", "!="}
RELATIONS = BOUNDS | {"=", "in", "≈"}
# The side of a relation that only names the answer.
NAME = re.compile(
    r"""
      (?:\\?[A-Za-z](?:_\d+|_[A-Za-z]|_\{[^{}]*\}|')*)+   # x, AB, Area, x_1
    | ([fghFGHP])'*(?:\^\{?-1\}?)?\((?!.*\1).*\)            # f(x), f(2), f^{-1}(x)
    | ([a-zA-Z])\((?!.*\2)(?:[a-zA-Z]|\\[a-z]+)(?:,\w)*\)   # y(t), E(X), but not p(p+1)
    | \[[A-Z]{3,}\]                                         # the area [ABC]
    | \\frac\{d[a-z]?\}\{d[a-z]\}                         # dy/dx
    | \((?:[a-zA-Z][,;]?)+\)                                # (x,y)
    | \|[A-Za-z]+\|                                       # |v|
    | \d+_\{?\d+\}?                                       # 101_2
    """,
    re.VERBOSE,
)
OF_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot)(?:[A-Z]|\\(?:alpha|beta|gamma|theta))")  # not of x
PROBABILITY = re.compile(r"P\(.*[=|<>].*\)")


@functools.lru_cache(maxsize=256)
def read(text: str):
    r"""Reads a tidy answer: a value. Raises Refuse, ArithmeticError or ValueError.

    Each `\pm` is both signs, independently of the others; with a `\mp` all change together.
    """
    if r"\pm" not in text and r"\mp" not in text:
        return read_list(tokenize(text))
    if text.count(r"\pm") > MAX_SIGNS:
        raise Refuse
    if EXCLUDED.match(text):
        return both([read(text.replace(r"\pm", sign, 1)) for sign in "+-"])
    if r"\mp" in text:
        versions = [text.replace(r"\pm", p).replace(r"\mp", m) for p, m in ("+-", "-+")]
    else:
        versions = [text.replace(r"\pm", sign, 1) for sign in "+-"]
    return Unordered(tuple(item for version in versions for item in members(read(version))))


def members(value) -> tuple:
    return value.items if isinstance(value, Unordered) else (value,)


def read_list(tokens: list[str]):
    r"""`a, b`, `a or b`, `x < 1 \cup x > 2` are Unordered; a single member is itself."""
    bounded = not BOUNDS.isdisjoint(tokens)
    parts, separators = split(tokens, {",", ";", "or", "and"} | ({r"\cup"} if bounded else set()))
    worded = "or" in separators or "and" in separators
    worded = worded and parts[0] and parts[-1]  # "2, and 3" has an empty part, "5 or" is cut off
    if "!=" in tokens:
        parts = repeat_name(parts)
    items = [relation(part) for part in parts if part or not worded]
    if len(items) == 1:
        return items[0]
    # "x > 1 and x < 3" is an intersection, as are "x > 1, x != 2"; a list of values is a union.
    if bounded and "or" not in separators and r"\cup" not in separators:
        if "and" in separators or "!=" in tokens:
            return both(items)
    return Unordered(tuple(items))


def repeat_name(parts: list[list[str]]) -> list[list[str]]:
    """`x != 1, 2` as `x != 1, x != 2`."""
    repeated = []
    name = []
    for part in parts:
        if "!=" in part:
            name = part[: part.index("!=") + 1]
        alone = part and RELATIONS.isdisjoint(part)
        repeated.append([*name, *part] if alone else part)
    return repeated


def both(items: list):
    """The intersection of sets, or of bounds for the same name."""
    names = {item.name for item in items if isinstance(item, Equation)}
    if not names:
        return functools.reduce(functools.partial(combine, r"\cap"), items)
    if len(names) > 1 or not all(isinstance(item, Equation) for item in items):
        raise Refuse
    return Equation(names.pop(), both([item.value for item in items]), None)


def relation(tokens: list[str]):
    """`5`, `x = 5`, `2+3 = 5`, `x != 5`, `0 < x <= 1`: a formula or a chain of relations."""
    parts, ops = split(tokens, RELATIONS)
    if not parts[0] and len(ops) == 1 and ops[0] in BOUNDS:
        return Ordered(ops[0], (formula(parts[1]),))  # > 7 is no value
    if set(ops) <= {">", ">="}:
        parts = parts[::-1]
        ops = [op.replace(">", "<") for op in ops[::-1]]
    sides = [side(part) for part in parts]
    if not ops:
        return sides[0]
    if ops[-1] == "≈" and len(ops) > is_name(parts[0]):
        # "pi, about 3.14": the exact side is the answer.
        parts = parts[:-1]
        sides = sides[:-1]
        ops = ops[:-1]
    if set(ops) <= {"=", "in", "≈"}:
        return equation(parts, sides)
    if ops == ["!="]:
        return other_than(parts, sides)
    return bounds(parts, sides, ops)


def side(part: list[str]):
    """One side's formula; of `P(X=2)` no more than the name."""
    event = part[0] == "P" and PROBABILITY.fullmatch("".join(part)) if part else None
    return unknown("".join(part)) if event else formula(part)


def is_name(part: list[str]) -> bool:
    """Whether a side only names the answer: x, f(x), but not e."""
    text = "".join(part)
    bare = {token.strip("\\") for token in part}
    plain = RESERVED.isdisjoint(bare) or bool(OF_ANGLE.fullmatch(text))
    return plain and bool(NAME.fullmatch(text))


def equation(parts: list[list[str]], sides: list):
    """`x = 5` and `5 = x` are named values, `2+3 = 5` is 5, `x+y = 5` is x+y-5, a difference."""
    first = sides[0]
    last = sides[-1]
    first_is_name = is_name(parts[0])
    if not first_is_name and all(same(side, last) for side in sides):
        return last
    if any(is_number(side) and not same(side, last) for side in sides[1:-1]):
        raise Refuse  # x = 6 = 5
    difference = None
    if not isinstance(first, STRUCTURES) and not isinstance(last, STRUCTURES):
        difference = apply("-", first, last)
    if first_is_name:
        return Equation("".join(parts[0]), last, difference)
    if len(sides) == 2 and is_name(parts[1]):
        return Equation("".join(parts[1]), first, difference)
    if len(sides) > 2 or difference is None or len(sampled(difference)) == 1:
        raise Refuse  # 5 = 6
    return Equation("", None, difference)


def is_number(value) -> bool:
    return isinstance(value, Fraction) or isinstance(value, list) and len(value) == 1


def bounds(parts: list[list[str]], sides: list, ops: list[str]):
    """`x < 3` and `1 < x <= 3` are intervals of x; any other chain is compared as it is written."""
    if any(part[:1] == ["|"] for part in parts):
        return Ordered(" ".join(ops), tuple(sides))  # |x| < 3 is not (-\infty, 3)
    if len(sides) == 2 and is_name(parts[0]):
        return interval(parts[0], MINUS_INFINITY, sides[1], ["<", *ops])
    if len(sides) == 2 and is_name(parts[1]):
        return interval(parts[1], sides[0], INFINITY, [*ops, "<"])
    if len(sides) == 3 and is_name(parts[1]) and set(ops) <= {"<", "<="}:
        return interval(parts[1], sides[0], sides[2], ops)
    return Ordered(" ".join(ops), tuple(sides))


def other_than(parts: list[list[str]], sides: list):
    """`x != 5` is all reals but 5; `x != y` is compared as it is written."""
    for part, value in (parts[0], sides[1]), (parts[1], sides[0]):
        if is_name(part) and intervals(value):
            return Equation("".join(part), combine(r"\setminus", CONSTANTS["ℝ"], value), None)
    return Ordered("!=", (Unordered(tuple(sides)),))


def interval(name: list[str], low, high, ops: list[str]) -> Equation:
    left = "[" if ops[0] == "<=" else "("
    right = "]" if ops[1] == "<=" else ")"
    return Equation("".join(name), Ordered(left + right, (low, high)), None)


# --------------------------------------------------------------------------------------------------
# Grammar: formulas


class Operator(NamedTuple):
    operation: str
    level: float  # how tightly it binds
    operand: float | None  # how tightly its right operand must bind; None where it has none


IMPLICIT = 3  # the level of a product whose sign is omitted
FACTOR = 3.5  # of the operand of a product
OPERATORS = {
    r"\choose": Operator("binomial", 0, 1),
    r"\over": Operator("/", 0, 1),
    **{op: Operator(op, 0, 1) for op in SET_OPERATIONS},
    "+": Operator("+", 1, 2),
    "-": Operator("-", 1, 2),
    "*": Operator("*", 2, FACTOR),
    "/": Operator("/", 2, FACTOR),
    "^": Operator("^", 4, 4),
    "!": Operator("factorial", 5, None),
    "°": Operator("radians", 5, None),
}
PRODUCT = Operator("*", IMPLICIT, FACTOR)
NO_OPERATOR = Operator("", -1, None)
COMMANDS = {r"\frac": "/", r"\binom": "binomial"}
CONSTANTS = {
    "pi": [+MP.pi],
    r"\pi": [+MP.pi],
    "e": [+MP.e],
    r"\e": [+MP.e],
    "i": [MP.j],
    r"\i": [MP.j],
    "∞": INFINITY,
    "ℝ": Ordered("()", (MINUS_INFINITY, INFINITY)),
    r"\emptyset": Unordered(()),
}
LETTERS = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho varrho sigma tau phi chi psi omega Gamma Delta Theta Lambda Xi Phi Psi Omega hbar ell "
    "partial nabla".split()
)
# A letter with one of these is another letter.
ACCENTS = ("mathbb", "mathcal", "mathfrak", "dot", "ddot", "tilde", "bar", "overline")
APPLIED = ("f", r"\zeta", r"\Gamma", r"\partial", r"\nabla")  # f(4) is not f times 4
BARE = str.maketrans("", "", "\\{}")  # of a name: drops its backslash and its braces
DIGITS = set("0123456789.")
OPENING = set("([{|")


def formula(tokens: list[str]):
    """Reads all of the tokens as one formula."""
    if ":" in tokens:
        return ratio(tokens)
    reader = Reader(tokens)
    value = expression(reader)
    if reader.peek():
        raise Refuse
    return value


def ratio(tokens: list[str]):
    """`3:4` is a quotient, `1:2:3` is `2:4:6`; `2:05` is a time, and no number."""
    if re.search(r":0\d", "".join(tokens)):
        raise Refuse
    parts, _ = split(tokens, {":"})
    values = [formula(part) for part in parts]
    shares = [apply("/", value, values[-1]) for value in values]
    return shares[0] if len(shares) == 2 else Ordered(":", tuple(shares))


def expression(reader: Reader, tight: float = 0):
    """Reads up to an operator that binds less tightly than `tight`: precedence climbing."""
    value = prefix(reader, tight)
    after_postfix = False
    while token := reader.peek():
        # Before these a product may omit its sign; not in 2 3, not in x2.
        follows = token[0] in "\\([{|" or token[0].isalpha() or after_postfix
        if token[0] == "{" and token.inside and token.inside[0][0] in DIGITS:
            raise Refuse  # 1{0} is 10 in print
        follows = follows or token[0] in DIGITS and begins_factor(reader, tight)
        implicit = follows and token not in OPERATORS
        if implicit and tight == IMPLICIT and ends_argument(token):
            break
        operator = PRODUCT if implicit else OPERATORS.get(token, NO_OPERATOR)
        if operator.level < tight:
            break
        if not implicit:
            reader.take()
        after_postfix = operator.operand is None
        if after_postfix:
            value = apply(operator.operation, value)
        else:
            value = apply(operator.operation, value, expression(reader, operator.operand))
    return value


def begins_factor(reader: Reader, tight: float) -> bool:
    r"""Whether a number follows a factor as a factor: in `x 2^n`, `2^2 3^2`, `(n-2) 3`.

    Not in `2 3^n`, nor in `(1) 5` and `(a) 5`, where the bracket only numbers the answer.
    """
    tokens = reader.tokens[: reader.at]
    if tight == IMPLICIT:
        raise Refuse  # \sin x 2^x is either
    is_power = reader.tokens[reader.at + 1] == "^"
    if isinstance(tokens[-1], Group):
        is_label = tokens[-1][0] in "([" and len(tokens[-1].inside) < 2
        return not is_label and (is_power or tokens[-1][0] == "(")
    return is_power and (tokens[-1][0] not in DIGITS or tokens[-2:-1] == ["^"])


def ends_argument(token: str) -> bool:
    r"""Whether a function's argument without brackets ends here: at `\cos` in `\sin x \cos x`."""
    return token[0] in OPENING or token.lstrip("\\") in FUNCTIONS


def prefix(reader: Reader, tight: float = FACTOR):
    """Reads a number, a name, a bracket, or a command with its arguments."""
    token = reader.take()
    if token[:1] in DIGITS and "_" not in token:
        return read_number(token)
    if token in CONSTANTS:
        return CONSTANTS[token]
    if token in ("+", "-"):
        if reader.take_if("∞"):
            return INFINITY if token == "+" else MINUS_INFINITY
        return apply("*", Fraction(f"{token}1"), expression(reader, max(tight, 2)))
    if isinstance(token, Group):
        return group_value(token)
    if token == "|":
        return apply("fabs", formula(reader.take_until("|")))
    if token in COMMANDS:
        return apply(COMMANDS[token], prefix(reader), prefix(reader))
    if token in APPLIED and reader.peek()[:1] == "(":
        return unknown(token + reader.take())
    name = token.translate(BARE)
    if name in FUNCTIONS:
        return function(name, reader)
    return letter(name, is_command=token[:1] == "\\")


def letter(name: str, is_command: bool):
    r"""x, x_1, \alpha, f'; also 101_2, an unknown of that name and not a value."""
    stem, _, subscript = name.rstrip("'").partition("_")
    if stem.isdigit() and subscript:
        return Fraction(int(stem)) if subscript == "10" else unknown(f"{int(stem)}_{subscript}")
    accented = is_command and stem[:-1] in ACCENTS
    if stem in LETTERS or accented or stem.isalpha() and not is_command:
        return unknown(name)
    raise Refuse


def group_value(group: Group):
    """A bracket around one formula is that formula, around several it is a structure."""
    if group.startswith(r"\{"):
        # Of one member, too: x - \{x\} is not 0.
        return Unordered(members(read_list(group.inside)) if group.inside else ())
    if group.startswith(r"\begin"):
        return matrix(group.inside)
    parts, separators = split(group.inside, {",", ";"})
    if len(set(separators)) > 1:
        raise Refuse  # (1,5; 2) may be a pair of decimals
    items = tuple(formula(part) for part in parts)
    if group[0] == "\\":
        return apply("floor" if group.startswith(r"\lfloor") else "ceil", *items)
    brackets = group[0] + group[-1]
    if len(items) == 1 and brackets in ("()", "[]", "{}"):
        return items[0]
    return Unordered(items) if brackets == "{}" else Ordered(brackets, items)


def matrix(tokens: list[str]) -> Ordered:
    """Rows of formulas; a single column is a vector, and equals the point."""
    lines, _ = split(tokens, {r"\\"})
    rows = []
    for line in filter(None, lines):
        cells, _ = split(line, {"&"})
        rows.append(tuple(formula(cell) for cell in cells))
    if len(rows) > 1 and all(len(row) == 1 for row in rows):
        return Ordered("()", tuple(row[0] for row in rows))
    return Ordered("matrix", tuple(Ordered("matrix", row) for row in rows))


def function(name: str, reader: Reader):
    r"""Reads the rest of `\sin^2 x`, `\sin^{-1} x`, `\log_2 8`, `\sqrt[3]{x}`, `\sqrt2`."""
    if name == "sqrt":
        index = formula(reader.take().inside) if reader.peek()[:1] == "[" else Fraction(2)
        return apply("^", prefix(reader), apply("/", Fraction(1), index))
    op = FUNCTIONS[name]
    base = Fraction(10)
    if name == "log" and reader.take_if("_"):
        base = prefix(reader)
    exponent = expression(reader, 4) if reader.take_if("^") else None
    if exponent == -1 and name in TRIG:
        op = "a" + op
        exponent = None
    in_brackets = reader.peek()[:1] in OPENING
    value = apply(op, prefix(reader) if in_brackets else expression(reader, IMPLICIT))
    if name == "log":
        value = apply("/", value, apply("log", base))
    return value if exponent is None else apply("^", value, exponent)


# --------------------------------------------------------------------------------------------------
# Comparison


def same(a, b) -> bool:
    """Compares two values, by the conventions of reward.py. Raises Refuse or ArithmeticError."""
    # \{5\} is 5
    if isinstance(a, Unordered) and len(a.items) == 1:
        return same(a.items[0], b)
    if isinstance(b, Unordered) and len(b.items) == 1:
        return same(a, b.items[0])
    if isinstance(a, Unordered) and isinstance(b, Equation):
        return same(b, a)
    if isinstance(a, Equation) and isinstance(b, Unordered) and a.name[:1] == "(":
        a = assignments(a)
    if isinstance(a, Equation) and isinstance(b, Equation):
        return same_equation(a, b)
    if isinstance(a, Equation):
        return a.value is not None and same(a.value, b)  # x = 5 answers 5
    if isinstance(b, Equation):
        return same(b, a)
    if isinstance(a, Unordered) and isinstance(b, Unordered):
        return same_members(a, b)
    if isinstance(a, Ordered) and isinstance(b, Ordered):
        alike = a.brackets == b.brackets and len(a.items) == len(b.items)
        return alike and all(map(same, a.items, b.items))
    if isinstance(a, STRUCTURES) or isinstance(b, STRUCTURES):
        return False
    return same_formula(a, b)


def assignments(pair: Equation):
    """`(x,y) = (1,2)` as `x = 1, y = 2`; itself where that is not what it says."""
    names = re.findall("[a-zA-Z]", pair.name)
    items = pair.value.items if isinstance(pair.value, Ordered) else ()
    if len(names) != len(items) or any(isinstance(item, STRUCTURES) for item in items):
        return pair
    named = [(name, item, apply("-", unknown(name), item)) for name, item in zip(names, items)]
    return Unordered(tuple(Equation(*parts) for parts in named))


def same_members(a: Unordered, b: Unordered) -> bool:
    """Whether each member of one is in the other, both ways: a list does not answer a member."""
    a_in_b = all(any(same(x, y) for y in b.items) for x in a.items)
    return a_in_b and all(any(same(x, y) for x in a.items) for y in b.items)


def same_equation(a: Equation, b: Equation) -> bool:
    """The same value under the same name, or proportional differences: u / u[0] is v / v[0]."""
    u = a.difference
    v = b.difference
    if u is None or v is None:
        return a.name == b.name != "" and same(a.value, b.value)
    return bool(u[0] and v[0]) and same_formula([x * v[0] for x in u], [y * u[0] for y in v])


def same_formula(a: Fraction | list, b: Fraction | list) -> bool:
    """Exactly for rationals, else at the sample points where both are real."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    left = sampled(a)
    right = sampled(b)
    pairs = list(zip(left * (POINTS // len(left)), right * (POINTS // len(right))))
    real = [pair for pair in pairs if all(isinstance(value, MP.mpf) for value in pair)]
    if len(real) > 1:  # one point says nothing about equations: all are proportional there
        pairs = real
    return all(u == v or MP.mag(u - v) < MP.mag(u) - ZERO_BITS for u, v in pairs)
