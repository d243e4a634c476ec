"""Grading tests of assignment 2: the verifiable reward."""

from checking import check

import reward


def slow_answer(text):
    """Letter by letter: the box that closes last, behind the last thought."""
    behind = text.split("</think>")[-1]
    if "<think>" in behind:
        return None
    found = None
    unclosed = []  # where the content of each open brace starts, and whether it is a box
    place = 0
    while place < len(behind):
        rest = behind[place:]
        box = box_at(rest)
        if box:
            place += box
            unclosed.append((place, True))
            continue
        if rest[:2] in ("\\{", "\\}"):
            place += 2
            continue
        if rest[0] == "{":
            unclosed.append((place + 1, False))
        if rest[0] == "}" and unclosed:
            start, is_box = unclosed.pop()
            if is_box:
                found = (start, place)
        place += 1
    if any(is_box and (found is None or start > found[0]) for start, is_box in unclosed):
        return None
    return (behind[found[0] : found[1]].strip() or None) if found else None


def box_at(text):
    r"""How many letters `\boxed {` takes at the beginning of a text; 0 if it is not there."""
    if not text.startswith("\\boxed"):
        return 0
    rest = text[len("\\boxed") :].lstrip()
    return len(text) - len(rest) + 1 if rest.startswith("{") else 0


def number(rng):
    return str(int(rng.integers(10, 99)))


def compare(text):
    check(f"the answer of {text!r}", reward.extract_answer(text), slow_answer(text))


def test_one_box(rng):
    r"""A response with one `\boxed{...}`, or with none"""
    n = number(rng)
    compare(f"So the answer is \\boxed{{{n}}}.")
    compare(f"So it is \\boxed {{ {n} }}")
    compare(f"I think it is {n}.")
    compare(f"\\boxed {n} and \\fbox{{{n}}}")


def test_braces_in_the_box(rng):
    """Braces within the answer, in pairs or escaped, belong to it"""
    n, m = number(rng), number(rng)
    compare(f"\\boxed{{\\frac{{{n}}}{{{m}}}}}")
    compare(f"{{\\boxed{{x^{{{n}}}}}}} as asked")
    compare(f"\\boxed{{\\{{{n}, {m}\\}}}}, the set")
    compare(f"\\boxed{{\\left\\{{ {n} \\right.}} and so on")
    compare(f"\\boxed{{\\sqrt{{\\frac{{{n}}}{{{m}}}}} + \\text{{ {{a}} }}}}")


def test_several_boxes(rng):
    """The last one counts; of nested ones the outer one"""
    n, m = number(rng), number(rng)
    compare(f"First \\boxed{{{n}}}, no: \\boxed{{{m}}}.")
    compare(f"\\boxed{{\\boxed{{{n}}} + {m}}}")
    compare(f"\\boxed{{{n}}} or \\boxed{{{m}}} or \\boxed{{{n}{m}}}, I guess")


def test_thinking(rng):
    """Only what stands behind the last thought counts"""
    n, m = number(rng), number(rng)
    compare(f"<think>Maybe \\boxed{{{n}}}.</think> It is \\boxed{{{m}}}.")
    compare(f"<think>Maybe \\boxed{{{n}}}.</think> It is {m}.")
    compare(f"<think>a</think> \\boxed{{{n}}} <think>b</think> \\boxed{{{m}}}")
    compare(f"<think>a</think> \\boxed{{{n}}} </think> I said it.")
    compare(f"It was open before: \\boxed{{{n}}}.</think> It is \\boxed{{{m}}}.")


def test_an_unfinished_thought(rng):
    """A response that was cut while thinking has no answer yet"""
    n, m = number(rng), number(rng)
    compare(f"<think>Maybe \\boxed{{{n}}}, or")
    compare(f"<think>a</think> \\boxed{{{n}}} <think>or \\boxed{{{m}}}")


def test_an_unfinished_box(rng):
    """A last box that is empty, or never closed, is no answer, whatever came before it"""
    n, m = number(rng), number(rng)
    compare(f"\\boxed{{{n}}}, no, \\boxed{{{m}")
    compare(f"\\boxed{{\\frac{{{n}}}{{{m}}}")
    compare(f"\\boxed{{{n}}}, no, \\boxed{{ }}")
    compare(f"\\boxed{{{n}}}, and {{ here is another brace")
    compare(f"}} \\boxed{{{n}}} }} }}")


def test_many_braces(rng):
    """A megabyte of braces is read in one pass"""
    n = number(rng)
    got = reward.extract_answer("\\boxed{" * 20_000 + n + "}" * 20_000 + f"\\boxed{{{n}}}")
    check("the answer behind 20,000 nested boxes", got, n)
    got = reward.extract_answer("{" * 200_000 + f"\\boxed{{{n}}}")
    check("the answer behind 200,000 open braces", got, n)
