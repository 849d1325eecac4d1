"""What is most often wrong in RLHF code, trap by trap; those of single functions stand in the tests of their rooms.

Elsewhere: temperature and top-p in every log-prob, tests/engine · padding, pad ids, last token, packing,
tests/models · GAE, whitening, score added once, k1 unclamped, tests/losses · DPO at ln 2, gold unseen,
tests/recipes · margins, invented heads, unknown keys, tests/test_bad_input.
"""

import asyncio
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, PreTrainedTokenizerFast

import tiny
from heedful.configs.algorithm import algorithm
from heedful.data.collate import collate, in_rows, pack
from heedful.data.tokens import (
    decode_response,
    encode_example,
    encode_prompt,
    end_token,
    stop_tokens,
)
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.learner.local import LocalLearner, Loss, Optim
from heedful.losses.policy import ppo_clip
from heedful.losses.preference import dpo
from heedful.models.forward import lm_head
from heedful.recipes import sft
from heedful.recipes.preference import pair_logps
from heedful.rollout import rollout, tasks
from heedful.training.actors import policy_forward
from heedful.training.estimates import estimate, rollout_metrics
from heedful.training.policy_losses import KLController
from heedful.training.supervised import saver
from heedful.types import Message, Paired, Sample, Sampling

PLAIN = Sampling()
CHAT = (Message("user", "What is 2 + 2?"),)


def rolled(sampling=PLAIN, max_tokens=12, n=2):
    tok = tiny.tokenizer()
    model = tiny.policy(tok)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3.0) if p.ndim > 1 else None
    prompts = [CHAT, (Message("user", "Why?"),), (Message("user", "How many legs has a spider?"),)]
    todo = tasks(tok, prompts)
    samples = asyncio.run(
        rollout(
            LocalEngine(model), todo, tok, n=n, max_tokens=max_tokens, sampling=sampling, seed=1
        )
    )
    return tok, model, todo, samples


# ── probabilities ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.arithmetic
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6), Sampling(1.2, 0.7)], ids=str)
def test_1_the_first_ratio_is_one(sampling):
    """Mutation caught: `policy_forward` without the temperature or without the top-p mask."""
    _, model, _, samples = rolled(sampling)
    batch = collate(samples)
    with torch.no_grad():
        ratio = torch.exp(policy_forward(sampling)(model, batch).logp - batch.old_logp)[batch.mask]
    assert (ratio - 1).abs().max() < 1e-4


def test_2_sampled_ids_are_kept():
    """Mutation caught: decoding a response and encoding it again for the update.

    Random weights sample byte sequences that BPE would merge otherwise: re-encoding changes the ids.
    """
    tok, _, todo, samples = rolled(max_tokens=24, n=8)
    changed = 0
    for sample in samples:
        task = todo[sample.group]
        start = len(task.tokens)
        assert sample.tokens[:start] == task.tokens
        assert not any(sample.mask[:start]) and all(sample.mask[start:])
        written = list(sample.tokens[start:])
        changed += (
            tok(decode_response(tok, written), add_special_tokens=False)["input_ids"] != written
        )
    assert changed > len(samples) // 2


def test_2_prompt_and_response_meet_as_ids():
    """The masked span decodes to the response, though joined text would merge across the seam.

    Mutation caught: encoding prompt + response as one string and cutting it by the prompt's length.
    """
    tok = tiny.tokenizer()
    for prompt, response in [
        ("The capital of Fr", "ance is Paris."),
        (CHAT, "Four"),
        ("a", "  b\n"),
    ]:
        sample = encode_example(tok, prompt, response)
        span = [t for t, m in zip(sample.tokens, sample.mask, strict=True) if m]
        assert decode_response(tok, span) == response
        assert span[-1] == tok.eos_token_id
        before = [t for t, m in zip(sample.tokens, sample.mask, strict=True) if not m]
        assert before == encode_prompt(tok, prompt)


