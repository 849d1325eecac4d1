"""Judgments into batches, what a loss reads of a whole batch, and the recipe on every kind of data."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import tiny
from changed import changed
from heedful import registry
from heedful.cli import main
from heedful.data.collate import collate
from heedful.data.files import write_rows
from heedful.data.sources import read_unpaired, stream_comparisons
from heedful.data.tokens import encode_group
from heedful.learner.local import LocalLearner, Optim, predict
from heedful.losses.preference import dpo
from heedful.models.forward import lm_head
from heedful.models.load import copy_model
from heedful.recipes import preference
from heedful.training.forwards import policy_forward
from heedful.training.judgments import (
    VIEWS,
    Mismatched,
    Prepared,
    RunningMean,
    as_batch,
    judgments,
    loss_of,
    with_reference,
)
from heedful.training.kept import Judgment
from heedful.training.objective import find_objective
from heedful.training.rankings import ranked
from heedful.training.reference_sums import reference_sums
from heedful.training.rows import parts_of, read, sequences
from heedful.types import Comparison, LabelledResponse, Message, Outputs, Sample

CHAT = (Message("user", "What is 2 + 2?"),)
ANSWERS = ["Four, of course!", "Four, of shoes and ships.", "Four, of us", "Five."]


@pytest.fixture(scope="module")
def tok():
    return tiny.tokenizer()


def sample(prompt, response, **other) -> Sample:
    n = len(prompt) + len(response)
    mask = (False,) * len(prompt) + (True,) * len(response)
    return Sample((*prompt, *response), mask, (0.0,) * n, **other)


A, B, C, D = (sample((1, 2), (k, 9)) for k in (3, 4, 5, 6))


def test_pairs_of_a_ranking_with_ties():
    """Mutation caught: a tie among four as a pair, the worse one first, p of a tie that is smoothed."""
    found = judgments("PairLogps", [A, B, C, D], (3, 1, 1, 2), 0.9, "all")
    assert [j.samples for j in found] == [(B, D), (B, A), (C, D), (C, A), (D, A)]
    assert {j.labels for j in found} == {(0.9, 0.9)}
    (one,) = judgments("PairLogps", [A, B, C, D], (3, 1, 1, 2), 0.9, "best_worst")
    assert one.samples == (B, A)
    assert judgments("PairLogps", [A, B], (1, 1), 0.9, "all") == [Judgment((A, B), (0.5, 0.5))]


def test_thumbs_and_rankings_of_a_ranking():
    thumbs = judgments("LabelledLogps", [A, B, C, D], (3, 1, 1, 2), 1.0, "all")
    assert thumbs == [Judgment((B,), (1.0,)), Judgment((C,), (1.0,)), Judgment((A,), (0.0,))]
    assert judgments("LabelledLogps", [A, B], (1, 1), 1.0, "all") == []
    (whole,) = judgments("RankedLogps", [A, B, C], (2, 1, 1), 1.0, "all")
    assert whole == Judgment((B, C, A), (1.0, 1.0, 2.0))


def test_equal_responses_are_one():
    """An engine may write the same twice. Mutation caught: a pair of a response with itself."""
    again = replace(A, reward=2.0, group=5)
    assert judgments("PairLogps", [A, again], (1, 2), 1.0, "all") == []
    (pair,) = judgments("PairLogps", [A, again, B], (3, 1, 2), 1.0, "all")
    assert pair.samples == (again, B)


def test_groups_of_rows_can_be_taken_in_any_order_and_twice():
    """Mutation caught: rows of a ranking parted, group numbers that repeat, so that two count as one."""
    judged = [Judgment((A, B, C), (1.0, 2.0, 2.0)), Judgment((D, A), (1.0, 2.0))]
    objective = find_objective("plackett_luce_dpo")
    prepared = Prepared(judged, (), {A: -1.0, B: -2.0, C: -3.0, D: -4.0})
    part = prepared.take([1, 0, 1], objective, None, RunningMean())  # type: ignore[arg-type]
    assert part.ref_sum.tolist() == [-4, -1, -1, -2, -3, -4, -1]
    assert part.group.tolist() == [0, 0, 1, 1, 1, 2, 2]
    x = VIEWS["RankedLogps"](torch.ones(7, 3) * part.mask, part)
    assert x.rank.tolist() == [[1, 2, 0], [1, 2, 2], [1, 2, 0]]
    assert x.ref_logp.tolist() == [[-4, -1, 0], [-1, -2, -3], [-4, -1, 0]]
    assert x.lengths.tolist() == [[2, 2, 0], [2, 2, 2], [2, 2, 0]]


def test_mismatched_responses_answer_other_prompts():
    """Mutation caught: a row's own prompt, prompt tokens that count as written, no limit."""
    rows = [sample((k,), (10 * k, 9)) for k in (1, 1, 2, 3)]
    for seed in range(5):
        for row, other in zip(rows, Mismatched(rows, rows, 99, seed), strict=True):
            assert other.tokens[0] == row.tokens[0]
            assert other.tokens[1] in {10, 20, 30} - {10 * row.tokens[0]}
            assert other.mask == (False, True, True)
    assert {len(s.tokens) for s in Mismatched(rows, rows, 2, 0)} == {2}
    with pytest.raises(Exception, match="one prompt only"):
        Mismatched(rows[:2], rows[:2], 99, 0)


