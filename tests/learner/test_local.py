"""The learner: schedules by hand, rows in order, a gradient that is not finite leaves the weights alone."""

import math

import pytest
import torch

import tiny
from heedful.data.collate import collate
from heedful.errors import UserError
from heedful.learner.local import LocalLearner, Loss, Optim, predict
from heedful.training.forwards import policy_forward
from heedful.types import Sample


def rows():
    return [
        Sample(tuple(range(5, 5 + n)), (False, *(True,) * (n - 1)), (0.0,) * n, group=i)
        for i, n in enumerate((4, 9, 2, 6))
    ]


def test_learning_rates_by_hand():
    linear = Optim(1.0, 10, schedule="linear", warmup=0.2)
    assert [round(linear.rate(i), 4) for i in (0, 1, 2, 9)] == [0.5, 1.0, 0.8889, 0.1111]
    constant = Optim(1.0, 10, schedule="constant", warmup=0.0)
    assert {constant.rate(i) for i in range(10)} == {1.0}
    cosine = Optim(2.0, 100, schedule="cosine", warmup=0.0)
    assert cosine.rate(0) > 1.99 and cosine.rate(99) < 0.01
    assert cosine.rate(49) == pytest.approx(1.0, abs=0.05)


def test_predictions_keep_the_order_of_rows():
    model, batch = tiny.causal_lm("llama"), collate(rows())
    whole = predict(model, policy_forward(), batch, 10**6).logp
    assert torch.allclose(predict(model, policy_forward(), batch, 10).logp, whole, atol=1e-5)


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = tiny.policy(tiny.tokenizer())
    before = {n: p.clone() for n, p in model.named_parameters()}
    learner = LocalLearner(model, policy_forward(), Optim(0.1, 10))
    with pytest.raises(UserError, match="gradient became"):
        learner.step(lambda out, b: Loss(out.logp * float("inf")), collate(rows()))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_metrics_are_means_over_what_is_counted():
    """Mutation caught: metrics averaged over padding, or over micro-batches of different size."""
    learner = LocalLearner(
        tiny.policy(tiny.tokenizer()), policy_forward(), Optim(0.0, 1), micro_batch_tokens=9
    )
    batch = collate(rows())
    metrics = learner.step(
        lambda out, b: Loss(
            -out.logp,
            {"ones": torch.ones_like(out.logp), "length": b.lengths[:, None] + 0 * out.logp},
        ),
        batch,
    )
    sizes = torch.tensor([4.0, 9.0, 2.0, 6.0])
    assert metrics["ones"] == pytest.approx(1.0)
    assert metrics["length"] == pytest.approx(
        float((sizes * (sizes - 1)).sum() / (sizes - 1).sum())
    )


def test_weights_are_shared_until_the_next_step():
    model = tiny.policy(tiny.tokenizer())
    learner = LocalLearner(model, policy_forward(), Optim(0.01, 10))
    name = next(iter(dict(model.named_parameters())))
    assert learner.weights()[name].data_ptr() == dict(model.named_parameters())[name].data_ptr()


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": math.nan}, {"warmup": 2.0}, {"max_grad_norm": 0.0}]
)
def test_numbers_that_nobody_means_are_refused(wrong: dict):
    """In Python as on the command line. Mutation caught: ranges that only flags have."""
    with pytest.raises(UserError, match=f"^{next(iter(wrong))} "):
        Optim(**{"learning_rate": 1e-4, "total_steps": 3, **wrong})
