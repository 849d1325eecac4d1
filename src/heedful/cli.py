"""The `heedful` command: words → a recipe's config → its run. No logic lives here.

Only the recipe that was asked for is imported, so that help is instant.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from heedful import __version__
from heedful.errors import UserError, did_you_mean

# command → (module under heedful, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("recipes.init", "make a workspace, where people's answers are kept"),
    "serve": ("web.serve", "the raters' and the lead's pages in the browser"),
    "iterate": (
        "recipes.iterate",
        "sample, ask people, refit, optimise, and go round: CONFIG.yaml",
    ),
    "import": ("recipes.ingest", "files of ours and of other tools → a workspace"),
    "export": ("recipes.export", "a workspace → files that trainers read, with a manifest"),
    "check": ("recipes.check", "is everything in a workspace accounted for and unchanged?"),
    "demo": ("recipes.demo", "the whole loop on the embedded world, ending in report.html"),
    "world": ("recipes.world", "write a world's texts, demonstrations and prompts"),
    "train pretrain": ("recipes.pretrain", "raw text → a language model"),
    "train sft": ("recipes.sft", "demonstrations → a model that responds"),
    "train reward": ("recipes.reward_model", "comparisons → a reward model"),
    "train ppo": ("recipes.policy", "prompts and a reward → a better policy, kept near by KL"),
    "train a2c": ("recipes.policy", "likewise: critic, one step a round, the exact KL in the loss"),
    "train reinforce": ("recipes.policy", "likewise: REINFORCE with a baseline, no critic"),
    "train importance": (
        "recipes.policy",
        "likewise: importance-weighted steps on one large round",
    ),
    "train rloo": ("recipes.policy", "likewise: each response against the others to its prompt"),
    "train grpo": ("recipes.policy", "likewise: rewards standardised within each prompt's group"),
    "train dr_grpo": ("recipes.policy", "likewise: GRPO without its length and difficulty biases"),
    "train dapo": ("recipes.policy", "likewise: GRPO with clip-higher and dynamic sampling"),
    "train reinforce_pp": ("recipes.policy", "likewise: REINFORCE++, whitened over the round"),
    "train gspo": ("recipes.policy", "likewise: GRPO with the ratio of whole responses"),
    "train raft": ("recipes.policy", "likewise: imitate the best of each group"),
    "train dpo": ("recipes.preference", "comparisons → a better policy, directly"),
    "sample": ("recipes.sample", "prompts → responses, best of n if asked"),
    "judge": ("recipes.judge", "responses → comparisons by simulated raters"),
    "score": ("recipes.score", "add rewards to responses"),
    "evaluate": ("recipes.evaluate", "gold scores, KL and win rate on held-out prompts"),
    "compare": ("recipes.compare", "several methods over seeds at equal cost: CONFIG.yaml"),
    "baselines": ("recipes.baselines", "what simple rules reach on comparisons"),
    "chat": ("recipes.chat", "talk to a model"),
    "report": ("report", "a demo's folder → report.html"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 when the user has something to mend."""
    args = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(args)
    except UserError as error:
        print(f"heedful: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("heedful: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(args: list[str]) -> int:
    if args and args[0] in ("--version", "-V"):
        print(f"heedful {__version__}")
        return 0
    words = 2 if args[:1] == ["train"] else 1
    name, rest = " ".join(args[:words]), args[words:]
    if name in COMMANDS:
        _run(name, rest)
        return 0
    wants_help = not args or args[-1] in ("-h", "--help") or args == ["train"]
    if wants_help and (words == 2 or not args or args[0] in ("-h", "--help")):
        print(_help("train " if args[:1] == ["train"] else ""))
        return 0
    raise UserError(
        f"there is no command '{name}'{did_you_mean(name, COMMANDS)}; see heedful --help"
    )


def _help(prefix: str) -> str:
    lines = [
        f"usage: heedful {prefix}COMMAND [OPTIONS]",
        "",
        "Teach language models to heed people: every step of the loop is a command.",
        "",
    ]
    lines += [f"  {n:<16} {h}" for n, (_, h) in COMMANDS.items() if n.startswith(prefix)]
    lines += ["", "heedful COMMAND --help lists a command's options; --config FILE.yaml sets them."]
    return "\n".join(lines)


def _run(name: str, args: list[str]) -> None:
    if name == "report":
        _report(args)
        return
    _quiet_libraries()
    if name == "iterate" and args and not args[0].startswith("-"):
        args = ["--config", *args]
    recipe = importlib.import_module(f"heedful.{COMMANDS[name][0]}")
    preset = getattr(recipe, "PRESETS", {}).get(name.split()[-1], {})
    config = parse(recipe.Config, args, prog=f"heedful {name}", preset=preset)
    if preset:
        sets = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in preset.items())
        print(f"{name} sets {sets}", file=sys.stderr)
    result = recipe.run(config)
    if name == "demo":
        from heedful.report import build

        print(build(result))
        print(
            f"heedful serve {result}   opens it to you in the browser; "
            f"heedful iterate {result}/iterate.yaml   learns from your clicks",
            file=sys.stderr,
        )
    elif name == "compare":
        from heedful.report.compare import build as build_compare

        print(build_compare(result))
    elif isinstance(result, Path):
        print(result)
    elif result is not None:
        import json

        print(json.dumps(result, indent=1, ensure_ascii=False))