# ── trap 13 ──────────────────────────────────────────────────────────────────────────────────────

CANCEL = {
    "dpo",
    "robust",
    "rso",
    "slic",
    "exo",
    "plackett_luce_dpo",
}  # read differences of sums only


@pytest.mark.parametrize(
    "name", [n for n in registry.entries("loss") if find_objective(n).reads != "LabelledLogps"]
)
def test_a_shared_beginning_has_no_gradient(tok, name):
    """Responses begin with the same tokens: the logits' gradient there is zero, exactly so for pairs.

    Not for losses that average over lengths, or that count the two sides differently; the test says which.
    Mutation caught: prompts encoded for each side, means in place of sums, a reference missing on one side.
    """
    model, objective = tiny.policy(tok), find_objective(name, (), 0.05)
    number = 3 if objective.reads == "RankedLogps" else 2
    rows = encode_group(tok, CHAT, ANSWERS[:number][::-1])  # so that the hinges are not satisfied
    labels = (1.0, 2.0, 3.0) if number == 3 else (1.0, 1.0)
    batch = as_batch(objective.reads, [Judgment(tuple(rows), labels)], {})
    shared = min(map(len, (r.tokens for r in rows)))
    shared = next(t for t in range(shared) if len({r.tokens[t] for r in rows}) > 1)
    first = rows[0].mask.index(True)
    assert shared > first and len({len(r.tokens) for r in rows}) == number
    tokens = batch.tokens
    states = model.base_model(input_ids=tokens[:, :-1]).last_hidden_state
    logits = lm_head(model)(states).detach()
    logits[1:, : shared - 1] = logits[0, : shared - 1]  # they are, but for a product's rounding
    logits.requires_grad_(True)
    logp = torch.log_softmax(logits, -1).gather(2, tokens[:, 1:, None]).squeeze(2) * batch.mask
    batch = replace(batch, ref_sum=logp.detach().sum(1) - 40 * torch.arange(0.0, number))
    loss_of(objective)(Outputs(logp=logp), batch).value.sum().backward()
    assert logits.grad is not None
    together = logits.grad.sum(0)
    before, after = together[first - 1 : shared - 1].abs().max(), together[shared - 1].abs().max()
    if name in CANCEL:
        assert before <= (1e-7 if number == 3 else 0.0)
    else:
        assert before > 1e-5
    assert after > 1e-4


def test_plackett_luce_of_two_is_dpo(tok):
    """The same rows through both ways. Mutation caught: rank and label exchanged, rows out of order."""
    pair = encode_group(tok, CHAT, ANSWERS[:2])
    sums = dict(zip(pair, (-3.0, -5.0), strict=True))
    logp = collate(pair).mask * -0.7
    ranked = as_batch("RankedLogps", [Judgment(tuple(pair), (1.0, 2.0))], sums)
    paired = as_batch("PairLogps", [Judgment(tuple(pair), (1.0, 1.0))], sums)
    ours = loss_of(find_objective("plackett_luce_dpo", (), 0.3))(Outputs(logp=logp), ranked).value
    theirs = dpo(VIEWS["PairLogps"](logp, paired), torch.ones(1), 0.3)
    assert torch.allclose(ours, theirs)


