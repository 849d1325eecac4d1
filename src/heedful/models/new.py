"""A small language model made on the spot: a BPE tokenizer trained on the user's text and random weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from heedful.errors import UserError
from heedful.fast import process

END, PAD = "<|end|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# Every turn, the model's too, closes with <|end|>, which is also what separates documents. Tools are shown in a
# system's turn of their own, calls are written as Hermes does, and what tools answer stands in a user's turn.
CHAT_TEMPLATE = (
    "{%- if tools -%}"
    "{{ '<|system|>Tools:' }}{%- for tool in tools -%}{{ '\n' + (tool | tojson) }}{%- endfor -%}{{ '<|end|>' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'tool' -%}"
    "{%- if loop.first or messages[loop.index0 - 1]['role'] != 'tool' -%}{{ '<|user|>' }}{%- endif -%}"
    "{{ '<tool_response>' + message['content'] + '</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1]['role'] != 'tool' -%}{{ '<|end|>' }}{%- endif -%}"
    "{%- elif message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{ raise_exception('unknown role ' + message['role']) }}"
    "{%- else -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{{ '<tool_call>' + ({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson) "
    "+ '</tool_call>' }}"
    "{%- endfor -%}{{ '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with chat roles; any text round-trips, since its alphabet is the 256 bytes."""
    if vocab_size < 256 + 5:
        raise UserError(f"vocab_size {vocab_size} is too small: 256 bytes and 5 markers need 261")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def new_model(
    arch: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    context: int,
    seed: int,
) -> PreTrainedModel:
    """A Llama- or Qwen2-architecture network with random weights and tied embeddings."""
    if hidden_size % heads:
        raise UserError(f"hidden_size {hidden_size} is not a multiple of heads {heads}")
    sizes = dict(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kinds = {"llama": "Llama", "qwen2": "Qwen2"}
    if arch not in kinds:
        raise UserError(f"arch must be one of {', '.join(kinds)}, not '{arch}'")
    # By name: transformers then imports this one architecture.
    config_class = getattr(transformers, f"{kinds[arch]}Config")
    model_class = getattr(transformers, f"{kinds[arch]}ForCausalLM")
    process.tune()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config_class(**sizes)).eval()