def with_bos(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer that adds BOS and EOS by itself, as some do, under a template that writes BOS too."""
    vocab = {"<s>": 0, "</s>": 1, "<|im_end|>": 2, **{chr(c): c for c in range(32, 127)}}
    vocab |= {f"<unused{i}>": i for i in range(3, 32)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(["<s>", "</s>", "<|im_end|>"])
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<|im_end|>"], chat_template=template,
    )  # fmt: skip


TEMPLATE = (
    "<s>{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def test_2_exactly_one_bos_and_no_eos_before_the_response():
    """Mutation caught: BOS from the template *and* from the tokenizer; an EOS between prompt and response."""
    tok = with_bos(TEMPLATE)
    for prompt in (CHAT, "plain text", "<s>text that brings its own"):
        ids = encode_prompt(tok, prompt)
        assert ids[0] == 0 and ids.count(0) == 1 and ids.count(1) == 0
        sample = encode_example(tok, prompt, "Four")
        assert sample.tokens.count(0) == 1


def test_3_a_chat_turn_ends_as_the_template_ends_it():
    """Mutation caught: eos at the end of a chat response although the template closes turns otherwise."""
    tok = with_bos(TEMPLATE)
    assert end_token(tok, CHAT) == 2 and end_token(tok, "plain") == 1
    assert stop_tokens(tok, CHAT) == (2, 1)
    assert encode_example(tok, CHAT, "Four").tokens[-1] == 2


def test_3_other_programs_stop_where_sampling_stops(tmp_path, caplog):
    """eos, the template's end of a turn, and what the base stopped at, if it is special in this tokenizer.

    Mutation caught: eos alone in generation_config.json, past which plain transformers writes on.
    """
    tok, model = with_bos(TEMPLATE), tiny.policy(tiny.tokenizer())
    model.generation_config.eos_token_id = [0, 65, 99999]
    config = sft.Config(model="m", data="d", out=tmp_path)
    learner = LocalLearner(model, policy_forward(), Optim(0.0, 1))
    saver(learner, tok, config)()(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [1, 2, 0]
    assert set(stop_tokens(tok, CHAT)) <= {1, 2, 0}
    assert "stops at 99999, which the tokenizer of" in caplog.text


def test_3_truncated_is_not_terminated():
    """Mutation caught: a made-up end token after a cut, in data and in samples alike."""
    tok, _, todo, samples = rolled(max_tokens=5, n=6)
    cut = [s for s in samples if s.stop_reason == "length"]
    assert cut
    for s in samples:
        assert (s.tokens[-1] in todo[s.group].stop) == (s.stop_reason == "stop")
    whole = encode_example(tok, CHAT, "Four, of course")
    short = encode_example(tok, CHAT, "Four, of course", max_length=len(whole.tokens) - 1)
    assert short.stop_reason == "length" and short.tokens[-1] != tok.eos_token_id
    with pytest.raises(UserError, match="no room"):
        encode_example(tok, CHAT, "Four", max_length=len(encode_prompt(tok, CHAT)))


def two_rows(cut_second: bool, reward=(1.0, 1.0)):
    rows = [
        Sample((9, 3, 5, 6), (False, False, True, True), (0, 0, -1.0, -1.0), reward[0], 0, 0, "stop"),
        Sample((3, 9, 5, 7), (False, False, True, True), (0, 0, -1.0, -1.0), reward[1], 1, 0,
               "length" if cut_second else "stop"),
    ]  # fmt: skip
    return collate(rows)


def test_3_at_a_cut_the_value_bootstraps():
    """λ=1: returns of a cut response are V(after the cut) − penalty; of an ended one its score.

    Mutation caught: V = 0 at a cut, the score of a stump added as well, a penalty that looks for eos (3)
    anywhere in the row, the prompt included.
    """
    batch = two_rows(cut_second=True)
    values = torch.full((2, 4), 0.25)
    scored = estimate(
        algorithm(missing_eos_penalty=0.5, lam=1.0), batch, batch.old_logp, values, 0.1, 48
    )
    assert torch.allclose(scored.returns[0][scored.mask[0]], torch.tensor(1.0))
    assert torch.allclose(scored.returns[1][scored.mask[1]], torch.tensor(0.25 - 0.5))
    as_task = algorithm(missing_eos_penalty=0.5, lam=1.0, truncated="score")
    scored = estimate(as_task, batch, batch.old_logp, values, 0.1, 48)
    assert torch.allclose(scored.returns[1][scored.mask[1]], torch.tensor(1.0 - 0.5))


def test_5_packing_keeps_documents_apart():
    """Mutation caught: a prediction from the last token of a document to the first of the next."""
    rows = pack([*in_rows([[5, 6, 7], [8], [9, 10]], 8, eos=1)], 8, eos=1)
    assert rows.tokens.tolist() == [[5, 6, 7, 1, 8, 1, 1, 1], [9, 10, 1, 1, 1, 1, 1, 1]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2, 3, 4]]
    assert rows.mask.long().tolist() == [[1, 1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0]]


# ── rewards and KL ───────────────────────────────────────────────────────────────────────────────


def test_6_the_reported_kl_is_the_charged_one():
    """Σ rewards = score − β·kl/seq, exactly. Mutation caught: a second estimator, or tokens in place of sequences."""
    batch = two_rows(cut_second=False, reward=(2.0, -1.0))
    ref = (batch.old_logp - torch.tensor([[0, 0.5, -0.2], [0, 0.1, 0.4]])) * batch.mask
    zero = torch.zeros(2, 4)
    scored = estimate(algorithm(lam=1.0), batch, ref, zero, 0.3, 48)
    metrics = rollout_metrics(algorithm(), scored, 0.3, batch.mask, 48)
    first = scored.returns[
        :, 1
    ]  # V = 0, γ = λ = 1: the return at the first token is the sum of rewards
    assert metrics["kl/seq"] == pytest.approx((0.3 + 0.5) / 2)
    assert metrics["kl/token"] == pytest.approx((0.3 + 0.5) / 4)
    assert first.mean().item() == pytest.approx(metrics["reward"] - 0.3 * metrics["kl/seq"])
    assert metrics["reward/penalised"] == pytest.approx(first.mean().item())


def test_8_adaptive_beta_is_bounded():
    """β(1 + clip(KL/target − 1, ±0.2)·n/horizon), in nats per response. Mutation caught: no bound, no clip."""

    def after(beta: float, kl: float) -> float:
        c = KLController(beta, target=6.0, horizon=1000)
        c.update(kl, responses=100)
        return c.beta

    assert after(0.1, 60.0) == pytest.approx(0.1 * 1.02)
    assert after(0.1, 0.0) == pytest.approx(0.1 * 0.98)
    assert after(0.1, 6.6) == pytest.approx(0.1 * 1.01)
    assert after(10.0, 1e9) == 10.0 and after(1e-4, 0.0) == 1e-4


# ── updates ──────────────────────────────────────────────────────────────────────────────────────


def test_11_returns_are_unwhitened_advantages_plus_values():
    """Mutation caught: returns from whitened advantages; moments over padding."""
    batch = two_rows(cut_second=False, reward=(2.0, -1.0))
    values = torch.tensor([[9.0, 0.5, 0.1, 9.0], [9.0, -0.3, 0.2, 9.0]])
    scored = estimate(algorithm(lam=1.0), batch, batch.old_logp, values, 0.1, 48)
    assert torch.allclose(scored.returns[:, 1:], torch.tensor([[2.0, 2.0], [-1.0, -1.0]]))
    inside = scored.adv[scored.mask]
    assert abs(inside.mean()) < 1e-6 and inside.std(correction=0).item() == pytest.approx(
        1, abs=1e-4
    )
    assert scored.adv[~scored.mask].abs().sum() == 0


def ragged(n=9):
    g = torch.Generator().manual_seed(2)
    rows = []
    for i in range(n):
        size = int(torch.randint(3, 30, (1,), generator=g))
        ids = torch.randint(4, 320, (size,), generator=g).tolist()
        mask = [False, *(bool(x) for x in torch.rand(size - 1, generator=g) < 0.7)]
        mask[-1] = True
        rows.append(Sample(tuple(ids), tuple(mask), (-1.0,) * size, group=i))
    return rows


@pytest.mark.arithmetic
def test_12_micro_batches_padding_and_order_change_no_gradient():
    """Within 1e-6, in float64. Mutation caught: the mean of the micro-batches' means, which weighs short rows more."""
    rows = ragged()
    found = []
    for size, order, pad in ((1, 1, 0), (40, 1, 7), (10**6, -1, 3)):
        torch.manual_seed(0)
        model = tiny.policy(tiny.tokenizer()).double()
        batch = collate(rows[::order], pad_id=pad)
        adv = torch.tensor([(r.tokens[0] % 7) - 3.0 for r in rows[::order]])[:, None]
        forward = policy_forward(Sampling())
        learner = LocalLearner(
            model, forward, Optim(0.0, 1, max_grad_norm=1e9), micro_batch_tokens=size
        )
        grads: list[torch.Tensor] = []
        learner.optimizer.step = lambda *a, m=model, g=grads, **k: g.extend(
            p.grad.clone() for p in m.parameters()
        )
        advantages = dict(zip(batch.group.tolist(), adv.flatten().tolist(), strict=True))

        def loss(out, b, advantages=advantages):
            a = torch.tensor([advantages[g] for g in b.group.tolist()])[:, None]
            return Loss(ppo_clip(out.logp, b.old_logp, a.expand_as(out.logp)))

        learner.step(loss, batch)
        found.append(grads)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert (a - b).abs().max() <= 1e-6 * a.abs().max() + 1e-12


def test_13_a_shared_beginning_has_no_dpo_gradient():
    """Both responses start with the same tokens: at those positions the logits' gradient is exactly zero.

    Mutation caught: prompts encoded separately for each side, sequence log-probs as means.
    """
    tok = tiny.tokenizer()
    model = tiny.policy(tok)
    rows = [
        replace(encode_example(tok, CHAT, text), group=0)
        for text in ("Four, of course!", "Four, of shoes and ships.")
    ]
    base = collate(rows)
    shared = 0
    while rows[0].tokens[shared] == rows[1].tokens[shared]:
        shared += 1
    first = rows[0].mask.index(True)
    assert shared > first  # some response tokens are shared, not only the prompt
    states = model.base_model(input_ids=base.tokens[:, :-1]).last_hidden_state
    logits = lm_head(model)(states).detach()
    logits[1, : shared - 1] = logits[0, : shared - 1]  # they are, but for a product's rounding
    logits.requires_grad_(True)
    logp = torch.log_softmax(logits, -1).gather(2, base.tokens[:, 1:, None]).squeeze(2) * base.mask
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    batch = Paired(**fields, ref_sum=logp.detach().sum(1), p=torch.ones(2), weight=torch.ones(2))
    dpo(pair_logps(logp, batch), torch.ones(1), 0.1).sum().backward()
    assert logits.grad is not None
    both = logits.grad[0] + logits.grad[1]
    assert both[first - 1 : shared - 1].abs().max() == 0
    assert both[shared - 1].abs().max() > 0