def parse(
    config_type: type, args: list[str], *, prog: str, preset: Mapping[str, Any] | None = None
) -> Any:
    """Flags, after those of `--config FILE.yaml` that no flag repeats, as a config; a preset changes defaults."""
    import tyro

    args = _with_config_file(config_type, args)
    spellings = _spellings(config_type)
    known = [flag for flags in spellings.values() for flag in flags]
    given = [arg.partition("=")[0].replace("_", "-") for arg in args if arg.startswith("--")]
    for flag in given:
        if flag not in (*known, "--help"):
            raise UserError(f"{prog} has no option {flag}{did_you_mean(flag, known)}")
    needed = [
        f.name
        for f in fields(config_type)
        if f.default is MISSING and f.default_factory is MISSING and f.name in spellings
    ]
    missing = [spellings[n][0] for n in needed if not set(spellings[n]) & set(given)]
    if missing and not {"-h", "--help"} & set(args):
        raise UserError(f"{prog} needs {', '.join(missing)}; see {prog} --help")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if not preset:
                return tyro.cli(config_type, prog=prog, args=args)
            default = config_type(**dict.fromkeys(needed, tyro.MISSING) | dict(preset))
            return tyro.cli(config_type, prog=prog, args=args, default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # tyro draws a box of several lines; a sentence serves scripts and people better.
        text = " ".join(line.strip(" ─│╭╮╰╯") for line in said.getvalue().splitlines())
        reason = text.partition("Argument helptext")[0].split()
        raise UserError(f"{' '.join(reason).strip(' -')}; see {prog} --help") from None


def _spellings(config_type: type, prefix: str = "") -> dict[str, list[str]]:
    """Field → its flags, the own name first; positional fields have none, nested ones have dots."""
    spellings: dict[str, list[str]] = {}
    for name, hint in get_type_hints(config_type, include_extras=True).items():
        metadata = getattr(hint, "__metadata__", ())
        if any("Positional" in repr(meta) or "POSITIONAL" in repr(meta) for meta in metadata):
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            spellings |= _spellings(hint, f"{prefix}{name}.")
            continue
        flag = (prefix + name).replace("_", "-")
        spellings[prefix + name] = [f"--{flag}"]
        if hint is bool:
            spellings[prefix + name].append("--" + _negated(flag))
        for meta in metadata:
            spellings[prefix + name] += getattr(meta, "aliases", None) or ()
    return spellings


def _negated(flag: str) -> str:
    """wait → no-wait, reward.wait → reward.no-wait, as tyro has it."""
    head, dot, tail = flag.rpartition(".")
    return f"{head}{dot}no-{tail}"


def _with_config_file(config_type: type, args: list[str]) -> list[str]:
    for i, arg in enumerate(args):
        if arg == "--config" and i + 1 < len(args):
            path, rest = args[i + 1], args[:i] + args[i + 2 :]
            break
        if arg.startswith("--config="):
            path, rest = arg.partition("=")[2], args[:i] + args[i + 1 :]
            break
    else:
        return args
    import yaml

    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected keys and values at the top level")
    given = {a.partition("=")[0].replace("_", "-") for a in rest}
    return _flags(path, config_type, loaded, given) + rest


def _flags(
    path: str, config_type: type, loaded: dict, given: set[str], prefix: str = ""
) -> list[str]:
    """The keys and values of a file as flags; what the command line says itself is left out."""
    hints = get_type_hints(config_type)
    flags: list[str] = []
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        if name not in hints:
            raise UserError(
                f"--config {path}: unknown key '{prefix}{key}'{did_you_mean(name, hints)}"
            )
        if is_dataclass(hints[name]) and isinstance(hints[name], type):
            if not isinstance(value, dict):
                raise UserError(f"--config {path}: '{prefix}{key}' must hold keys and values")
            flags += _flags(path, hints[name], value, given, f"{prefix}{name}.")
            continue
        flag = (prefix + name).replace("_", "-")
        if {f"--{flag}", "--" + _negated(flag)} & given or value is None:
            continue
        if isinstance(value, bool):
            flags.append("--" + (flag if value else _negated(flag)))
        elif isinstance(value, list):
            flags += [f"--{flag}", *map(str, value)]
        else:
            flags += [f"--{flag}", str(value)]
    return flags


def _report(args: list[str]) -> None:
    if len(args) != 1 or args[0].startswith("-"):
        print(
            "usage: heedful report DIR\n\nDraws DIR/results.json and its runs as DIR/report.html."
        )
        if args not in (["-h"], ["--help"]):
            raise UserError("report needs the folder of a demo")
        return
    from heedful.report import build

    print(build(Path(args[0])))


def _quiet_libraries() -> None:
    """transformers prints advisory warnings and its own bars; ours are the ones a user should see."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


if __name__ == "__main__":
    sys.exit(main())
