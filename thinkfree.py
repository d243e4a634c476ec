"""ThinkingFree (Section 3): the prompt x of a question, and x', which has an empty thinking block.

    x   <|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n
    x'  x + <think>\\n\\n</think>\\n\\n

It is the one thing that the paper changes: with x' in the place of x, all else is ordinary RL. A
chat template is asked first, since many have a switch of their own; x' is what it renders with
thinking switched off, and the block is appended, or closed, only where it did not do that itself.
Left out: several turns, and families that think in channels or tags of their own.
"""

import re

from support.model import ModelError

TAGS = ("<think>", "</think>")
EMPTY_BLOCK = "<think>\n\n</think>\n\n"
# Thinking-free already: a block with nothing in it, or a bare </think> (DeepSeek-V3.1).
CLOSED = re.compile(r"(?:<think>\s*)?</think>\s*$")
OPEN = re.compile(r"<think>\s*$")
# These think elsewhere, and <think> means nothing to them: gpt-oss, Gemma, Magistral, ...
CHANNELS = re.compile(
    r"<\|channel\|?>|\[THINK\]|<seed:think>|◁think▷|<thought>|<\|START_THINKING\|>|"
    r"<\|begin_of_thought"
)
LONGEST = 100_000  # characters that a template may add to the messages
# Switches that stand in the system turn: what a template says that has one, on, off.
SYSTEM_SWITCHES = (
    ("detailed thinking", "detailed thinking on", "detailed thinking off"),  # Llama-Nemotron
    ("/no_think", "/think", "/no_think"),  # Nemotron Nano
)


def think_free(prompt, block=EMPTY_BLOCK):
    """ThinkingFree(x) of Section 3: the rendered prompt, up to the assistant's turn, plus a block.

    Pitfall: the block twice. A template that opens it itself (the DeepSeek-R1 distils end in
    `<think>\\n`) has it closed, not opened again, which is our reading: the authors' patch appends
    alone. A prompt that is thinking-free already is returned as it is.
    """
    if CLOSED.search(prompt):
        return prompt
    return OPEN.sub("", prompt) + block


def render(tokenizer, question, instruction, thinking):
    """The prompt x (thinking) or x' (thinking-free) of one question, as text."""
    content = f"{question}\n{instruction}" if instruction else question
    messages = [{"role": "user", "content": content}]
    block = EMPTY_BLOCK
    if switch := system_switch(tokenizer):
        on, off = switch
        messages = [{"role": "system", "content": on if thinking else off}] + messages
        block = "<think>\n</think>"
    prompt = apply_template(tokenizer, messages, thinking)
    return prompt if thinking else think_free(prompt, block)


def render_all(tokenizer, problems, instruction, thinking):
    return [render(tokenizer, p.problem, instruction, thinking) for p in problems]


def apply_template(tokenizer, messages, thinking, add_generation_prompt=True):
    """The messages as text, with thinking switched on or off, where the template knows a switch.

    Pitfall: a template that does not think by default (Qwen3.5), and is not told to: x is x' then.
    """
    try:
        prompt = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            enable_thinking=thinking,  # most families
            thinking=thinking,  # DeepSeek-V3.1, Granite
        )
    except Exception as error:  # a template is a program of the model's author, in a sandbox
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"the model's chat template fails ({reason}). Mend it, or use another model."
        ) from None
    if len(prompt) > LONGEST + sum(len(str(message["content"])) for message in messages):
        raise ModelError(
            f"the model's chat template makes {len(prompt)} characters of a question. Mend it, or "
            "use another model."
        )
    return prompt


def system_switch(tokenizer):
    """The system turns (on, off) of a family whose switch stands there; None for all others."""
    template = template_text(tokenizer)
    if "enable_thinking" in template:
        return None
    # The first Llama-Nemotron templates do not name their switch.
    named = template + ("detailed thinking" if "nemotron" in family_name(tokenizer) else "")
    for word, on, off in SYSTEM_SWITCHES:
        if word in named:
            return on, off
    return None


