"""Value heads: what they give, that they are saved beside a policy, and that sampling listens to them."""

from __future__ import annotations

import asyncio

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny
from heedful.data.collate import collate
from heedful.engine import load_engine
from heedful.errors import UserError
from heedful.models.forward import token_logps
from heedful.models.load import load_policy
from heedful.models.save import VALUES_FILE, save_model
from heedful.models.values import ValueHeads, add_value_heads, load_steered, value_outputs
from heedful.types import Sample, Sampling

TOK = tiny.tokenizer()


def batch():
    tokens = ((5, 9, 11, 4, 7), (6, 8, 10))
    masks = ((False, True, True, False, True), (False, True, True))
    return collate([Sample(t, m, (0.0,) * len(t)) for t, m in zip(tokens, masks, strict=True)])


def with_heads(arch="llama", beta=2.0):
    model = (
        tiny.policy(TOK, arch=arch) if arch != "gpt2" else tiny.causal_lm("gpt2", vocab=len(TOK))
    )
    heads = add_value_heads(model, seed=3, beta=beta)
    with torch.no_grad():  # so that Qs, targets and both of each differ
        for i, p in enumerate(heads.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model, heads


def plain_values(model, heads, row: torch.Tensor):
    """min Q̂ − V `[T, V]` after every token of a row, by plain transformers."""
    h = model(input_ids=row[None], output_hidden_states=True).hidden_states[-1][0]
    return torch.minimum(heads.target1(h), heads.target2(h)) - heads.v(h)


@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
@torch.no_grad()
def test_values_are_of_the_tokens_that_were_written(arch):
    """Against the heads on plain transformers' states. Mutation caught: a column too far, Q of another token, the other
    Q, the larger target, V of the state behind the token."""
    model, heads = with_heads(arch)
    b = batch()
    out = value_outputs(model, b.tokens, b.mask)
    for row in range(2):
        ids = b.tokens[row][: b.lengths[row]]
        h = model(input_ids=ids[None], output_hidden_states=True).hidden_states[-1][0]
        for t in b.mask[row].nonzero().flatten().tolist():
            y = ids[t + 1]
            q1, q2, v = heads.q1(h[t]), heads.q2(h[t]), heads.v(h[t])
            expected = {
                "logp": model(input_ids=ids[None]).logits[0, t].log_softmax(-1)[y], "v": v[0],
                "q1": q1[y], "q2": q2[y], "chosen1": q1.log_softmax(-1)[y], "chosen2": q2.log_softmax(-1)[y],
                "target": min(heads.target1(h[t])[y], heads.target2(h[t])[y]),
            }  # fmt: skip
            for name, value in expected.items():
                assert torch.allclose(out[name][row, t], value, atol=1e-5), name
        assert not any(x[row][~b.mask[row]].any() for x in out.values())


def test_targets_follow_and_are_not_trained():
    """Polyak by hand: 0 + ¼·(1 − 0). Mutation caught: targets among what the optimiser moves; α and 1 − α exchanged."""
    heads = ValueHeads(4, 6, 1.0)
    trained = {name.split(".")[0] for name, p in heads.named_parameters() if p.requires_grad}
    assert trained == {"q1", "q2", "v"}
    with torch.no_grad():
        for p in (*heads.q1.parameters(), *heads.q2.parameters()):
            p.fill_(1.0)
        for p in (*heads.target1.parameters(), *heads.target2.parameters()):
            p.zero_()
    heads.follow(0.25)
    assert all((p == 0.25).all() for p in heads.target1.parameters())
    assert all((p == 0.25).all() for p in heads.target2.parameters())
    assert all((p == 1.0).all() for p in heads.q1.parameters())


@pytest.fixture
def folder(tmp_path):
    model, heads = with_heads()
    save_model(model, TOK, tmp_path)
    return tmp_path, model, heads


def test_the_folder_is_the_policy_to_others(folder):
    """Mutation caught: heads among the model's weights, which transformers would warn of and drop."""
    path, model, _ = folder
    plain, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["missing_keys"]
    ids = batch().tokens[:1]
    assert torch.equal(plain(ids).logits, model(ids).logits)
    assert torch.equal(load_policy(path)(ids).logits, model(ids).logits)
    kept = load_file(path / VALUES_FILE)
    assert {name.split(".")[0] for name in kept} == {"target1", "target2", "v"}


@pytest.mark.parametrize("beta", [None, 0.0, 7.0])
@torch.no_grad()
def test_a_steered_policy_is_logits_and_values(folder, beta):
    """log π ∝ logits + β(min Q̂ − V), in the model's own forward and in what a learner reads; the engine samples from
    it. β is what it was trained with where none is given. Mutation caught: β twice or not at all, an engine that goes
    by the output layer's weights."""
    path, model, heads = folder
    steered, b = load_steered(str(path), beta=beta), batch()
    row = b.tokens[0]
    weight = heads.beta if beta is None else beta
    expected = (model(row[None]).logits[0] + weight * plain_values(model, heads, row)).log_softmax(
        -1
    )
    assert torch.allclose(steered(row[None]).logits[0].log_softmax(-1), expected, atol=1e-4)
    logps = token_logps(steered, b.tokens, b.mask)[0]
    own = expected[:-1].gather(1, row[1:, None]).squeeze(1)
    assert torch.allclose(logps, own * b.mask[0], atol=1e-4)
    how = dict(n=4, max_tokens=5, sampling=Sampling(), stop=(), seed=1)
    for said in asyncio.run(load_engine(steered).generate(row.tolist(), **how)):
        whole = torch.tensor([*row.tolist(), *said.tokens])
        values = (
            model(whole[None]).logits[0] + weight * plain_values(model, heads, whole)
        ).log_softmax(-1)
        places = range(len(row) - 1, len(whole) - 1)
        assert torch.allclose(
            torch.stack([values[t, whole[t + 1]] for t in places]),
            torch.tensor(said.logprobs),
            atol=1e-3,
        )


def test_what_is_no_value_is_told(folder, tmp_path_factory):
    """Mutation caught: a β that nobody reads, heads of another model."""
    path, *_ = folder
    other = tmp_path_factory.mktemp("other")
    save_model(tiny.policy(TOK), TOK, other)
    assert load_steered(str(other)) is not None
    with pytest.raises(UserError, match="has no values; `heedful train ilql` learns them"):
        load_steered(str(other), beta=1.0)
    (other / VALUES_FILE).write_bytes((path / VALUES_FILE).read_bytes()[:-9])
    with pytest.raises(UserError, match="holds no values of this model"):
        load_steered(str(other))
    assert load_steered(str(other), beta=0.0) is not None
