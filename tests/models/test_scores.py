"""Reward models of any architecture give their own scores; ends and context are what their folders say."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    LlamaConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    RobertaConfig,
)

import tiny
from families import SIZES
from heedful.data.tokens import stop_tokens
from heedful.errors import UserError
from heedful.models.limits import NO_LIMIT, context_length
from heedful.models.load import load_tokenizer
from heedful.models.scores import (
    at_last_token,
    masked,
    one_by_one,
    scores_of,
    sequence_scores,
    token_values,
)

RELATIVE = dict(
    relative_attention=True,
    position_biased_input=False,
    pos_att_type=["c2p", "p2c"],
    type_vocab_size=0,
)
ENCODERS = {"deberta-v2": {**RELATIVE, "pooler_hidden_size": 32}, "bert": {}, "roberta": {}}


def classifier(kind: str, **other):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SIZES, "num_labels": 1, **other})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3.0) if p.ndim > 1 else None
    return model


@pytest.mark.parametrize("kind", [*ENCODERS, "llama"])
def test_scores_are_the_models_own(kind):
    """Rows of unlike lengths in a batch, each against the whole forward on it alone.

    Mutation caught: an encoder's head read at the last token, without its pooler, or with padding in sight.
    """
    model = classifier(kind, **ENCODERS.get(kind, {}))
    lengths = torch.tensor([9, 4, 6])
    tokens = torch.randint(5, 97, (3, 9), generator=torch.Generator().manual_seed(1))
    tokens = tokens.masked_fill(torch.arange(9) >= lengths[:, None], 0)
    with torch.no_grad():
        ours = sequence_scores(model, tokens, lengths)
        own = [
            model(input_ids=row[None, :n]).logits.item()
            for row, n in zip(tokens, lengths, strict=True)
        ]
    assert scores_of(model) is (at_last_token if kind == "llama" else masked)
    assert torch.allclose(ours, torch.tensor(own), atol=1e-5)
    if kind != "llama":
        with pytest.raises(UserError, match="a critic is read at every token"):
            token_values(model, tokens, lengths)


def test_scores_that_a_batch_changes_are_taken_one_by_one(caplog):
    """Mutation caught: a batch that is believed; a user who is not told."""
    model = classifier("llama")
    model.score.register_forward_hook(lambda module, given, out: out + (len(out) > 1))
    assert scores_of(model) is one_by_one and "one by one" in caplog.text


def test_every_end_that_the_folder_names_ends_a_response(tmp_path):
    """Mutation caught: a list or a file that is not read; an id kept that is text in this tokenizer."""
    tok = tiny.tokenizer()
    tok.save_pretrained(tmp_path)
    end, pad, user = (tok.convert_tokens_to_ids(t) for t in ("<|end|>", "<|pad|>", "<|user|>"))
    (tmp_path / "config.json").write_text("{}")
    assert stop_tokens(load_tokenizer(tmp_path), "") == (end,)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": user}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, pad, 77]}))
    assert stop_tokens(load_tokenizer(tmp_path), "") == (end, pad, user)


def test_a_window_is_no_context():
    """Mutation caught: a prompt beyond the window refused; a stretched context taken for the short one, or for more."""
    small = {
        k: SIZES[k]
        for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    }

    def context(config) -> int:
        with torch.device("meta"):
            return context_length(AutoModelForSequenceClassification.from_config(config))

    yarn = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 1e4,
    }
    assert context(MistralConfig(**small, sliding_window=8, max_position_embeddings=96)) == 96
    assert context(LlamaConfig(**small, max_position_embeddings=64, rope_parameters=yarn)) == 256
    assert context(LlamaConfig(**small, max_position_embeddings=512, rope_parameters=yarn)) == 512
    assert context(RobertaConfig(**small, max_position_embeddings=66, pad_token_id=1)) == 64
    recurrent = MambaForCausalLM(MambaConfig(vocab_size=97, hidden_size=8, num_hidden_layers=1))
    assert context_length(recurrent) == NO_LIMIT
