"""Fields that several recipes share. Flags, YAML keys and saved configs have these names."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from heedful import tagged
from heedful.configs.playing import PLAYED, Playing, refuse_unasked
from heedful.errors import UserError, did_you_mean
from heedful.fields import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    DATA,
    FINITE,
    HIDDEN,
    ROWS,
    SEED,
    SHARE,
    Data,
    Range,
    alias,
    flag_of,
)

if TYPE_CHECKING:
    from heedful.types import Sampling

OnBadRow = Literal["stop", "drop", "cut"]
TOP_P = Range(0, 1, above=True)
WEIGHTS = ("equal", "raters", "column")  # --weights, besides a file
SPLIT = Range(0, 1, below=True)  # what is held out; something is left to train on


@dataclass(frozen=True)
class Method:
    """One line of help for `heedful train NAME`, and the flat fields that it sets in its recipe's config."""

    help: str
    sets: Mapping[str, Any]


def unread(flags: Any, config: Any) -> dict[str, str]:
    """Fields that nothing reads beside the others, and why: by their annotations, and what the module of the
    config, `flags`, knows besides."""
    return tagged.unread(config) | getattr(flags, "unread", lambda config: {})(config)


def refuse_unread(
    config: Any, defaults: Mapping[str, Any], unread: Mapping[str, str], where: str = "--"
) -> None:
    """What somebody has set and nothing reads is no default that may be ignored: `unread` is field → why.

    `defaults` are the values of a method that nobody has changed: its preset's, else the config's own.
    """
    usual = {f.name: f.default for part in tagged.holders(config) for f in fields(part)}
    values = tagged.flat(config)
    for name, why in unread.items():
        if values[name] != {**usual, **defaults}[name]:
            shown = name.replace("_", "-") if where == "--" else name
            raise UserError(f"{where}{shown} would have no effect, because {why}; leave it out")


