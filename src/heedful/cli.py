"""The `heedful` command: words → a recipe's config → its run. No logic lives here.

What a command takes is in `recipes/configs/`, which imports nothing heavy: help and mistakes are answered at once. The
recipe itself is imported when it is to run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from heedful import __version__, ranks
from heedful.errors import Stopped, UserError, did_you_mean

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
    "merge": ("recipes.merge", "an adapter and its base → one whole model"),
    "sample": ("recipes.sample", "prompts → responses, best of n if asked"),
    "judge": ("recipes.judge", "responses → comparisons by simulated raters"),
    "score": ("recipes.score", "add rewards to responses"),
    "evaluate": ("recipes.evaluate", "gold scores, KL and win rate on held-out prompts"),
    "compare": ("recipes.compare", "several methods over seeds at equal cost: CONFIG.yaml"),
    "baselines": ("recipes.baselines", "what simple rules reach on comparisons"),
    "doctor": (
        "recipes.doctor",
        "what is wrong with a model, its template and data: MODEL [DATA]",
    ),
    "chat": ("recipes.chat", "talk to a model"),
    "report": ("report", "a demo's folder → report.html"),
}

# The methods of `heedful train`, by what they learn from. Presets of one recipe: each sets some of its fields.
METHODS: dict[str, dict[str, tuple[str, str]]] = {
    "prompts and a reward → a better policy, kept near by KL": {
        "ppo": ("recipes.policy", "clipped ratios and a critic"),
        "a2c": ("recipes.policy", "a critic, one step a round, the exact KL in the loss"),
        "reinforce": ("recipes.policy", "the plain gradient with a baseline, no critic"),
        "importance": ("recipes.policy", "importance-weighted steps on one large round"),
        "rloo": ("recipes.policy", "each response against the others to its prompt"),
        "grpo": ("recipes.policy", "rewards standardised within each prompt's group"),
        "dr_grpo": ("recipes.policy", "GRPO without its length and difficulty biases"),
        "dapo": ("recipes.policy", "GRPO with clip-higher and dynamic sampling"),
        "reinforce_pp": ("recipes.policy", "REINFORCE++: whitened over the round, clipped"),
        "gspo": ("recipes.policy", "GRPO with the ratio of whole responses"),
        "raft": ("recipes.policy", "imitate the best of each group"),
        "online_dpo": ("recipes.online", "judge pairs of its own samples, and learn from them"),
    },
    "comparisons → a better policy, directly": {
        "dpo": ("recipes.preference", "log-odds of the preferred response over the reference"),
        "cdpo": ("recipes.preference", "DPO that expects some labels to be wrong"),
        "robust": ("recipes.preference", "DPO made unbiased under label noise"),
        "ipo": ("recipes.preference", "squared distance of the margin to a target"),
        "kto": ("recipes.preference", "single responses that were liked or not"),
        "bco": ("recipes.preference", "likewise, as a classifier"),
        "apo_zero_unpaired": ("recipes.preference", "likewise, anchored at the reference"),
        "orpo": ("recipes.preference", "likelihood and odds, no reference"),
        "simpo": ("recipes.preference", "mean log-probs with a margin, no reference"),
        "cpo": ("recipes.preference", "likelihood and a log-ratio, no reference"),
        "slic": ("recipes.preference", "a hinge on log-probs and likelihood, no reference"),
        "rso": ("recipes.preference", "a hinge on DPO's margin"),
        "apo_zero": ("recipes.preference", "preferred up and rejected down, each by itself"),
        "apo_down": ("recipes.preference", "both down, the rejected further"),
        "exo": ("recipes.preference", "reverse KL to the preference"),
        "cpl": ("recipes.preference", "contrast of advantages, no reference"),
        "plackett_luce_dpo": ("recipes.preference", "DPO on whole rankings"),
        "preferred_ft": ("recipes.preference", "fine-tuning on what was preferred, a baseline"),
        "unlikelihood": ("recipes.preference", "likewise, and away from the rejected, a baseline"),
    },
}
COMMANDS |= {f"train {name}": row for rows in METHODS.values() for name, row in rows.items()}
# Flags of other trainers that have no counterpart here, and what to say instead.
ELSEWHERE = {
    "--gradient-accumulation-steps": "--batch-size is the whole batch of an optimiser step, and "
    "--micro-batch-tokens how much of it is in memory at once, which changes no gradient",
    "--use-peft": "--lora.rank 16 switches LoRA on",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 when the user has something to mend, 128 + n after signal n, 1 as
    `doctor` says."""
    args = sys.argv[1:] if argv is None else argv
    try:
        with ranks.launched():
            return _dispatch(args)
    except UserError as error:
        _say(error)
        return 2
    except Stopped as stop:
        _say(stop)
        return 128 + stop.signal
    except ranks.Lost as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print("heedful: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _say(error: Exception) -> None:
    if ranks.says_first(str(error)):
        print(f"heedful: {error}", file=sys.stderr)


def _dispatch(args: list[str]) -> int:
    if args and args[0] in ("--version", "-V"):
        print(f"heedful {__version__}")
        return 0
    words = 2 if args[:1] == ["train"] else 1
    name, rest = " ".join(args[:words]), args[words:]
    if name in COMMANDS:
        return _run(name, rest)
    wants_help = not args or args[-1] in ("-h", "--help") or args == ["train"]
    if wants_help and (words == 2 or not args or args[0] in ("-h", "--help")):
        print(_help("train " if args[:1] == ["train"] else ""))
        return 0
    raise UserError(
        f"there is no command '{name}'{did_you_mean(name, COMMANDS)}; see heedful --help"
    )


def _help(prefix: str) -> str:
    """All commands, or all of `heedful train`; there the methods have a section each."""
    lines = [
        f"usage: heedful {prefix}COMMAND [OPTIONS]",
        "",
        "Teach language models to heed people: every step of the loop is a command.",
        "",
    ]
    methods = {f"train {name}" for rows in METHODS.values() for name in rows}
    plain = [name for name in COMMANDS if name.startswith(prefix) and name not in methods]
    lines += [f"  {name:<16} {COMMANDS[name][1]}" for name in plain]
    for data, rows in METHODS.items():
        lines += ["", f"{data}:"]
        if prefix:
            lines += [f"  {f'train {name}':<24} {what}" for name, (_, what) in rows.items()]
        else:
            names = textwrap.wrap("train " + " | ".join(rows), 76, subsequent_indent="      ")
            lines += [f"  {line}" for line in names]
    lines += ["", "heedful COMMAND --help lists a command's options; --config FILE.yaml sets them."]
    return "\n".join(lines)


def _run(name: str, args: list[str]) -> int:
    """The exit code: what a recipe returns as a number, else 0."""
    if ranks.world() > 1 and not name.startswith("train "):
        raise UserError(f"{name} is no work for several processes; start it without torchrun")
    if name == "report":
        _report(args)
        return 0
    _quiet_libraries()
    if name == "iterate" and args and not args[0].startswith("-"):
        args = ["--config", *args]
    module = COMMANDS[name][0]
    flags = importlib.import_module(f"heedful.configs.{module.rpartition('.')[2]}")
    preset = getattr(flags, "PRESETS", {}).get(name.split()[-1], {})
    config = parse(flags.Config, args, prog=f"heedful {name}", preset=preset)
    _refuse(flags, config, preset)
    ranks.check_device(getattr(config, "device", "cpu"))
    if said := [_as_flag(k, v) for k, v in preset.items() if getattr(config, k) == v]:
        print(f"{name} sets {' '.join(said)}", file=sys.stderr)
    recipe = importlib.import_module(f"heedful.{module}")
    result = recipe.run(config)
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

        print(build_compare(result))
        return recipe.failures(result)
    elif isinstance(result, Path):
        print(result)
    elif result is not None:
        import json

        print(json.dumps(result, indent=1, ensure_ascii=False))
    return 0


def _refuse(flags: Any, config: Any, preset: Mapping[str, Any]) -> None:
    """All that can be said against a config before anything heavy is imported."""
    from heedful.configs.common import refuse_missing, refuse_unread

    if hasattr(flags, "unread"):
        refuse_unread(config, preset, flags.unread(config))
    if hasattr(flags, "refuse_nonsense"):
        flags.refuse_nonsense(config)
    refuse_missing(config)


def _as_flag(field: str, value: Any) -> str:
    """A field as one types it."""
    flag = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--{_negated(flag)}"
    return f"--{flag} {value}"


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
        if flag in ELSEWHERE and flag not in known:
            raise UserError(f"{prog} has no option {flag}: {ELSEWHERE[flag]}")
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
        words = re.split("Argument helptext|For full helptext", text)[0].split()
        reason = [word for word in words if word.strip("-")]  # a box without its drawing characters
        places = [f.name.upper() for f in fields(config_type) if f.name not in spellings]
        if reason[:2] == ["Required", "options"] and places:
            raise UserError(f"{prog} needs {places[0]}; see {prog} --help") from None
        # The box's heading and the sentence in it may begin alike.
        said_once = re.sub(r"^(.+) \1:", r"\1:", " ".join(reason).strip(" -"))
        raise UserError(f"{said_once}; see {prog} --help") from None


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
