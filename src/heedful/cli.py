"""The `heedful` command: words → a recipe's config → its run. No logic lives here.

What a command takes is in `configs/`, which imports nothing heavy: help and mistakes are answered at once. The
recipe itself is imported when it is to run.
"""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from heedful import __version__, disk
from heedful.errors import Stopped, Unavailable, UserError
from heedful.launch import adopt_slurm, launch
from heedful.progress import announce
from heedful.ranks import ALONE, Lost, Ranks, joined
from heedful.store.database.privacy import private_files

if TYPE_CHECKING:
    from heedful.configs.commands import Command


TWO_WORDS = (["evaluate", "reward"], ["compare", "rewards"])  # beside those of `train`


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 when the user has something to mend, 128 + n after signal n, 1 as
    `doctor` says."""
    args = sys.argv[1:] if argv is None else argv
    ranks = ALONE
    adopt_slurm(os.environ)
    try:
        with joined() as ranks:
            return _dispatch(args, ranks)
    except UserError as error:
        _say(error, ranks)
        return 2
    except Unavailable as error:
        _say(f"the database cannot take this now: {error}; what was done is kept", ranks)
        return 2
    except Stopped as stop:
        _say(stop, ranks)
        return 128 + stop.signal
    except Lost as error:
        _say(error, ranks)
        return 1
    except KeyboardInterrupt:
        print("heedful: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if (told := disk.sentence(error)) is None:
            raise
        _say(told, ranks)
        return 2


def _say(error: Exception | str, ranks: Ranks) -> None:
    if ranks.says_first(str(error)):
        print(f"heedful: {error}", file=sys.stderr)


def _dispatch(args: list[str], ranks: Ranks) -> int:
    if args and args[0] in ("--version", "-V"):
        print(f"heedful {__version__}")
        return 0
    words = 2 if args[:1] == ["train"] or args[:2] in TWO_WORDS else 1
    if args[:1] == ["train"] and args[1:2] and args[1].startswith("--config"):
        from heedful.configs.config_file import command_in

        if (name := command_in(args[1:])) is None:
            raise UserError(
                "the file does not say which command it is of: heedful train METHOD --config FILE"
            )
        args = [*name.split(), *args[1:]]
    wants_help = (
        not args or args in (["train"], ["-h"], ["--help"]) or args[1:] in (["-h"], ["--help"])
    )
    if wants_help and (not args or args[0] in ("train", "-h", "--help")):
        print(_help("train " if args[:1] == ["train"] else ""))
        return 0
    from heedful.configs.commands import command

    found = command(" ".join(args[:words]))
    with private_files() if found.private else nullcontext():
        return _run(found, args[words:], ranks)


def _help(prefix: str) -> str:
    """All commands, or all of `heedful train`; there the methods have a section each."""
    from heedful.configs.commands import COMMANDS, GROUPS, methods

    lines = [
        f"usage: heedful {prefix}COMMAND [OPTIONS]",
        "",
        "Teach language models to heed people: every step of the loop is a command.",
        "",
    ]
    plain = [name for name in COMMANDS if name.startswith(prefix)]
    lines += [f"  {name:<16} {COMMANDS[name][1]}" for name in plain]
    for data, modules in GROUPS.items():
        rows = {name: method.help for name, (_, method) in methods(*modules).items()}
        lines += ["", f"{data}:"]
        if prefix:
            lines += [f"  {f'train {name}':<24} {what}" for name, what in rows.items()]
        else:
            names = textwrap.wrap("train " + " | ".join(rows), 76, subsequent_indent="      ")
            lines += [f"  {line}" for line in names]
    lines += ["", "heedful COMMAND --help lists a command's options; --config FILE.yaml sets them."]
    return "\n".join(lines)


def _run(command: Command, args: list[str], ranks: Ranks) -> int:
    """The exit code: what a recipe returns as a number, else 0."""
    name = command.name
    trains = hasattr(command.flags.Config, "nproc")  # by several processes, if asked
    if ranks.world > 1 and not trains:
        raise UserError(f"{name} does not run on several processes; start it without torchrun")
    _quiet_libraries()
    if name == "iterate" and args and not args[0].startswith("-"):
        args = ["--config", *args]
    from heedful.configs import command_line, commands

    parsed = command_line.parse(
        command.flags.Config,
        args,
        prog=f"heedful {name}",
        preset=command.sets,
        world=ranks.world,
        about=_about(command),
        unread=command.idle if set(args) & command_line.HELP else (),
    )
    config = commands.named(command, parsed.config)
    try:
        commands.refuse(command, config)
        if (count := getattr(config, "nproc", 1)) > 1 and ranks.world == 1:
            return launch(count, [*name.split(), *args])
        ranks.check_device(getattr(config, "device", "cpu"))
        if flags := command_line.preset_flags(config, command.sets):
            announce(f"{name} sets {' '.join(flags)}")
        for note in parsed.notes:
            announce(note)
        recipe = importlib.import_module(f"heedful.{command.module}")
        result = recipe.run(config, ranks) if trains else recipe.run(config)
    except UserError as error:
        raise UserError(parsed.as_typed(str(error))) from error
    except Unavailable:
        raise
    except Exception as error:
        where = getattr(config, "out", None) or getattr(config, "workspace", None)
        if (told := disk.sentence(error, where)) is None:
            raise
        raise UserError(told) from error
    if name == "demo":
        from heedful.report import build

        print(build(result))
        print(
            f"heedful serve {result}   opens it to you in the browser; "
            f"heedful iterate {result}/iterate.yaml   learns from your clicks",
            file=sys.stderr,
        )
    elif isinstance(result, int):
        return result
    elif name == "compare":
        from heedful.report.compare import build as build_compare

        page = build_compare(result)
        print((result / "table.md").read_text(encoding="utf-8"))
        print(page)
        return recipe.failures(result)
    elif isinstance(result, Path):
        print(result)
    elif result is not None:
        import json

        print(json.dumps(result, indent=1, ensure_ascii=False))
    return 0


def _about(command: Command) -> str:
    """How the command's help begins."""
    from heedful.configs.command_line import preset_flags_of

    text = command.flags.Config.__doc__ or ""
    if not command.sets:
        return text
    return f"{command.help[0].upper()}{command.help[1:]}. {text} It sets {' '.join(preset_flags_of(command.sets))}."


def _quiet_libraries() -> None:
    """transformers prints advisory warnings and its own bars, and PEFT calls what it deprecates; ours are what a user
    should see."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


if __name__ == "__main__":
    sys.exit(main())
