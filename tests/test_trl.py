"""The same batch through TRL's own trainers and through ours: losses and gradients agree to 1e-5.

TRL has dropped PPO; its pieces are checked against hand-worked tables and the exact gradient instead.
"""

import pytest
import torch

import tiny
from heedful.data.collate import collate
from heedful.learner.local import LocalLearner, Loss, Optim, predict
from heedful.losses import preference, reward
from heedful.models.load import copy_model, new_reward_model
from heedful.recipes.preference import pair_logps
from heedful.rewards.model import score_forward
from heedful.training.forwards import policy_forward
from heedful.training.rankings import as_table
from heedful.training.supervised import cross_entropy
from heedful.types import Paired, Ranked, Sample

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [
    {"prompt": "What is 2 + 2?", "chosen": " Four, of course.", "rejected": " Five."},
    {"prompt": "The capital of Peru", "chosen": " is Lima.", "rejected": " is a long way off, my friend."},
    {"prompt": "How many legs has a spider?", "chosen": " Eight.", "rejected": " Look it up!"},
    {"prompt": "Who", "chosen": " are you?", "rejected": " cares at all?"},
]  # fmt: skip


@pytest.fixture
def tok():
    return tiny.tokenizer()


def different(model):
    """A policy that has moved away from its reference."""
    twin = copy_model(model).requires_grad_(True)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=g))
    return twin


def arguments(kind, folder, **extra):
    return kind(
        output_dir=str(folder), report_to=[], use_cpu=True, per_device_train_batch_size=4,
        gradient_checkpointing=False, bf16=False, seed=0, disable_tqdm=True, **extra,
    )  # fmt: skip


def samples(ids, mask, group_of) -> list[Sample]:
    """Rows as TRL padded them, back to sequences; its masks decide what the response is."""
    out = []
    for i, (row, attended, completion) in enumerate(zip(ids, *mask, strict=True)):
        n = int(attended.sum())
        real = attended.bool()
        out.append(
            Sample(
                tokens=tuple(row[real].tolist()),
                mask=tuple(completion[real].bool().tolist()),
                logprobs=(0.0,) * n,
                group=group_of(i),
            )
        )
    return out


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(ours, theirs):
    """Each parameter's gradient: a sum over a thousand tokens, of which those of the two sides nearly cancel, so that
    a tenth is left of the terms: 6·10⁻⁸ · √1000 · 10 is 2·10⁻⁵. One that has vanished is measured by all others."""
    assert ours.keys() == theirs.keys()
    whole = torch.cat([g.flatten() for g in theirs.values()]).norm()
    for name in ours:
        size = theirs[name].norm().clamp(min=0.01 * whole)
        assert (ours[name] - theirs[name]).norm() <= 1e-4 * size, name


def our_gradients(model, forward, loss_fn, batch, per):
    """Our learner's gradient before clipping: a step with learning rate 0 and a clip out of reach."""
    learner = LocalLearner(model, forward, Optim(0.0, 1, max_grad_norm=1e9), micro_batch_tokens=64)
    found = {}
    learner.optimizer.step = lambda *a, **k: found.update(gradients(model))
    metrics = learner.step(loss_fn, batch, per=per)
    return metrics["loss"], found


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo(tok, tmp_path, smoothing):
    """Sums over response tokens, end token included, prompt masked; label smoothing is our p < 1.

    TRL has no conservative DPO any more, so its sigmoid loss is taken in both orders and mixed.
    Mutation caught: means in place of sums, a shifted mask, a missing end token.
    """
    from datasets import Dataset

    reference = tiny.policy(tok)
    policy = different(reference)
    theirs = copy_model(policy).requires_grad_(True)
    args = arguments(trl.DPOConfig, tmp_path, beta=0.3, loss_type=["sigmoid"])
    trainer = trl.DPOTrainer(
        model=theirs, ref_model=copy_model(reference), args=args,
        train_dataset=Dataset.from_list(ROWS), processing_class=tok,
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    flipped = {k: torch.cat(v.chunk(2)[::-1]) for k, v in inputs.items()}
    loss = (1 - smoothing) * trainer.compute_loss(theirs, dict(inputs))
    if smoothing:
        loss = loss + smoothing * trainer.compute_loss(theirs, flipped)
    loss.backward()

    half = len(inputs["input_ids"]) // 2
    rows = samples(
        inputs["input_ids"],
        (inputs["attention_mask"], inputs["completion_mask"]),
        lambda i: i % half,
    )
    assert all(s.tokens[-1] == tok.eos_token_id and s.mask[-1] for s in rows)
    base = collate([rows[i + side * half] for i in range(half) for side in (0, 1)])
    ref = predict(reference, policy_forward(), base, 4096).logp.sum(1)
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    batch = Paired(
        **fields, ref_sum=ref, p=torch.full((2 * half,), 1 - smoothing), weight=torch.ones(2 * half)
    )

    def loss_fn(out, b):
        return Loss(preference.dpo(pair_logps(out.logp, b), b.p[0::2], 0.3))

    value, grads = our_gradients(policy, policy_forward(), loss_fn, batch, "group")
    assert value == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    same(grads, gradients(theirs))


def test_reward_model(tok, tmp_path):
    """Bradley–Terry on the score at the last token."""
    from datasets import Dataset

    tiny.policy(tok).save_pretrained(tmp_path / "lm")
    ours = new_reward_model(str(tmp_path / "lm"), seed=0)
    ours.config.pad_token_id = tok.pad_token_id
    theirs = copy_model(ours).requires_grad_(True)
    trainer = trl.RewardTrainer(
        model=theirs, args=arguments(trl.RewardConfig, tmp_path), processing_class=tok,
        train_dataset=Dataset.from_list(ROWS),
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(theirs, dict(inputs))
    loss.backward()
    half = len(inputs["input_ids"]) // 2
    attended = inputs["attention_mask"]
    rows = samples(inputs["input_ids"], (attended, attended), lambda i: i % half)
    base = collate([rows[i + side * half] for i in range(half) for side in (0, 1)])
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    batch = Ranked(
        **fields,
        rank=torch.tensor([1, 2] * half),
        strength=torch.zeros(2 * half),
        weight=torch.ones(2 * half),
    )

    def loss_fn(out, b):
        table, rank, strength = as_table(out.score, b)
        return Loss(reward.bradley_terry(table, rank, strength))

    value, grads = our_gradients(ours, score_forward, loss_fn, batch, "group")
    assert value == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    same(grads, gradients(theirs))


def test_sft(tok, tmp_path):
    """Cross-entropy on completion tokens, one mean over the batch."""
    from datasets import Dataset

    ours = tiny.policy(tok)
    theirs = copy_model(ours).requires_grad_(True)
    data = [{"prompt": r["prompt"], "completion": r["rejected"]} for r in ROWS]
    trainer = trl.SFTTrainer(
        model=theirs, processing_class=tok, train_dataset=Dataset.from_list(data),
        args=arguments(trl.SFTConfig, tmp_path, completion_only_loss=True),
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(theirs, dict(inputs))
    loss.backward()
    attended = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    rows = samples(inputs["input_ids"], (attended, inputs["labels"] != -100), lambda i: i)
    value, grads = our_gradients(ours, policy_forward(), cross_entropy, collate(rows), "token")
    assert value == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    same(grads, gradients(theirs))
