"""The preference family against TRL's own trainers: the same batch, the same value and gradient to 1e-5.

Each trainer is made once and told another loss type each time; its masks decide what the response is. What
TRL does otherwise is said where it matters: it averages a likelihood term over the batch's tokens, we over each
response's tokens first, and for ORPO it counts the prompt's tokens too.
"""

import pytest
import torch

import tiny
from heedful.losses.preference import log1mexp
from heedful.models.load import copy_model
from heedful.training.forwards import policy_forward
from heedful.training.judgments import as_batch, loss_of
from heedful.training.kept import Judgment
from heedful.training.objective import find_objective
from heedful.training.reference_sums import reference_sums
from test_trl import ROWS, arguments, different, gradients, our_gradients, same, samples

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")

BETA = 0.3
UNPAIRED = [
    {"prompt": r["prompt"], "completion": r[kind], "label": kind == "chosen"}
    for r in ROWS
    for kind in ("chosen", "rejected")
][:7]  # four liked, three not


@pytest.fixture(scope="module")
def tok():
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def models(tok):
    reference = tiny.policy(tok)
    return reference, different(reference)


def ours(models, judged, loss, options=(), **whole):
    """Value and gradient of our recipe's own pieces, in micro-batches of one pair."""
    reference, policy = models
    objective = find_objective(loss, options, BETA)
    rows = [s for j in judged for s in j.samples]
    sums = reference_sums(reference, policy_forward(), rows, 4096)
    batch = as_batch(objective.reads, judged, sums)
    for name, value in whole.items():
        getattr(batch, name).fill_(value)
    model = copy_model(policy).requires_grad_(True)
    return our_gradients(model, policy_forward(), loss_of(objective), batch, "group")


def agree(found, loss, model):
    value, grads = found
    assert value == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    same(grads, gradients(model))