# ── the whole batch ──────────────────────────────────────────────────────────────────────────────


def labelled(tok, number=7) -> list[Judgment]:
    prompts = [(Message("user", f"What is {n} + {n}?"),) for n in range(number)]
    rows = [encode_group(tok, p, [ANSWERS[n % 4]])[0] for n, p in enumerate(prompts)]
    return [Judgment((s,), (float(n % 3 > 0),)) for n, s in enumerate(rows)]


def moved(model, size=0.03):
    twin = copy_model(model).requires_grad_(True)
    g = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(size * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return twin


def with_gradients(model, objective, prepared, groups, tokens):
    """The gradient and the metrics of one step."""
    learner = LocalLearner(
        model, policy_forward(), Optim(0.0, 1, max_grad_norm=1e9), micro_batch_tokens=tokens
    )
    found = []
    learner.optimizer.step = lambda *a, **k: found.extend(
        p.grad.clone() for p in model.parameters()
    )
    batch = prepared.take(groups, objective, learner, RunningMean())
    metrics = learner.step(loss_of(objective), batch, per="group")
    return found, metrics, batch


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["kto", "bco", "0.5*kto+bco", "apo_zero_unpaired"])
def test_micro_batches_change_no_gradient(tok, name):
    """Up to float32's rounding of a response's log-probs, of size 50.

    Mutation caught: z₀, δ or the share of labels from each micro-batch, a clamp of each row.
    """
    reference, objective = tiny.policy(tok).double(), find_objective(name, (), 0.2)
    judged, groups = labelled(tok), [5, 2, 0, 3, 1, 6, 4]
    rows = [s for j in judged for s in j.samples]

    def sums_of(samples):
        return reference_sums(reference, policy_forward(), samples, 10**6)

    prepared = with_reference(objective, sums_of, judged, rows, 128, 0)
    results = []
    for tokens in (1, 60, 10**6):
        results.append(with_gradients(moved(reference), objective, prepared, groups, tokens))
    for grads, metrics, batch in results[1:]:
        for a, b in zip(results[0][0], grads, strict=True):
            assert (a - b).abs().max() <= 1e-5 * a.abs().max()
        assert metrics == pytest.approx(results[0][1], rel=1e-4, abs=1e-5)
        assert torch.allclose(batch.kl, results[0][2].kl)
    assert ("kto" in name) == (results[0][2].kl.abs().max() > 0)
    assert ("bco" in name) == (results[0][2].delta.abs().max() > 0)


def test_kl_delta_and_metrics_by_hand(tok):
    """z₀ is max(0, the mean over mismatched rows), δ the middle of the class means, rewards means of a class.

    Mutation caught: z₀ on the batch's own rows, clamped before the mean; δ as the mean over all rows; a mean
    over all rows where only the liked count.
    """
    policy, objective = tiny.policy(tok), find_objective("kto+bco", (), 0.2)
    reference = moved(policy)  # this way round the estimate is above 0
    judged = labelled(tok)
    rows = [s for j in judged for s in j.samples]
    others = Mismatched(rows, rows, 128, 0)
    sums = [
        reference_sums(m, policy_forward(), [*rows, *others], 10**6) for m in (policy, reference)
    ]
    ratio = {s: sums[0][s] - sums[1][s] for s in [*rows, *others]}
    prepared = with_reference(objective, lambda _: sums[1], judged, rows, 128, 0)
    _, metrics, batch = with_gradients(policy, objective, prepared, list(range(7)), 50)
    liked = [ratio[s] for s, n in zip(rows, range(7), strict=True) if n % 3]
    other = [ratio[s] for s, n in zip(rows, range(7), strict=True) if n % 3 == 0]
    z = sum(ratio[s] for s in others) / 7
    assert z > 0 and min(ratio[s] for s in others) < 0
    middle = 0.2 * (sum(liked) / 4 + sum(other) / 3) / 2
    assert batch.kl.tolist() == pytest.approx([z] * 7, abs=1e-4)
    assert batch.delta.tolist() == pytest.approx([middle] * 7, abs=1e-4)
    assert metrics["rewards/chosen"] == pytest.approx(0.2 * sum(liked) / 4, abs=1e-4)
    assert metrics["rewards/rejected"] == pytest.approx(0.2 * sum(other) / 3, abs=1e-4)
    margin = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    assert metrics["rewards/margins"] == pytest.approx(margin, abs=1e-6)
    where = 0.2 * z + middle
    right = sum(0.2 * x > where for x in liked) + sum(0.2 * x < where for x in other)
    assert metrics["rewards/accuracies"] == pytest.approx(right / 7)