def refuse_missing(config: Any) -> None:
    """Data that is to be read first and is not there, Ray, or a file of rows that nobody could read: no need to import
    anything before that is told."""
    from heedful.data.files import kind_of, refuse_name
    from heedful.data.reading import renamed_by, share_of, sources_of

    if isinstance(config, Playing):
        refuse_unasked(config)
    renamed_by(getattr(config, "columns", ()))
    if getattr(config, "cluster", None) and not _installed("ray"):
        raise UserError("--cluster needs ray: pip install 'heedful[ray]'")
    if isinstance(config, FromComparisons):
        weights_file(config.weights)
    for name in ("data", "prompts"):
        for source in sources_of(getattr(config, name, None) or ()):
            file, _ = share_of(source)
            if not file.startswith(("db:", "hf:")):
                kind_of(file)
    for f in fields(config):
        out = getattr(config, f.name)
        if out is not None and flag_of(type(config), f.name) is ROWS:
            refuse_name(out)
            for source in sources_of(getattr(config, "data", None) or ()):
                if out.resolve() == Path(share_of(source)[0]).resolve():
                    raise UserError(
                        f"--out {out} is --data, too, which it would replace; name another file"
                    )


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA: train low-rank matrices beside frozen weights; saved as an adapter in PEFT's format."""

    rank: Annotated[int, alias("--lora-r"), AT_LEAST_0] = 0
    """LoRA's rank r; 0 trains all weights."""
    alpha: Annotated[float | None, alias("--lora-alpha"), ABOVE_0] = None
    """LoRA's alpha: the update is scaled by alpha/rank. Default: twice the rank."""
    targets: Annotated[tuple[str, ...], alias("--lora-target-modules")] = ("all-linear",)
    """Target modules, such as q_proj v_proj; all-linear for all linear layers but the output layer."""
    dropout: Annotated[float, alias("--lora-dropout"), SHARE] = 0.0
    """0 only: sampling, reference and update must see one and the same policy."""
    merge: bool = False
    """Save merged models in place of adapters."""
    nf4: Annotated[bool, alias("--load-in-4bit")] = False
    """Keep the base in four bits (NF4), an eighth of float32 and a quarter of bfloat16 (QLoRA); needs the extra
    `quant`."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every training command takes."""

    command: Annotated[str, HIDDEN] = ""
    """What was typed after `heedful`: the saved config says what it is a config of."""
    out: Annotated[Path, alias("--output-dir")]
    """Folder of the run: config, metrics, checkpoints and, at the end, the model."""
    seed: Annotated[int, SEED] = 0
    """Seed of everything random; the same seed on the same machine gives the same weights."""
    learning_rate: Annotated[float, alias("--lr"), AT_LEAST_0] = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Annotated[Literal["constant", "linear", "cosine"], alias("--lr-scheduler-type")] = (
        "linear"
    )
    """Learning-rate schedule after the warm-up."""
    warmup: Annotated[float, alias("--warmup-ratio"), SHARE] = 0.05
    """Share of the steps that are warm-up, in which the learning rate rises."""
    weight_decay: Annotated[float, AT_LEAST_0] = 0.0
    """AdamW's weight decay, on matrices only."""
    max_grad_norm: Annotated[float, ABOVE_0] = 1.0
    """Clip gradients to this norm."""
    micro_batch_tokens: Annotated[int, AT_LEAST_1] = 8192
    """Most tokens in one forward pass; changes memory and speed, never the gradient."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the weights and matrix products; what is trained in bfloat16 has float32 master weights in the
    optimiser.
    bfloat16 was 1.2 times as fast at a width of 128, 1.7 at 384, on a CPU with AMX; else measure first."""
    lora: Lora = field(default_factory=Lora)
    """LoRA adapters in place of full fine-tuning."""
    freeze: Annotated[int, AT_LEAST_0] = 0
    """Freeze the bottom k layers, and the embeddings with them; 0 freezes nothing."""
    gradient_checkpointing: bool = False
    """Gradient checkpointing: recompute activations in the backward pass; less memory, a third more time."""
    compile: bool = False
    """Let torch.compile fuse what layers do around attention; on a CPU it needs a C++ compiler and 10 to 40 s, and
    saves the Llama family 4 % of a step of 11M parameters in bfloat16 (back after 510 steps), nothing in float32."""
    liger: bool = False
    """Run norms and gates of the Llama family by Liger's kernels; needs a GPU and the extra `liger`."""
    device: str = "cpu"
    """Torch device, such as cpu or cuda; auto takes the GPU where there is one."""
    nproc: Annotated[int, alias("--nproc-per-node", "--num-processes"), AT_LEAST_1] = 1
    """Processes on this machine that train together, such as one a GPU: docs/ranks.md. torchrun starts those of several
    machines."""
    quiet: bool = False
    """Log lines in place of a progress bar."""
    report_to: Literal["tensorboard", "wandb", "mlflow", "trackio", "none"] = "tensorboard"
    """Where metrics go besides metrics.jsonl; the trackers' own environment variables count."""
    project: Annotated[str | None, alias("--wandb-project", "--trackio-project")] = None
    """Project of W&B or trackio, experiment of MLflow; default: what WANDB_PROJECT, TRACKIO_PROJECT or
    MLFLOW_EXPERIMENT_NAME say, else heedful."""
    run_name: str | None = None
    """The run's name there; default: what WANDB_NAME or MLFLOW_RUN_NAME say, else that of --out."""
    save_every: Annotated[int, alias("--save-steps"), AT_LEAST_0] = 0
    """Steps between checkpoints; 0 saves the final model only."""
    log_every: Annotated[int, alias("--logging-steps"), AT_LEAST_1] = 1
    """Steps between logged metrics."""
    state_every: Annotated[int, AT_LEAST_0] = 0
    """Steps between saved training states, from which --resume continues; 0: as often as costs under 5 % of the
    time."""
    keep_last: Annotated[int, alias("--save-total-limit"), AT_LEAST_0] = 0
    """Keep only the newest N checkpoints; 0 keeps all."""
    keep_best: str | None = None
    """Keep the best checkpoint too: min:METRIC or max:METRIC, such as min:eval/loss."""
    push_to_hub: Annotated[str | None, alias("--hub-model-id")] = None
    """Upload the finished run to ORG/NAME on the Hugging Face hub; token and place are checked before it begins."""
    resume: bool = False
    """Resume the unfinished run in --out, and fail if there is none; the same command resumes by itself."""
    restart: bool = False
    """Start over and discard the unfinished run in --out."""
    on_bad_row: OnBadRow = "stop"
    """Rows that cannot be trained on as they are (too long, empty, nothing compared, no answer where a reward needs
    one), all found before the first step: stop at the first, drop them, or cut what is too long and drop the others."""