@pytest.fixture(scope="module")
def dpo(tok, models, tmp_path_factory):
    """(trainer, its batch, the same pairs as ours)."""
    from datasets import Dataset

    args = arguments(trl.DPOConfig, tmp_path_factory.mktemp("dpo"), beta=BETA)
    trainer = trl.DPOTrainer(
        model=copy_model(models[1]).requires_grad_(True), ref_model=copy_model(models[0]),
        args=args, train_dataset=Dataset.from_list(ROWS), processing_class=tok,
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    half = len(inputs["input_ids"]) // 2
    masks = inputs["attention_mask"], inputs["completion_mask"]
    rows = samples(inputs["input_ids"], masks, lambda i: i % half)
    assert len({sum(s.mask) for s in rows}) > 2  # of different lengths
    return trainer, inputs, [Judgment((rows[i], rows[i + half]), (1.0, 1.0)) for i in range(half)]


@pytest.mark.parametrize(
    ("theirs", "smoothing", "loss", "options"),
    [
        ("sigmoid", 0.0, "dpo", ()),
        ("robust", 0.2, "robust", ("epsilon=0.2",)),
        ("ipo", 0.0, "ipo", ()),
        ("hinge", 0.0, "rso", ()),
        ("exo_pair", 0.05, "exo", ("epsilon=0.05",)),
        ("apo_zero", 0.0, "apo_zero", ()),
        ("apo_down", 0.0, "apo_down", ()),
        ("sigmoid+hinge", 0.0, "dpo+0.25*rso", ()),
    ],
)
def test_losses_of_the_dpo_trainer(dpo, models, theirs, smoothing, loss, options):
    """Mutation caught: a factor 2, sums for means or means for sums, ε on the wrong side, weights left out."""
    trainer, inputs, judged = dpo
    trainer.loss_types, trainer.label_smoothing = theirs.split("+"), smoothing
    trainer.loss_weights = [1.0, 0.25][: len(trainer.loss_types)]
    trainer.model.zero_grad()
    value = trainer.compute_loss(trainer.model, dict(inputs))
    value.backward()
    agree(ours(models, judged, loss, options), value, trainer.model)


def test_bco_of_pairs(dpo, models):
    """TRL's `bco_pair` has δ = 0 and a sum of the two halves where ours is a mean over rows."""
    trainer, inputs, judged = dpo
    trainer.loss_types, trainer.loss_weights = ["bco_pair"], [0.5]
    trainer.model.zero_grad()
    value = trainer.compute_loss(trainer.model, dict(inputs))
    value.backward()
    rows = [Judgment((s,), (float(k == 0),)) for j in judged for k, s in enumerate(j.samples)]
    agree(ours(models, rows, "bco"), value, trainer.model)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_kto(tok, models, tmp_path, loss):
    """TRL's batch, its KL estimate on its own mismatched rows, unequal weights and unequal numbers of labels.

    Mutation caught: z₀ with a gradient, its clamp row by row, weights exchanged, a mean of two means.
    """
    from datasets import Dataset

    models = models[::-1]  # this way round the estimate is above 0 and the clamp hides nothing
    args = arguments(
        trl.KTOConfig, tmp_path, beta=BETA, loss_type=loss, desirable_weight=1.3,
        undesirable_weight=0.7, 
    )  # fmt: skip
    args.per_device_train_batch_size = len(UNPAIRED)
    theirs = copy_model(models[1]).requires_grad_(True)
    trainer = trl.KTOTrainer(
        model=theirs, ref_model=copy_model(models[0]), args=args,
        train_dataset=Dataset.from_list(UNPAIRED), processing_class=tok,
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    value = trainer.compute_loss(theirs, dict(inputs))
    value.backward()

    def rows_of(prefix):
        masks = inputs[f"{prefix}attention_mask"], inputs[f"{prefix}completion_mask"]
        return samples(inputs[f"{prefix}input_ids"], masks, lambda i: i)

    labels = [float(x) for x in inputs["label"]]
    judged = [Judgment((s,), (x,)) for s, x in zip(rows_of(""), labels, strict=True)]
    if loss == "apo_zero_unpaired":  # TRL weighs this one too, and so tells the two labels apart
        weights = torch.tensor([1.3 if x else 0.7 for x in labels])
        parts = [ours(models, [j], loss) for j in judged]
        found = sum(w * v for w, (v, _) in zip(weights.tolist(), parts, strict=True)) / len(parts)
        assert found == pytest.approx(value.item(), rel=1e-5, abs=1e-5)
        return
    kl_rows = rows_of("KL_")
    sums = [reference_sums(m, policy_forward(), kl_rows, 4096) for m in reversed(models)]
    kl = sum(sums[0][s] - sums[1][s] for s in kl_rows) / len(kl_rows)
    assert kl > 0.1
    options = ("desirable_weight=1.3", "undesirable_weight=0.7")
    agree(ours(models, judged, loss, options, kl=max(0.0, kl)), value, theirs)


def from_labels(inputs, side) -> list:
    """The rows of CPO's and ORPO's collator, whose labels are −100 on the prompt."""
    ids, labels = inputs[f"{side}_input_ids"], inputs[f"{side}_labels"]
    masks = inputs[f"{side}_attention_mask"], labels != -100
    return samples(ids, masks, lambda i: i)


def paired(inputs) -> list[Judgment]:
    both = zip(from_labels(inputs, "chosen"), from_labels(inputs, "rejected"), strict=True)
    return [Judgment(pair, (1.0, 1.0)) for pair in both]


@pytest.fixture(scope="module")
def cpo(tok, models, tmp_path_factory):
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    args = arguments(CPOConfig, tmp_path_factory.mktemp("cpo"), beta=BETA)
    trainer = CPOTrainer(
        model=copy_model(models[1]).requires_grad_(True), args=args,
        train_dataset=Dataset.from_list(ROWS), processing_class=tok,
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    return trainer, inputs, paired(inputs)


@pytest.mark.parametrize(
    ("theirs", "alpha", "loss", "options"),
    [
        ("sigmoid", 0.0, "cpo", ("alpha=0",)),
        ("sigmoid", 0.0, "cpl", ("bias=1",)),
        ("hinge", 0.0, "slic", ()),
        ("simpo", 0.0, "simpo", ("gamma=0.5",)),
    ],
)
def test_losses_of_the_cpo_trainer(cpo, models, theirs, alpha, loss, options):
    """Mutation caught: a reference that is subtracted, γ scaled by β, sums where SimPO has means."""
    trainer, inputs, judged = cpo
    trainer.loss_type, trainer.cpo_alpha, trainer.simpo_gamma = theirs, alpha, 0.5
    trainer.model.zero_grad()
    value, _ = trainer.get_batch_loss_metrics(trainer.model, inputs)
    value.backward()
    agree(ours(models, judged, loss, options), value, trainer.model)


def test_cpo_with_its_likelihood_term(cpo, models):
    """One pair at a time, where a mean over the batch's tokens is one over the response's: α·(−log π/|y|)."""
    trainer, inputs, judged = cpo
    trainer.loss_type, trainer.cpo_alpha = "sigmoid", 0.7
    for i in (0, 1):
        one = {k: v[i : i + 1] for k, v in inputs.items() if isinstance(v, torch.Tensor)}
        trainer.model.zero_grad()
        value, _ = trainer.get_batch_loss_metrics(trainer.model, one)
        value.backward()
        agree(ours(models, [judged[i]], "cpo", ("alpha=0.7",)), value, trainer.model)


def test_orpo(tok, models, tmp_path):
    """TRL's odds-ratio term on its own forward pass, and the likelihood of the response alone.

    Mutation caught: sums for P, log(1 − P) cancelled, λ on the wrong term.
    """
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    args = arguments(ORPOConfig, tmp_path, beta=0.25)
    theirs = copy_model(models[1]).requires_grad_(True)
    trainer = ORPOTrainer(
        model=theirs, args=args, train_dataset=Dataset.from_list(ROWS), processing_class=tok
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    chosen, rejected, *_ = trainer.concatenated_forward(theirs, inputs)
    odds = trainer.odds_ratio_loss(chosen, rejected)[0]  # β·log σ(…), to be taken away
    value = (-chosen - odds).mean()
    value.backward()
    agree(ours(models, paired(inputs), "orpo", ("lam=0.25",)), value, theirs)


def test_log1mexp_agrees():
    """TRL's where both are accurate."""
    from trl.experimental.orpo.orpo_trainer import log1mexp as theirs

    x = -torch.logspace(-4, 3, 200)
    assert torch.allclose(log1mexp(x), theirs(x), atol=1e-6)
