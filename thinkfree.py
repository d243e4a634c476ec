"""ThinkingFree (Section 3): the prompt x of a question, and x', which has an empty thinking block.

    x   <|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n
    x'  x + <think>\\n\\n</think>\\n\\n

It is the one thing that the paper changes: with x' in the place of x, all else is ordinary RL. Left
out: system prompts, several turns.
"""

from support.model import ModelError

EMPTY_BLOCK = "<think>\n\n</think>\n\n"


def think_free(prompt):
    """ThinkingFree(x) of Section 3: the rendered prompt, up to the assistant's turn, plus a block.

    Pitfall: the block twice. A template that opens it itself (the DeepSeek-R1 distils end in
    `<think>\\n`) has it closed, not opened again, which is our reading: the authors' patch appends
    alone. A prompt that has its empty block already is returned as it is.
    """
    if prompt.endswith(EMPTY_BLOCK):
        return prompt
    if prompt.rstrip().endswith("<think>"):
        return prompt[: prompt.rindex("<think>")] + EMPTY_BLOCK
    return prompt + EMPTY_BLOCK


def render(tokenizer, question, instruction, thinking):
    """The prompt x (thinking) or x' (thinking-free) of one question, as text."""
    content = f"{question}\n{instruction}" if instruction else question
    messages = [{"role": "user", "content": content}]
    try:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program of the model's author, in a sandbox
        raise ModelError(
            f"the model's chat template fails ({error}). Mend it, or use another model."
        ) from None
    return prompt if thinking else think_free(prompt)


def render_all(tokenizer, problems, instruction, thinking):
    return [render(tokenizer, p.problem, instruction, thinking) for p in problems]


def check_block(tokenizer):
    """Raises ModelError if the tokenizer loses the empty block.

    How many tokens `</think>` takes does not matter.
    """
    ids = tokenizer(EMPTY_BLOCK, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids).strip() != EMPTY_BLOCK.strip():
        raise ModelError(
            f"the tokenizer makes {tokenizer.decode(ids)!r} of the empty thinking block, so no "
            "model can see it. Use a model whose vocabulary can write <think> and </think>."
        )
