"""What `heedful train reward` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from heedful.configs.common import FromComparisons, Sharded
from heedful.configs.common import refuse_nonsense as refuse_common
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, HIDDEN, Range

Loss = Literal[
    "bradley_terry", "plackett_luce", "davidson", "rao_kupper", "soft_bradley_terry", "mean_variance", "categorical",
]  # fmt: skip
PERSONAL = ("dimensions", "answers", "kl_weight")
DISTRIBUTIONS = {
    "mean_variance": "a head for the mean and one for the variance",
    "categorical": "a head for each grade",
}
WITH_TIES, WITH_MARGIN = ("davidson", "rao_kupper"), ("bradley_terry", "plackett_luce")


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons, Sharded):
    """Fit a reward model to comparisons."""

    loss: Loss = "bradley_terry"
    """Bradley–Terry on all pairs of a ranking; Plackett–Luce on the whole ranking; with ties as an outcome of their own
    davidson or rao_kupper; with a comparison's strength as its probability soft_bradley_terry; a mean and a variance of
    each response mean_variance; the chance of each of some grades categorical."""
    grades: Annotated[int, Range(2)] = 10
    """Grades of --loss categorical, from the worst to the best."""
    ties: Annotated[float | None, Range(0, 1, above=True, below=True)] = None
    """Chance that two equally good responses tie, for davidson and rao_kupper. Default: the share of ties in the
    data."""
    margin: Annotated[float, AT_LEAST_0] = 0.0
    """Margin in the loss: this times a comparison's strength (0 to 1); 0 ignores strengths."""
    lm_coef: Annotated[float, AT_LEAST_0] = 0.0
    """Weight of the LM loss of the best responses' tokens: a reward model that is pre-trained on many votes stays a
    language model, and needs fewer of the comparisons that it is fitted to afterwards."""
    personal: bool = False
    """A reward that depends on whose it is: variational preference learning from comparisons with raters. Some of a
    user's answers tell what they want, the others are predicted; who is held out are users, not prompts."""
    dimensions: Annotated[int, AT_LEAST_1] = 8
    """Dimensions of z, which says what a user wants."""
    answers: Annotated[int, AT_LEAST_1] = 16
    """Most answers that tell of a user in a step; each time a random number of them, from 0 on."""
    kl_weight: Annotated[float, AT_LEAST_0] = 0.01
    """Weight of KL(q(z | answers) ‖ N(0, 1)) beside the loss per answer, reached after half of the run."""
    heads: Annotated[int, AT_LEAST_1] = 1
    """An ensemble on one body: so many heads, each fitted to a bootstrap of the comparisons."""
    caution: Annotated[float, AT_LEAST_0] = 0.0
    """The reward is the mean less this many standard deviations, of the heads, of mean_variance or of the
    grades."""
    batch_size: int = 16
    """Prompts in an optimiser step, each with all its responses; with --personal users, each with up to 8 answers to
    predict."""
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    command: Annotated[str, HIDDEN] = "train reward"


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_common(config)
    if config.personal and config.loss in DISTRIBUTIONS:
        raise UserError(
            f"--personal has no --loss {config.loss}: what people differ about is z, not noise"
        )
    if config.shard and config.lm_coef:
        raise UserError("--shard has no LM loss beside the reward; leave it or --lm-coef out")
    if config.shard and (config.heads > 1 or config.loss in DISTRIBUTIONS):
        raise UserError("--shard is for reward models of one output; leave it or the others out")


def unread(config: Config) -> dict[str, str]:
    """Fields that the loss does not read, and why."""
    reasons = {}
    if config.loss not in WITH_TIES:
        reasons["ties"] = f"--loss {config.loss} has no parameter of ties"
    if config.loss not in WITH_MARGIN:
        reasons["margin"] = f"--loss {config.loss} has no margin"
    if config.loss != "categorical":
        reasons["grades"] = f"--loss {config.loss} has no grades"
    if config.loss in DISTRIBUTIONS:
        reasons["heads"] = f"--loss {config.loss} has {DISTRIBUTIONS[config.loss]}"
    elif config.heads == 1:
        reasons["caution"] = "one head has no standard deviation; --heads 4 has"
    if config.loss in DISTRIBUTIONS or config.heads > 1:
        reasons["lm_coef"] = "only a reward of one output learns language beside it"
    if config.personal:
        reasons["lm_coef"] = "--personal learns nothing but rewards"
        reasons["weights"] = "--personal learns of each rater what they want"
        reasons |= dict.fromkeys(("heads", "caution"), "a personal reward has heads of its own")
        reasons["shard"] = "--personal trains a whole model in each process"
    else:
        reasons |= dict.fromkeys(PERSONAL, "there is no z without --personal")
    return reasons
