"""Known wrong answers to assignment 1. See wrong.py."""

HINTS = {
    "a block that the template opens is opened twice": (
        "Where the prompt ends in <think>, yours ends in <think> twice: take the opened one away, "
        "or close it."
    ),
}

SKIPPED = {}

MORE = [
    (
        "zeros",
        "You return the prompt as it is: that is x, and the model will think.",
        "think_free",
        "",
        "return prompt",
    ),
    (
        "zeros",
        "You return nothing of the prompt.",
        "think_free",
        "",
        'return ""',
    ),
    (
        "the block alone",
        "You return the block; x' is the prompt and the block.",
        "think_free",
        "",
        "return block",
    ),
    (
        "the block is always appended",
        "You always append. Look at how the prompt ends: it may be opened already, or closed.",
        "think_free",
        "",
        "return prompt + block",
    ),
    (
        "a closed block gets a second one",
        "A prompt that ends in </think> is thinking-free already, and stays as it is.",
        "think_free",
        "if CLOSED.search(prompt):\n        return prompt",
        "pass",
    ),
    (
        "tags are looked for in the whole prompt",
        "You find <think> or </think> anywhere. The question may have such words; what counts is "
        "how the prompt ends.",
        "think_free",
        "",
        'if "</think>" in prompt:\n    return prompt\nif "<think>" in prompt:\n'
        '    return prompt.rstrip().removesuffix("<think>") + block\nreturn prompt + block',
    ),
    (
        "tags are looked for in the whole prompt",
        "You find </think> anywhere. The question may have such words; what counts is how the "
        "prompt ends.",
        "think_free",
        "if CLOSED.search(prompt):",
        'if "</think>" in prompt:',
    ),
    (
        "tags are looked for in the whole prompt",
        "You take away <think> wherever it stands, in the question, too.",
        "think_free",
        'OPEN.sub("", prompt)',
        'prompt.replace("<think>", "")',
    ),
    (
        "the line ends behind the block are missing",
        "Your block ends at </think>. What the model saw in training has two line ends behind it.",
        "think_free",
        "+ block",
        "+ block.rstrip()",
    ),
    (
        "the block has no line ends",
        "Your block has no line ends. The model knows the block as it was trained on it, with "
        "two within and two behind.",
        "think_free",
        "+ block",
        '+ block.replace("\\n", "")',
    ),
    (
        "the block has no line ends",
        "Your block has no line ends. The model knows the block as it was trained on it, with "
        "two within and two behind.",
        "think_free",
        "+ block",
        '+ "<think></think>"',
    ),
    (
        "the block has one line end",
        "Your block has one line end within. The model knows two.",
        "think_free",
        "+ block",
        '+ block.replace("\\n\\n", "\\n")',
    ),
    (
        "an opened block is closed beside the line end it has",
        "You only add </think>, so how many line ends stand between the tags depends on the "
        "template. Take the opened tag away with what follows it, and append the whole block.",
        "think_free",
        'return OPEN.sub("", prompt) + block',
        'if OPEN.search(prompt):\n    return prompt + "</think>\\n\\n"\nreturn prompt + block',
    ),
    (
        "an opened block is closed beside the line end it has",
        "You only add the rest of the block, so how many line ends stand between the tags depends "
        "on the template. Take the opened tag away with what follows it; append the whole block.",
        "think_free",
        'return OPEN.sub("", prompt) + block',
        'if OPEN.search(prompt):\n    return prompt + "\\n</think>\\n\\n"\nreturn prompt + block',
    ),
    (
        "the block given is ignored",
        "You write a block of your own. Some templates have another one, which is the argument.",
        "think_free",
        "+ block",
        "+ EMPTY_BLOCK",
    ),
    (
        "the prompt is stripped",
        "You strip the prompt. Where no block is opened, it stays as the template made it.",
        "think_free",
        'OPEN.sub("", prompt)',
        'OPEN.sub("", prompt).rstrip()',
    ),
    (
        "a bare </think> is not taken for closed",
        "Some templates (DeepSeek-V3.1) switch thinking off by </think> alone. That is closed.",
        "think_free",
        "CLOSED.search(prompt)",
        're.search(r"<think>\\s*</think>\\s*$", prompt)',
    ),
    (
        "only the exact block is taken for closed",
        "You look for the exact block. Templates differ in the line ends within and behind it.",
        "think_free",
        "CLOSED.search(prompt)",
        "prompt.endswith(block)",
    ),
    (
        "a closed block is written anew",
        "You replace a block that the template closed by ours. It is returned as it is.",
        "think_free",
        "return prompt\n",
        'return CLOSED.sub("", prompt) + block\n',
    ),
    (
        "only one spelling of an opened block is seen",
        "You look for <think> and one line end. Templates differ in what stands behind the tag.",
        "think_free",
        'OPEN.sub("", prompt)',
        'prompt.removesuffix("<think>\\n")',
    ),
    (
        "only one spelling of an opened block is seen",
        "You look for <think> and nothing behind it. Templates differ in what stands there.",
        "think_free",
        'OPEN.sub("", prompt)',
        'prompt.removesuffix("<think>")',
    ),
    (
        "the block stands before the prompt",
        "The block is the beginning of the answer: it stands behind the prompt.",
        "think_free",
        'OPEN.sub("", prompt) + block',
        'block + OPEN.sub("", prompt)',
    ),
]

WHOLE = []

RIGHT = """
def ends_in(text, tag):
    return text.rstrip().endswith(tag)

def think_free(prompt, block=EMPTY_BLOCK):
    if ends_in(prompt, "</think>"):
        return prompt
    if ends_in(prompt, "<think>"):
        return prompt[: prompt.rindex("<think>")] + block
    return f"{prompt}{block}"
"""