def test_the_running_mean():
    mean = RunningMean()
    assert [mean.add(x) for x in (2.0, 4.0, -3.0)] == [2.0, 3.0, 1.0]


def test_the_reference_is_asked_once_for_each_response(tok):
    """Four ranked responses are six pairs of twelve rows, and four sequences."""
    seen = []

    def forward(model, batch):
        seen.append(len(batch.tokens))
        return policy_forward()(model, batch)

    samples = encode_group(tok, CHAT, ANSWERS)
    pairs = judgments("PairLogps", samples, (1, 2, 3, 4), 1.0, "all")
    rows = [s for j in pairs for s in j.samples]
    model = tiny.policy(tok)
    sums = reference_sums(model, forward, rows, 10**6)
    assert len(rows) == 12 and sum(seen) == 4
    plain = predict(model, policy_forward(), collate(rows), 10**6).logp.sum(1)
    assert [sums[s] for s in rows] == pytest.approx(plain.tolist(), abs=1e-4)


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def write(path: Path, *rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_unpaired_from_single_responses_and_from_comparisons(tmp_path):
    chat = [{"role": "user", "content": "Hm?"}]
    said = [{"role": "assistant", "content": "Aha."}]
    data = write(
        tmp_path / "d.jsonl",
        {"prompt": "Hm?", "completion": " Aha.", "label": True},
        {"prompt": chat, "completion": said, "label": 0},
        {"prompt": "Hm?", "chosen": "yes", "rejected": "no"},
        {"prompt": "Hm?", "responses": ["a", "b", "c", "d"], "ranking": [2, 1, 3, 3]},
        {"prompt": "Hm?", "responses": ["a", "b"], "ranking": [1, 1]},
    )
    assert read_unpaired(data) == [
        LabelledResponse("Hm?", " Aha.", True), LabelledResponse((Message("user", "Hm?"),), "Aha.", False),
        LabelledResponse("Hm?", "yes", True), LabelledResponse("Hm?", "no", False),
        LabelledResponse("Hm?", "b", True), LabelledResponse("Hm?", "c", False), LabelledResponse("Hm?", "d", False),
    ]  # fmt: skip


# ── the recipe ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def model(tok, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "policy"
    tiny.policy(tok).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def asked(n: int) -> list[dict]:
    return [{"role": "user", "content": f"What is {n} + {n}?"}]


PAIRED = [
    {"prompt": asked(n), "chosen": f"{2 * n}.", "rejected": "I don't know, ask!"} for n in range(8)
]
SINGLE = [
    {
        "prompt": asked(n),
        "completion": f"{2 * n}." if n % 2 else "I don't know.",
        "label": bool(n % 2),
    }
    for n in range(10)
]
RANKED = [
    {"prompt": asked(n), "responses": [f"{2 * n}.", "Many.", "I don't know."][: 2 + n % 2],
     "ranking": [1, 2, 2][: 2 + n % 2]}
    for n in range(8)
]  # fmt: skip
NAMES = {f"{kind}/{side}" for kind in ("rewards", "logps") for side in ("chosen", "rejected")} | {
    "rewards/margins",
    "rewards/accuracies",
    "loss",
}


def train(job, model, data, out, *args) -> list[dict]:
    options = ["--model", model, "--data", data, "--out", out, "--report-to", "none", "--quiet"]
    assert main(changed(["train", job, *options], *args)) == 0
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("loss", "rows", "options"),
    [
        ("ipo", PAIRED, ()),
        ("dpo+0.2*preferred_ft", RANKED, ()),
        ("simpo", PAIRED, ("--loss-options", "gamma=0.5", "--beta", "2")),
        ("kto", SINGLE, ("--loss-options", "desirable_weight=1.2", "undesirable_weight=0.9")),
        ("kto", PAIRED, ()),
        ("bco", RANKED, ()),
        ("plackett_luce_dpo", RANKED, ()),
    ],
)
def test_training_raises_what_was_preferred(loss, rows, options, model, tmp_path):
    """End to end on each kind of data. Mutation caught: a sign anywhere, metrics that are left out."""
    data = write(tmp_path / "d.jsonl", *rows)
    found = train(
        "dpo", model, data, tmp_path / "out", "--loss", loss, "--lr", 3e-3, "--epochs", 6,
        "--batch-size", 4, "--held-out", 0, "--warmup", 0, *options,
    )  # fmt: skip
    assert all(row.keys() >= NAMES for row in found)
    assert found[-1]["eval/rewards/margins"] > found[0]["rewards/margins"] + 0.01
    assert found[-1]["eval/rewards/accuracies"] > 0.7
    ranked = 0.5 * math.log(2) + 0.5 * (math.log(3) + 2 * math.log(2))  # K = 2, and 3 with a tie
    start = {"plackett_luce_dpo": ranked}.get(loss, found[0]["loss"])
    if loss != "kto":  # whose z₀ moves
        assert found[-1]["eval/loss"] < start
    if "simpo" not in loss and "preferred_ft" not in loss:
        assert found[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("job", ["dpo", "reward", "sft"])
def test_steps_cap_the_epochs_and_the_schedule_spans_them(job, model, tmp_path, caplog):
    """Six epochs of a step each: `--max-steps 3` makes three, whose rates fall as those of three epochs do.

    Mutation caught: a run that is merely cut, while its rate still falls over all the epochs; a cap that adds epochs.
    """
    rows = [{**r, "completion": "x"} for r in SINGLE] if job == "sft" else PAIRED
    data = write(tmp_path / "d.jsonl", *rows)
    usual = ["--batch-size", len(rows), "--held-out", 0]

    def rates(name: str, *args) -> list[float]:
        return [
            row["learning_rate"] for row in train(job, model, data, tmp_path / name, *usual, *args)
        ]

    capped = rates("capped", "--epochs", 6, "--max-steps", 3)
    assert len(capped) == 3 and capped == rates("short", "--epochs", 3)
    assert "end first" not in caplog.text
    assert len(rates("far", "--epochs", 2, "--steps", 9)) == 2
    assert "2 epochs hold 2 steps and end first" in caplog.text


def test_no_reference_where_none_is_read(model, tmp_path, monkeypatch):
    """Neither loaded nor asked. Mutation caught: log-probs of a reference that nobody reads."""
    data = write(tmp_path / "d.jsonl", *PAIRED)

    def forbidden(*_, **__):
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(preference, "reference_sums", forbidden)
    train("dpo", model, data, tmp_path / "out", "--loss", "orpo+0.5*cpo", "--beta", 0.1)
    with pytest.raises(AssertionError, match="the reference was asked"):
        train("dpo", model, data, tmp_path / "other", "--loss", "dpo")


@pytest.mark.parametrize(
    ("args", "rows", "words"),
    [
        (["--loss", "kto"], [{"prompt": "x", "completion": "y", "label": "yes"}], "d.jsonl:1: `label` must"),
        (["--loss", "kto"], [{"prompt": "x", "completion": " ", "label": True}], "an empty response"),
        (["--loss", "kto"], [{"prompt": "x", "completion": "y"}], "expected a column `label`"),
        (["--loss", "kto"], [r | {"prompt": "x"} for r in SINGLE], "one prompt only"),
        (["--loss", "bco"], [{"prompt": "x", "responses": ["a", "b"], "ranking": [1, 1]}], "is a tie"),
        (["--loss", "dpo"], SINGLE, "compares nothing; train on it with kto or bco"),
        (["--loss", "simpo", "--reference", "m"], PAIRED, "reads no reference"),
        (["--loss", "kto", "--label-smoothing", "0.1"], SINGLE, "--loss kto reads no pairs"),
        (["--loss", "plackett_luce_dpo", "--pairs", "best_worst"], RANKED, "--pairs would have no effect"),
        (["--label-smoothing", "0.6"], PAIRED, "below 0.5"),
        (["--loss", "simpo", "--loss-options", "gama=1"], PAIRED, "did you mean 'gamma'?"),
        (["--loss", "simp"], PAIRED, "did you mean 'simpo'?"),
        (["--steps", "0"], PAIRED, "--steps 0: must be at least 1"),
        (["--beta", "0"], PAIRED, "--beta 0: must be above 0"),
        (["--loss", "orpo", "--beta", "0.3"], PAIRED, "--beta would have no effect, because --loss orpo has no β"),
    ],
)  # fmt: skip
def test_bad_input(args, rows, words, model, tmp_path, capsys):
    """One sentence, exit code 2, nothing left behind."""
    data, out = write(tmp_path / "d.jsonl", *rows), tmp_path / "out"
    assert (
        main(["train", "dpo", "--model", str(model), "--data", data, "--out", str(out), *args]) == 2
    )
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not out.exists()


def test_which_losses_have_a_beta():
    """Mutation caught: a hinge that is flat at the numbers it is tried on, or a sum of which only one term has it."""
    without = {"orpo", "preferred_ft", "unlikelihood"}
    for beta in (0.01, 0.1, 1.0, 2.0, 10.0):
        assert {
            n for n in registry.entries("loss") if not find_objective(n, beta=beta).reads_beta
        } == without
    assert find_objective("orpo+0.1*dpo").reads_beta


def test_a_comparison_keeps_its_prompt_tokens(tok):
    """Both sides of a pair have identical prompt tokens. Mutation caught: encoding each side on its own."""
    config = preference.Config(model="m", data="d", out=Path("o"), label_smoothing=0.1)
    item = Comparison(CHAT, tuple(ANSWERS[:2]), (2, 1))
    item, samples = sequences(tok, 128)(item)
    (pair,) = preference.judged(item, samples, find_objective("dpo"), config)
    first, second = pair.samples
    start = first.mask.index(True)
    assert first.tokens[:start] == second.tokens[:start] and second.mask.index(True) == start
    assert pair.labels == (0.9, 0.9)
    assert tok.decode(first.tokens[start:]).startswith(ANSWERS[1])
    assert [f.name for f in fields(Judgment)] == [
        *("samples", "labels", "strength", "rater", "weight")
    ]


def test_data_of_their_own_are_what_is_held_out(tok, tmp_path: Path, capsys):
    """Mutation caught: --eval-data that nothing reads, or a share of the prompts that is held out besides."""
    pair = {"chosen": "a", "rejected": "b"}
    write_rows(tmp_path / "d.jsonl", ({"prompt": f"p{i}", **pair} for i in range(40)))
    write_rows(tmp_path / "e.jsonl", [{"prompt": "e", **pair}])
    usual = preference.Config(
        model="m", data=str(tmp_path / "d.jsonl"), out=tmp_path / "out", held_out=0.3
    )
    data = read(usual, stream_comparisons)
    found = parts_of(usual, data, stream_comparisons, tok, 99, ranked)
    assert 0 < len(found.held) < len(found.train) and len(found.train) + len(found.held) == 40
    own = replace(usual, eval_data=str(tmp_path / "e.jsonl"))
    data = read(own, stream_comparisons)
    found = parts_of(own, data, stream_comparisons, tok, 99, ranked)
    (asked,) = found.held[0].samples[0].tokens[:1]
    assert len(found.train) == 40 and tok.decode([asked]) == "e" and len(found.held) == 1
    flags = ["--model", "m", "--out", str(own.out), "--held-out", "0.3"]
    for name in ("dpo", "reward"):
        data = ["--data", own.eval_data or "", "--eval-data", own.eval_data or ""]
        assert main(["train", name, *flags, *data]) == 2
        assert "because --eval-data is set" in capsys.readouterr().err
