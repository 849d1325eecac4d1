"""`learner.Forward`s: what a policy and a critic are asked for a batch."""

from __future__ import annotations

from transformers import PreTrainedModel

from heedful.learner.local import Forward
from heedful.models.forward import distilled_outputs, policy_outputs
from heedful.models.reference import Reference
from heedful.models.scores import token_values
from heedful.types import Batch, Outputs, Sampling


def policy_forward(sampling: Sampling | None = None, reference: Reference | None = None) -> Forward:
    """`logp` under the very distribution that is sampled from; `kl` to a reference; `value` of a value head."""
    how = sampling or Sampling()

    def forward(model: PreTrainedModel, batch: Batch) -> Outputs:
        return policy_outputs(model, batch.tokens, batch.mask, how, reference=reference)

    return forward


def distilled_forward(teacher: Reference) -> Forward:
    """`kl`: KL(teacher ‖ model) of a response's tokens, where every other row is what the teacher reads."""

    def forward(model: PreTrainedModel, batch: Batch) -> Outputs:
        return distilled_outputs(model, batch.tokens, batch.mask, batch.lengths, teacher)

    return forward


def critic_forward(model: PreTrainedModel, batch: Batch) -> Outputs:
    """`value` after every token."""
    return Outputs(value=token_values(model, batch.tokens, batch.lengths))
