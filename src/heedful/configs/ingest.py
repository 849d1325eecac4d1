"""What `heedful import` takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, POSITIONAL, Flag
from heedful.store.kinds import KINDS, SCREEN
from heedful.store.project import screens

What = Literal["prompts", "demonstrations", "comparisons", "samples", "gold", "records"]

Form = Literal["auto", "plain", "argilla", "label-studio"]


def asked_of(what: str) -> list[str]:
    """The kinds of question that can be asked of prompts or of samples: prompts have no responses to show. What can be
    known beforehand can be compared."""
    if what == "gold":
        return [SCREEN, *(n for n, kind in KINDS.items() if kind.measure and not kind.talks)]
    kinds = [n for n, kind in KINDS.items() if (kind.responses != (0, 0)) == (what == "samples")]
    return [SCREEN, *kinds]  # whether a project's own questions show any is seen when it is known


if TYPE_CHECKING:
    Asked = str
else:
    Asked = Literal[(SCREEN, *KINDS)]
ASK_HELP = (
    f"What raters are asked: {SCREEN} is the project's own list of questions, on one screen; "
    + "; ".join(f"of {what} {', '.join(asked_of(what))}" for what in ("samples", "prompts", "gold"))
)
OPTIONS_HELP = "The options of the questions as JSON: " + ", ".join(
    f"'{json.dumps(kind.example_options)}' for {name}"
    for name, kind in KINDS.items()
    if kind.options
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Import a file's rows into a workspace; importing duplicates adds nothing."""

    what: Annotated[What, POSITIONAL]
    """comparisons may also be TRL's unpaired form; samples are responses, several of each prompt; gold are questions of
    any kind with their known `answer`; records are exports of Argilla and Label Studio with all of their questions,
    which become those of the project's screen."""
    source: Annotated[str, POSITIONAL]
    """JSONL, JSON, CSV, Parquet, hf:NAME[:CONFIGURATION][:SPLIT]; for comparisons exports of Argilla and Label Studio
    too."""
    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project, made if there is none of this name. Default: the only one there is, or a new one named main."""
    columns: tuple[str, ...] = ()
    """Other names of columns: prompt=question completion=answer; question=… is a user's turn."""
    form: Form = "auto"
    """Which tool wrote the comparisons; plain are the columns of heedful, TRL and HH-RLHF."""
    ask: Annotated[Asked | None, Flag(help=ASK_HELP)] = None
    overlap: Annotated[int, AT_LEAST_1] = 1
    """How many raters answer each question."""
    options: Annotated[str | None, Flag(help=OPTIONS_HELP)] = None
    together: bool = False
    """All responses to a prompt side by side on one screen, where each could stand alone (rate, thumbs, rules …)."""
    gold: bool = False
    """The comparisons are gold questions: raters are asked them, and the answer is known. A column `explanation` says
    why it is right, and is shown in training rounds."""
    model: str | None = None
    """Who wrote the samples, where the rows do not say."""
    licence: str | None = None
    """The licence of the prompts."""
    language: str | None = None
    """The language of the prompts, such as en."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """Invalid comparisons: stop at the first, before anything is written, or drop them and say how many."""
    dry_run: bool = False
    """Only say what the file holds and show the first rows as they would be kept; nothing is written."""
    quiet: bool = False
    """Say nothing of how far it is."""


def refuse_nonsense(config: Config) -> None:
    """Options that would do nothing are errors."""
    given = {
        "--form": config.form != "auto",
        "--gold": config.gold,
        "--on-bad-row": config.on_bad_row != "stop",
        "--ask": config.ask is not None,
        "--overlap": config.overlap != 1,
        "--options": config.options is not None,
        "--together": config.together,
        "--model": config.model is not None,
    }
    asking = {"--ask", "--overlap", "--options"}
    useful = {
        "comparisons": {"--form", "--gold", "--on-bad-row"},
        "prompts": asking,
        "samples": asking | {"--model", "--together"},
        "gold": {"--ask", "--options"},
        "demonstrations": set(),
        "records": set(),
    }[config.what]
    for flag, there in given.items():
        if there and flag not in useful:
            raise UserError(f"{flag} means nothing for {config.what}")
    if config.ask is not None:
        kinds = asked_of(config.what)
        if config.ask not in kinds:
            raise UserError(
                f"of {config.what} raters can be asked {', '.join(kinds)}, not {config.ask}"
            )
        options = options_of(config.options)
        if config.ask != SCREEN or options:
            screens.check_options(config.ask, options or {})
    if config.what == "gold" and config.ask is None:
        raise UserError(
            f"gold needs --ask: what raters are asked, one of {', '.join(asked_of('gold'))}"
        )
    if config.ask is None and (
        config.overlap != 1 or config.options is not None or config.together
    ):
        raise UserError(
            "--overlap, --options and --together are about questions; say which with --ask"
        )


def options_of(text: str | None) -> dict[str, Any] | None:
    """The JSON of --options."""
    if text is None:
        return None
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--options is not JSON: {error}") from None
    if not isinstance(options, dict):
        raise UserError('--options must be a JSON object, such as {"axes": [{"name": "helpful"}]}')
    return options
