"""Tiny models of several architectures, made on the spot."""

from __future__ import annotations

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from heedful.models.new import new_model, train_tokenizer

ARCHITECTURES = ("llama", "qwen2", "gpt2")
TEXT = [
    "The capital of France is Paris. What is the capital of Peru? Lima, of course.",
    "How many legs has a spider? Eight. I do not know, ask somebody who cares!",
    "Sums are simple: 2 + 2 = 4, and 3 + 5 = 8. Zwölf Boxkämpfer jagen Viktor.",
]


def causal_lm(arch: str, *, vocab: int = 384, seed: int = 0, context: int = 128) -> PreTrainedModel:
    """Random weights, large enough that distributions are far from uniform and greedy paths do not tie."""
    torch.manual_seed(seed)
    common = dict(vocab_size=vocab, eos_token_id=3, pad_token_id=0, bos_token_id=None)
    if arch == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=context)
        )
    else:
        sizes = dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
        )
        pick = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
        config, cls = pick[arch]
        model = cls(config(**common, **sizes))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0) if p.ndim > 1 else None
    return model.eval()


def tokenizer(vocab: int = 320) -> PreTrainedTokenizerBase:
    """The default byte-level BPE tokenizer with its chat template."""
    return train_tokenizer(TEXT * 4, vocab)


def policy(tok: PreTrainedTokenizerBase, *, seed: int = 0, arch: str = "llama") -> PreTrainedModel:
    """A default small model for a tokenizer."""
    return new_model(arch, tok, hidden_size=32, layers=2, heads=2, context=128, seed=seed)


def prompts(number: int = 12, vocab: int = 384, longest: int = 24) -> list[list[int]]:
    """Token prompts of mixed lengths."""
    g = torch.Generator().manual_seed(5)
    sizes = torch.randint(1, longest, (number,), generator=g).tolist()
    return [torch.randint(4, vocab, (size,), generator=g).tolist() for size in sizes]


def likes_short(prompt, response: str) -> float:
    """A user's reward function."""
    return -0.1 * len(response)


def cue_of_length(heard: str) -> float:
    """A user's own cue."""
    return float(len(heard))