@dataclass(frozen=True, kw_only=True)
class Sharded(Training):
    """What training takes besides whose models may be shared out among processes."""

    shard: bool = False
    """Share out weights, gradients and optimiser among the processes (FSDP2), each of which has a part of them all."""
    shard_offload: Annotated[bool, tagged.ReadWith("shard")] = False
    """Keep the parts in the CPU's memory between passes: slower, for what fits no otherwise."""
    shard_sync: Annotated[Literal["last", "every"], tagged.ReadWith("shard")] = "last"
    """Sum up gradients after the last micro-batch of a step, with a gradient of the whole model in each process until
    then; or after every one, with more messages and parts of it alone."""

    @property
    def loads_on(self) -> str:
        """The device that whole models are loaded on; what will be shared out need not fit a GPU."""
        return "cpu" if self.shard else self.device


@dataclass(frozen=True, kw_only=True)
class ByEpochs(Training):
    """What training that passes over a data set takes besides."""

    batch_size: Annotated[int, AT_LEAST_1] = 16
    """Rows in an optimiser step."""
    epochs: Annotated[float, alias("--num-train-epochs"), ABOVE_0] = 1.0
    """Epochs over the data."""
    steps: Annotated[int | None, alias("--max-steps"), AT_LEAST_1] = None
    """Optimiser steps at most, which the schedule then spans; default: as many as the epochs hold."""
    held_out: Annotated[float, SPLIT, tagged.ReadWith("eval_data", unset=True)] = 0.05
    """Share of the prompts held out for evaluation, chosen by hash."""
    eval_data: str | None = None
    """Evaluation data from a file of its own, in place of held_out."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What every command takes that reads data."""

    data: Annotated[Data, DATA]
    """Files (.jsonl, .json, .csv, .parquet), hf:NAME[:CONFIGURATION][:SPLIT], db:WORKSPACE#PROJECT; FILE@0.5 is half of
    its rows."""
    columns: Annotated[tuple[str, ...], alias("--column-mapping")] = ()
    """Other names of columns: prompt=question completion=answer; question=… is a user's turn."""


