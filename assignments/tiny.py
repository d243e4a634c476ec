"""A tiny random model for grading tests: 24 tokens, always the same weights."""

import functools

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 24


@functools.cache
def tiny_model(layers=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=128,
            bos_token_id=None,
            eos_token_id=2,
            pad_token_id=0,
            tie_word_embeddings=False,
            initializer_range=0.5,  # predictions are sharp, and depend on content and position
        )
        return Qwen3ForCausalLM(config).eval()
