"""A model from a folder or the hub, what every model here must be like, and how it is called.

Nothing that comes with a model is run: no code of its repository, no kernel named in its
configuration, and no pickle, which may hold code too. What sampler and loss rely on is checked at
once, so that a model they would get wrong is refused instead of trained badly. Left out: quantised
weights, adapters, models split over devices.
"""

import functools
import inspect
import math
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from support.memory import memory_advice

PROMPT = 512  # tokens of a prompt, where the data is not known yet


class ModelError(ValueError):
    """A model that cannot be used; the message says why and what to do."""


# --------------------------------------------------------------------------------------------------
# Loading


@memory_advice("loading the model", "Use a smaller one, or --device cpu.")
def load_model(source, device, offload="no"):
    """Model, tokenizer and set of stop ids from a folder or hub id.

    A model whose optimizer is to be on the host (offload is not "no") stays there, too.

    Raises ModelError where it cannot be used.
    """
    model, tokenizer = read_model(source)
    check_template(source, tokenizer)
    check_tokenizer(source, model, tokenizer)
    stop_ids = find_stop_ids(source, model, tokenizer)
    if offload == "no":
        model.to(device)
    if not is_finite(model):
        raise ModelError(
            f"the weights of {source!r} are not finite. Use an earlier checkpoint of it."
        )
    check_projection(model)
    return model, tokenizer, stop_ids


def read_model(source):
    """Model and tokenizer as transformers reads them, without running any code of their own.

    Weights are fp32 from here on; model.file_dtype is the type that they came in, such as bfloat16.
    """
    with reading("load the model", source, "config.json, a tokenizer and model.safetensors"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError("it is an encoder-decoder, and prompts need a decoder-only model")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        file_dtype = config.dtype
        # Whatever the file says: it may name a kernel on the hub, which is code.
        config._attn_implementation = "sdpa"
        model, found = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    if found["missing_keys"]:
        raise ModelError(
            f"the weights of {source!r} are incomplete: {sorted(found['missing_keys'])[0]} is "
            "missing. Fetch the model again."
        )
    model.file_dtype = str(file_dtype or torch.float32).removeprefix("torch.")
    return model, tokenizer


@contextmanager
def reading(what, source, needed):
    """Around what reads a model's files: a ModelError that says what they must be, in a sentence.

    A broken file can make the libraries raise anything.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:500].removesuffix(".") or type(error).__name__
        raise ModelError(
            f"cannot {what} {source!r}: {reason}. Give --model a preset, a hub id, or a folder "
            f"with {needed}."
        ) from None


def read_config(source):
    """The transformers config of a folder or hub id; nothing else of it is read."""
    with reading("read the config of", source, "config.json"):
        return AutoConfig.from_pretrained(source, trust_remote_code=False)


def read_tokenizer(source):
    """The tokenizer of a folder or hub id, without its model."""
    with reading("load the tokenizer of", source, "a tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    check_template(source, tokenizer)
    return tokenizer


def check_template(source, tokenizer):
    """Raises ModelError for a tokenizer that no prompt can be made with."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {source!r} has no chat template, so there is no prompt to append a "
            "thinking block to. Use an instruction-tuned model."
        )


def check_tokenizer(source, model, tokenizer):
    """Raises ModelError for a tokenizer that is not the model's."""
    largest = max(tokenizer.get_vocab().values(), default=0)  # there may be holes below it
    if max(len(tokenizer), largest + 1) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"the tokenizer of {source!r} has tokens up to {largest}, more than its model knows. "
            "Use the tokenizer that the model was trained with."
        )


def find_stop_ids(source, model, tokenizer):
    """The one set of stop ids for sampler, loss and truncation flag.

    Pitfall: a second EOS id. Models often have two, and only the generation config lists both.
    """
    named = []
    for ids in (
        tokenizer.eos_token_id,
        model.config.eos_token_id,
        getattr(model.generation_config, "eos_token_id", None),
    ):
        named += ids if isinstance(ids, list) else [ids]
    named = [number for number in named if number is not None]
    if not all(type(number) is int for number in named):
        raise ModelError(
            f"{source!r} has an eos_token_id that is no number: {named}. Mend its config.json and "
            "generation_config.json."
        )
    stop_ids = set(named)
    if not stop_ids:
        raise ModelError(
            f"{source!r} names no end-of-text token, so no response would ever end. Set "
            "eos_token_id in its generation_config.json."
        )
    return stop_ids