@dataclass(frozen=True, kw_only=True)
class FromComparisons(Reading, ByEpochs):
    """What training on comparisons takes besides."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The model to start from, mostly the SFT model."""
    data: Annotated[Data, DATA]
    """Comparisons: chosen and rejected, or responses and ranking."""
    epochs: float = 1.0
    """Epochs over the comparisons; more than one overfits quickly."""
    max_length: Annotated[int | None, Range(2)] = None
    """Longest sequence in tokens; of longer ones --on-bad-row decides. Default: the model's context."""
    weights: str = "equal"
    """What each comparison counts: equal; raters, by how far its rater can be relied on, as fitted to the training part
    (nobody's answers are deleted); column, by the data's column weight; or a file of `heedful raters --out`."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """How tokens are drawn, by those who train on them too: it is the policy that is optimised."""

    temperature: Annotated[float, AT_LEAST_0] = 1.0
    """Sampling temperature, and so that of the policy that is optimised."""
    top_p: Annotated[float, TOP_P] = 1.0
    """Nucleus sampling: from the smallest set of tokens with this probability mass."""
    top_k: Annotated[int, AT_LEAST_0] = 0
    """Sample from the k likeliest tokens; 0 for all."""

    @property
    def sampling(self) -> Sampling:
        """Temperature and masks as one value."""
        from heedful.types import Sampling

        return Sampling(self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True, kw_only=True)
class Drawing(Reading, Sampled, Playing):
    """What every command that samples from a model takes."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model."""
    data: Annotated[Data, DATA] = ""
    """Prompts; an --env may bring its own tasks."""
    context: Path | None = None
    """A file whose text the model has before each prompt; rows are written without it (docs/methods/distil.md)."""
    reward: Annotated[tuple[str, ...], alias("--reward-model-path", "--reward-funcs")] = ()
    """Score each response by the sum of these reward terms: reward models, rules, verifiers,
    package.module:function."""
    reward_weights: Annotated[tuple[float, ...], FINITE] = ()
    """Weight of each reward term; default: 1."""
    best_of: Annotated[int, AT_LEAST_0] = 0
    """Best of n: sample n responses and keep the best by --reward."""
    limit: Annotated[int | None, AT_LEAST_1] = None
    """Use the first N prompts only."""
    on_bad_row: OnBadRow = "stop"
    """Rows without a prompt, too long, or without what a reward asks for: stop at the first, drop them, or cut what is
    too long."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--max-new-tokens"), AT_LEAST_1] = (
        48
    )
    """Longest response in tokens."""
    temperature: float = 1.0
    """0 is greedy decoding: the likeliest token."""
    value_weight: Annotated[float | None, AT_LEAST_0] = None
    """β of logits + β(Q − V), of a model by `train ilql`; 0 is its policy alone. Default: what it was trained with."""
    target_return: Annotated[float | None, FINITE, PLAYED] = None
    """The return that a model by `train decision` is told to play for."""
    seed: Annotated[int, SEED] = 0
    """Seed of the sampling."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""


def _installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


def weights_file(spec: str) -> Path | None:
    """The file that `--weights` names, None for one of the words. UserError where there is none."""
    if spec in WEIGHTS:
        return None
    if not Path(spec).is_file():
        raise UserError(
            f"--weights {spec}: expected {', '.join(WEIGHTS)} or a file of `heedful raters --out`"
            f"{did_you_mean(spec, WEIGHTS)}"
        )
    return Path(spec)


def refuse_nonsense(config: Training) -> None:
    """What can be said of the flags of any training before anything is loaded."""
    tagged.refuse_numbers(config)
    package = config.report_to
    if package in ("wandb", "mlflow", "trackio") and not _installed(package):
        raise UserError(f"--report-to {package} needs the package: pip install {package}")
    if config.liger and not config.device.startswith(("cuda", "auto")):
        raise UserError(
            f"--liger needs a GPU, not --device {config.device}; add --device cuda, or leave it out"
        )
    if config.liger and config.compile:
        raise UserError("--liger and --compile replace the same operations; leave one of them out")
    if isinstance(config, Sharded) and config.shard:
        for name in ("compile", "liger"):
            if getattr(config, name):
                raise UserError(f"--shard does not go with --{name}; leave one of them out")
        if config.lora.merge:
            raise UserError(
                "--shard saves adapters as they are: heedful merge afterwards, without --lora.merge"
            )
    if config.lora.dropout != 0:
        raise UserError(
            f"--lora.dropout {config.lora.dropout:g}: dropout is always off here, so that sampling, "
            "reference and update see one and the same policy; leave it at 0"
        )
    if config.lora.nf4 and isinstance(config, Sharded) and config.shard:
        raise UserError("--shard does not go with --lora.nf4; leave one of them out")
    if config.lora.nf4 and config.lora.merge:
        raise UserError(
            "--lora.merge does not go with --lora.nf4: heedful merge writes a whole model afterwards"
        )
    if not config.lora.rank and config.lora != Lora():
        raise UserError(
            "options of --lora have no effect without --lora.rank, which is 0; 16 is usual"
        )