def family_name(tokenizer):
    return str(getattr(tokenizer, "name_or_path", "")).lower().rpartition("/")[2]


def template_text(tokenizer):
    """The program that the chat template is, or all of them where there are several."""
    return str(getattr(tokenizer, "chat_template", None) or "")


def response_text(tokenizer, prompt, ids):
    """The response of token ids as text, its thinking block whole.

    A prompt that ends in <think> has half of the block. Of special tokens, those of the block stay:
    a box in a thought that was cut off is no answer.
    """
    opened = "<think>\n" if OPEN.search(prompt) else ""
    tokens = tokenizer.added_tokens_decoder
    dropped = {i for i, token in tokens.items() if token.special and token.content not in TAGS}
    return opened + tokenizer.decode([i for i in ids if i not in dropped])


# --------------------------------------------------------------------------------------------------
# What is refused, and what is said once


def check_prompts(tokenizer):
    """Raises ModelError if x and x' cannot be what they should be with this tokenizer."""
    ids = tokenizer(EMPTY_BLOCK, add_special_tokens=False)["input_ids"]
    # How many tokens `</think>` takes does not matter.
    if tokenizer.decode(ids).strip() != EMPTY_BLOCK.strip():
        raise ModelError(
            f"the tokenizer makes {tokenizer.decode(ids)!r} of the empty thinking block, so no "
            "model can see it. Use a model whose vocabulary can write <think> and </think>."
        )
    template = template_text(tokenizer)
    if (channel := CHANNELS.search(template)) and "<think>" not in template:
        raise ModelError(
            f"the chat template thinks in {channel[0]}, and an empty <think> block means nothing "
            "to its model. Use a model that thinks between <think> and </think>."
        )
    question = [{"role": "user", "content": "What is 1 + 1?"}]
    opened = apply_template(tokenizer, question, True)
    if opened == apply_template(tokenizer, question, True, add_generation_prompt=False):
        raise ModelError(
            "the chat template ignores add_generation_prompt, so the prompt does not end where the "
            "assistant's turn begins. Mend the template, or use another model."
        )
    x = render(tokenizer, "What is 1 + 1?", "", True)
    if "What is 1 + 1?" not in x:
        raise ModelError(
            "the chat template leaves the question out. Mend it, or use another model."
        )
    if CLOSED.search(x):
        raise ModelError(
            f"the prompt with thinking ends in {x[-30:]!r}: its thinking block is closed, so there "
            "is no thinking mode to measure. Use a model whose template can open it."
        )


def describe_prompts(tokenizer, stop_ids=()):
    """How x and x' end, and what the user should know of the template: a list of lines.

    Without stop ids, which come with the model, nothing is said of them.
    """
    lines = []
    for name, thinking in (("x ", True), ("x'", False)):
        lines.append(f"{name} ends in {render(tokenizer, '1 + 1?', '', thinking)[-50:]!r}")
    template = template_text(tokenizer)
    if "think>" not in template and "</think>" not in tokenizer.get_vocab():
        lines.append(
            "neither template nor vocabulary of this model know <think>: it was probably never "
            "trained on a thinking block, so x' may change little, and x may not think."
        )
    end = end_of_turn(tokenizer)
    ids = tokenizer(end, add_special_tokens=False)["input_ids"][:3]
    if ids and stop_ids and not stop_ids & set(ids):
        lines.append(
            f"a turn ends in {end[:20]!r}, which is not among the stop ids {sorted(stop_ids)}: "
            "responses may run on. Add it to eos_token_id in generation_config.json."
        )
    if "strftime_now" in template:
        lines.append("the template writes today's date into the prompt: tomorrow it is another.")
    return lines


def end_of_turn(tokenizer):
    """What the template writes behind an answer; nothing if it cannot be asked."""
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "ANSWER"}]
    try:
        text = apply_template(tokenizer, messages, True, add_generation_prompt=False)
    except ModelError:
        return ""
    return text.rpartition("ANSWER")[2]