def is_finite(model):
    """Whether the weights, and logits made from them, are finite."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[0, 1]], device=model.device)).logits
        return bool(torch.isfinite(logits.sum() + sum(p.sum() for p in model.parameters())))


def check_projection(model):
    """Raises ModelError if the logits are not hidden @ head.T, as sampler and loss compute them.

    A model that scales, caps or biases its logits would get wrong log-probs silently.
    """
    ids = torch.tensor([[0, 1]], device=model.device)
    with torch.no_grad():
        plain = forward_hidden(model, ids) @ model.get_output_embeddings().weight.T
        if not torch.allclose(model(input_ids=ids).logits, plain, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"{type(model).__name__} does more than one projection from hidden states to "
                "logits, which is not supported."
            )


def find_context(config):
    """Tokens that the model has positions for, all of one kind."""
    context = getattr(config, "max_position_embeddings", None) or math.inf
    return min(context, longest_alike(config)[0])


def longest_alike(config):
    """The length up to which positions are encoded alike; and by which method, if not always.

    Beyond it, these encode *all* positions otherwise: a prompt's keys, cached before, would not fit
    those of the tokens after it, nor the trainer's.
    """
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for settings in (rope, *rope.values()):  # newer configs have one for each kind of layer
        kind = settings.get("rope_type") if isinstance(settings, dict) else None
        if kind in ("longrope", "dynamic"):
            own = settings.get("original_max_position_embeddings")
            whole = getattr(config, "original_max_position_embeddings", None)
            return own or whole or config.max_position_embeddings, kind
    return math.inf, ""


def check_request(model, prompts, max_new_tokens, temperature):
    """Raises ValueError, naming the culprit, for a request that the sampler cannot serve."""
    if max_new_tokens < 1:
        raise ValueError(f"the response budget is {max_new_tokens}; it must be at least 1 token.")
    if temperature < 0:
        raise ValueError(f"the temperature is {temperature}; it must be 0 (greedy) or positive.")
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt is empty; it must have at least 1 token.")
    longest = max(map(len, prompts))
    if longest + max_new_tokens > find_context(model.config):
        limit, kind = longest_alike(model.config)
        what = f"{limit}, beyond which the model encodes all positions otherwise ({kind})"
        if not kind:
            what = f"the model's context of {find_context(model.config)}"
        raise ValueError(
            f"a prompt of {longest} tokens and a budget of {max_new_tokens} exceed {what}; lower "
            "the budget."
        )
    # Where the config lists no layer types, sliding_window decides.
    windows = getattr(model.config, "sliding_window", None)
    kinds = getattr(model.config, "layer_types", None)
    if any(kind != "full_attention" for kind in kinds or []) or (windows and not kinds):
        raise ValueError(
            "the model has sliding-window or linear attention layers, not served here."
        )


# --------------------------------------------------------------------------------------------------
# Calling


def forward_hidden(model, input_ids, cache=None, **inputs):
    """Last hidden states (B, T, H) of a causal LM for ids (B, T), without the (B, T, V) logits.

    cache, if given, holds the keys and values of what came before, and takes those of these tokens.
    """
    if cache is not None:
        inputs[cache_argument(type(model.base_model))] = cache
    outputs = model.base_model(input_ids=input_ids, use_cache=cache is not None, **inputs)
    return outputs.last_hidden_state


@functools.cache
def cache_argument(model_class):
    """What forward calls its cache: `cache` in newer transformers, before `past_key_values`."""
    names = inspect.signature(model_class.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def pad_right(sequences, device):
    """Token-id lists as ids (B, T) int64, padded with 0 on the right, and their lengths (B,)."""
    lengths = [len(sequence) for sequence in sequences]
    ids = np.zeros((len(sequences), max(lengths)), dtype=np.int64)
    for row, sequence in zip(ids, sequences):
        row[: len(sequence)] = sequence
    return torch.from_numpy(ids).to(device), torch.tensor(lengths, device=device)


def autocast(model):
    """The precision of sampling, evaluating and training: on a GPU, matmuls in bf16.

    Weights and optimizer stay in fp32, since an lr of 1e-6 is lost in bf16 weights; where those are
    on the host (offload.py), the working copy is in bf16 itself.
    """
    wanted = model.device.type == "cuda" and model.dtype == torch.float32
    return torch.autocast("cuda", torch.bfloat16) if wanted else nullcontext()


# --------------------------------------------------------------------------------------------------
# Devices


def default_device():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device):
    try:
        if torch.device(device).type not in ("cpu", "cuda", "mps"):
            raise ValueError
        torch.zeros(1, device=device)
    except (RuntimeError, ValueError, AssertionError):
        raise ValueError(
            f"--device {device} cannot be used here. Give cpu, cuda, cuda:1 or mps, whichever this "
            "machine has, or leave it out."
        ) from None
