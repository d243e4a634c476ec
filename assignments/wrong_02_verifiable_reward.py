r"""Known wrong answers to assignment 2. See wrong.py."""

HINTS = {
    "the first box is the answer": (
        "You take the first box. A response may correct itself; the last one counts."
    ),
    "a box in the thought is the answer": (
        "You look for boxes in the thought, too. What counts stands behind the last </think>."
    ),
    "an unclosed box falls back to an earlier one": (
        "The last box was never closed, and you fall back to an earlier one: hedging would pay."
    ),
    "a box in an unclosed thought counts": (
        "A <think> without </think> behind it: the response was cut while it thought."
    ),
}

SKIPPED = {}

THOUGHT = 'text = text.rsplit("</think>", 1)[-1]\nif "<think>" in text:\n    return None\n'
SCAN = """at = text.rfind("\\\\boxed{")
if at < 0:
    return None
depth = 0
for i in range(at + 6, len(text)):
    depth += (text[i] == "{") - (text[i] == "}")
    if depth == 0:
        return text[at + 7 : i].strip() or None
return None"""

MORE = [
    ("zeros", "You never find an answer.", "extract_answer", "", "return None"),
    (
        "zeros",
        "You never find an answer; and without one, return None.",
        "extract_answer",
        "",
        'return ""',
    ),
    (
        "the whole text is the answer",
        "You return the text. The answer is what stands in the box.",
        "extract_answer",
        "",
        "return text",
    ),
    (
        "the box ends at the first brace",
        "Your answer ends at the first closing brace. An answer may have braces in it: count them.",
        "extract_answer",
        "",
        THOUGHT + 'found = re.findall(r"\\\\boxed\\s*\\{([^}]*)\\}", text)\n'
        "return (found[-1].strip() or None) if found else None",
    ),
    (
        "the box ends at the first brace",
        "Your regular expression allows no braces in the answer. Count them instead.",
        "extract_answer",
        "",
        THOUGHT + 'found = re.findall(r"\\\\boxed\\s*\\{([^{}]*)\\}", text)\n'
        "return (found[-1].strip() or None) if found else None",
    ),
    (
        "the box ends at the first brace",
        "Your answer ends at the first closing brace (.*? stops as early as it can).",
        "extract_answer",
        "",
        THOUGHT + 'found = re.findall(r"\\\\boxed\\{(.*?)\\}", text)\n'
        "return (found[-1].strip() or None) if found else None",
    ),
    (
        "the box ends at the last brace of the text",
        "Your answer goes to the last closing brace of the text (.* takes all it can).",
        "extract_answer",
        "",
        THOUGHT + 'found = re.findall(r"\\\\boxed\\s*\\{(.*)\\}", text)\n'
        "return (found[-1].strip() or None) if found else None",
    ),
    (
        "of nested boxes the inner one",
        "You take the box that *opens* last. Of nested boxes the outer one counts, since it closes "
        "last.",
        "extract_answer",
        "",
        THOUGHT + SCAN,
    ),
    (
        "of nested boxes the inner one",
        "You take the box that opens last. Of nested boxes the outer one counts, since it closes "
        "last.",
        "extract_answer",
        "if start:",
        "if start > answer_start:",
    ),
    (
        "thoughts are not looked at",
        "You read the thought as if it were the answer. Begin behind the last </think>; an open "
        "thought has no answer.",
        "extract_answer",
        "",
        SCAN,
    ),
    (
        "the first </think> ends the thought",
        "You begin behind the first </think>. There may be several; the last one counts.",
        "extract_answer",
        'text.rfind("</think>")',
        'text.find("</think>")',
    ),
    (
        "an empty box falls back to an earlier one",
        "The last box is empty, and you fall back to an earlier one. It is no answer.",
        "extract_answer",
        "if start:",
        "if start and text[start : brace.start()].strip():",
    ),
    (
        "an empty box is an empty answer",
        "An empty box is no answer: return None, not an empty text.",
        "extract_answer",
        ".strip() or None",
        ".strip()",
    ),
    (
        "blanks around the answer stay",
        "Strip the blanks around the answer.",
        "extract_answer",
        ".strip() or None",
        " or None",
    ),
    (
        "the box is returned with its braces",
        "You return the box itself. The answer is what stands in it.",
        "extract_answer",
        "text[max(answer_start, 0) : max(answer_end, 0)].strip() or None",
        '(f"\\\\boxed{{{text[answer_start:answer_end].strip()}}}" if answer_start > 0 else None)',
    ),
    (
        "any unclosed brace is an unclosed box",
        "You return None if any brace is left open. Only a last *box* that is left open counts.",
        "extract_answer",
        "if max(open_braces, default=0) > answer_start:",
        "if open_braces:",
    ),
    (
        "escaped braces are counted",
        r"You count \{ and \} as braces. They are letters that are printed.",
        "extract_answer",
        "for brace in BRACES.finditer(text, thought_end + 1):",
        'for brace in re.compile(r"\\\\boxed\\s*\\{|[{}]").finditer(text, thought_end + 1):',
    ),
    (
        "a box without a box",
        r"Without any box you return the last number. \boxed{} is asked for.",
        "extract_answer",
        "if max(open_braces, default=0) > answer_start:",
        "if answer_start < 0:\n"
        '    numbers = re.findall(r"\\d+", text[thought_end + 1 :])\n'
        "    return numbers[-1] if numbers else None\n"
        "if max(open_braces, default=0) > answer_start:",
    ),
    (
        "a box has no blank before its brace",
        r"You look for \boxed{ without blanks. \boxed {42} is a box, too.",
        "extract_answer",
        "for brace in BRACES.finditer(text, thought_end + 1):",
        'for brace in re.compile(r"\\\\boxed\\{|\\\\[{}]|[{}]").finditer(text, thought_end + 1):',
    ),
    (
        "every brace is a box",
        "You take the last closed brace, be it a box or not.",
        "extract_answer",
        "open_braces.append(0)",
        "open_braces.append(brace.end())",
    ),
    (
        "all boxes are the answer",
        "You join all boxes. Of several boxes the last one counts, or guessing would pay.",
        "extract_answer",
        "return text[max",
        'boxes = re.findall(r"\\\\boxed\\s*\\{([^{}]*)\\}", text[thought_end + 1 :])\n'
        'if len(boxes) > 1:\n    return ", ".join(boxes)\n'
        "return text[max",
    ),
]

WHOLE = []

RIGHT = r"""
def behind_thought(text):
    rest = text.rsplit("</think>", 1)[-1]
    return None if "<think>" in rest else rest

def extract_answer(text):
    rest = behind_thought(text)
    if rest is None:
        return None
    found = None
    stack = []
    for mark in re.finditer(r"\\boxed\s*\{|\\\{|\\\}|\{|\}", rest):
        word = mark.group()
        if word.startswith("\\b"):
            stack.append((True, mark.end()))
        elif word == "{":
            stack.append((False, mark.end()))
        elif word == "}" and stack:
            is_box, start = stack.pop()
            if is_box:
                found = (start, mark.start())
    left = [start for is_box, start in stack if is_box]
    if left and (found is None or left[-1] > found[0]):
        return None
    if found is None:
        return None
    answer = rest[found[0] : found[1]].strip()
    return answer if answer else None
"""
