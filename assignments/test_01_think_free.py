"""Grading tests of assignment 1: x and x'."""

from checking import check

import thinkfree

BLOCK = "<think>\n\n</think>\n\n"


def slow_think_free(prompt, block=BLOCK):
    """Looks at the end of the prompt, letter by letter."""
    end = prompt.rstrip()
    if end.endswith("</think>"):
        return prompt
    if end.endswith("<think>"):
        return end[: -len("<think>")] + block
    return prompt + block


def question(rng):
    """A question like those of data/."""
    a, b = rng.integers(2, 99, 2)
    return f"What is {a}/{b} of {a * b}?"


def turn(text, end="<|im_start|>assistant\n"):
    """A prompt as a chat template renders it, up to the assistant's turn."""
    return f"<|im_start|>user\n{text}<|im_end|>\n{end}"


def compare(prompt, *block):
    check(
        f"x' of {prompt!r}", thinkfree.think_free(prompt, *block), slow_think_free(prompt, *block)
    )


def test_a_template_without_a_block(rng):
    """A prompt that ends where the assistant begins: the empty block is appended"""
    compare(turn(question(rng)))
    compare(turn(question(rng), "<|assistant|>"))


def test_a_template_that_opens_the_block(rng):
    """A prompt that ends in an opened block, as the DeepSeek-R1 distils': it is closed"""
    for opened in ("<think>\n", "<think>", "<think>\n\n", "<think> \n"):
        compare(turn(question(rng), "<|Assistant|>" + opened))


def test_a_prompt_that_is_thinking_free_already(rng):
    """A prompt that ends in a closed block is returned as it is"""
    for closed in (BLOCK, "<think>\n\n</think>\n", "<think></think>", "<think>\n</think>\n\n"):
        compare(turn(question(rng), "<|Assistant|>" + closed))
    compare(turn(question(rng), "<|Assistant|></think>"))


def test_what_the_user_wrote_stays(rng):
    """Tags in the question say nothing about the assistant's turn; blanks at its end stay"""
    for text in (
        "Write <think> at once. " + question(rng),
        "Is <think>\n\n</think>\n\n empty? " + question(rng),
        question(rng) + " End with </think>",
    ):
        compare(turn(text))
        compare(turn(text, "<|Assistant|><think>\n"))
    compare(turn(question(rng), "<|assistant|>\n\n "))


def test_another_block(rng):
    """The block is the one that is given"""
    for end in ("<|assistant|>\n", "<|assistant|>\n<think>\n"):
        compare(turn(question(rng), end), "<think>\n</think>")
