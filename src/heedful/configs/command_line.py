"""Words of a command line, and of the file that `--config` names, as a config."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from heedful import registry
from heedful.errors import UserError, did_you_mean
from heedful.parts import (
    as_flag,
    chosen,
    compose,
    flat,
    name_of,
    slots,
    takes_functions,
    why_unread,
)

# Flags of other trainers that have no counterpart here, and what to say instead.
ELSEWHERE = {
    "--gradient-accumulation-steps": "--batch-size is the whole batch of an optimiser step, and "
    "--micro-batch-tokens how much of it is in memory at once, which changes no gradient",
    "--use-peft": "--lora.rank 16 switches LoRA on",
}
KNOBS = "_knobs"  # behind a slot's name: the field of a form that holds the knobs of its part
HELP = {"-h", "--help"}


def parse(
    config_type: type, args: Sequence[str], *, prog: str, preset: Mapping[str, Any] | None = None
) -> Any:
    """Flags, after those of `--config FILE.yaml` that no flag repeats, as a config; a preset changes defaults."""
    preset, args = dict(preset or {}), list(args)
    path, args = _config_file(args)
    loaded = {} if path is None else _loaded(path)
    named = {str(key).replace("-", "_"): value for key, value in loaded.items()}
    choice = {**preset, **named, **_chosen_by(config_type, args)}
    form = _form(config_type, choice, preset)
    if path is not None:
        given = {a.partition("=")[0].replace("_", "-") for a in args}
        args = _flags(path, config_type, form, loaded, given, choice) + args
    _refuse_unknown(config_type, form, args, prog, choice)
    parsed, parts = _by_tyro(form, args, prog), chosen(config_type, choice)
    values: dict[str, Any] = {}
    for f in fields(form):
        value = getattr(parsed, f.name)
        if f.name.endswith(KNOBS):
            values |= {k.name: getattr(value, k.name) for k in fields(value) if k.name not in parts}
        else:
            values[f.name] = value
    return compose(config_type, values)


def preset_flags(config: Any, preset: Mapping[str, Any]) -> list[str]:
    """What a preset has set in a config, as one types it."""
    values = flat(config)
    return [_typed(k, v) for k, v in preset.items() if values.get(k) == v]


def _typed(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return as_flag(name) if value else "--" + _negated(name.replace("_", "-"))
    return f"{as_flag(name)} {value}"


def _chosen_by(config_type: type, args: Sequence[str]) -> dict[str, str]:
    """Slot → the part that the command line names, of the config and of its parts."""
    words = [w for arg in args for w in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    pairs = itertools.pairwise(words)
    flags = {flag[2:].replace("-", "_"): word for flag, word in pairs if flag.startswith("--")}
    return {slot: flags[slot] for slot in _all_slots(config_type) if slot in flags}


def _all_slots(config_type: type) -> set[str]:
    """The slots of a config, and of all parts that may fill them."""
    names = set(slots(config_type))
    for slot in list(names):
        for entry in registry.entries(slot).values():
            if isinstance(part := entry.load(), type) and is_dataclass(part):
                names |= _all_slots(part)
    return names


def _form(config_type: type, choice: Mapping[str, Any], preset: Mapping[str, Any]) -> type:
    """A dataclass as tyro can fill it in: in place of each slot its part's name, and the part's knobs beside it."""
    if not slots(config_type):
        return _with_defaults(config_type, preset)
    import tyro

    form_fields: list[Any] = []
    parts = chosen(config_type, choice)
    holders = {slot: kind for kind in (config_type, *parts.values()) for slot in slots(kind)}
    for slot, part in parts.items():
        knobs = _with_defaults(_without_slots(part), preset)
        plain = tyro.conf.arg(name="", prefix_name=False)
        form_fields += [
            _name_field(slot, part, holders[slot]),
            (slot + KNOBS, Annotated[knobs, plain], field(default_factory=knobs)),
        ]
    form = make_dataclass(
        config_type.__name__, form_fields, bases=(config_type,), frozen=True, kw_only=True
    )
    form.__doc__ = config_type.__doc__
    return _with_defaults(form, {k: v for k, v in preset.items() if k not in holders})


def _name_field(slot: str, part: type, holder: type) -> tuple[str, Any, Any]:
    """The field of a form that says which part is chosen; its help lists them."""
    import tyro

    about = _docstring_of(holder, slot)
    entries = registry.entries(slot).values()
    lines = [f"{e.name} ({e.help})" if e.help else e.name for e in entries]
    user_function = "; or package.module:function" * takes_functions(get_type_hints(holder)[slot])
    text = f"{about} One of: {'; '.join(lines)}{user_function}."
    name = getattr(part, "spec", None) or name_of_type(slot, part)
    return slot, Annotated[str, tyro.conf.arg(help=text)], field(default=name)


def name_of_type(slot: str, part: type) -> str:
    """The name of a part's type."""
    return name_of(slot, object.__new__(part))


def _docstring_of(holder: type, name: str) -> str:
    """What stands below a field in its class."""
    import inspect

    for cls in holder.__mro__:
        if name in getattr(cls, "__annotations__", {}):
            source = inspect.getsource(cls)
            docstring = re.search(
                rf'^\s+{name}: .*?\n\s+"""(.*?)"""', source, re.DOTALL | re.MULTILINE
            )
            return " ".join(docstring[1].split()) if docstring else ""
    return ""


def _without_slots(part: type) -> type:
    """A part's knobs alone, and nothing that checks them before its own parts are known."""
    import tyro

    hidden = [(s, Annotated[Any, tyro.conf.Suppress], field(default=None)) for s in slots(part)]
    space = {"__post_init__": lambda self: None}
    return make_dataclass(
        part.__name__, hidden, bases=(part,), frozen=True, kw_only=True, namespace=space
    )


def _with_defaults(kind: type, preset: Mapping[str, Any]) -> type:
    """The class with some other defaults, where it has these fields."""
    hints = get_type_hints(kind, include_extras=True)
    names = {f.name for f in fields(kind)}
    new_defaults: list[Any] = [
        (k, hints[k], field(default=v)) for k, v in preset.items() if k in names
    ]
    if not new_defaults:
        return kind
    changed = make_dataclass(kind.__name__, new_defaults, bases=(kind,), frozen=True, kw_only=True)
    changed.__doc__ = kind.__doc__
    return changed


def _refuse_unknown(
    config_type: type, form: type, args: Sequence[str], prog: str, choice: Mapping[str, Any]
) -> None:
    """Flags that nobody knows, that nobody reads beside the others, and needed ones that are missing."""
    spellings = _spellings(form)
    known = [flag for flags in spellings.values() for flag in flags]
    given = [arg.partition("=")[0].replace("_", "-") for arg in args if arg.startswith("--")]
    for flag in given:
        if flag in known or flag in HELP:
            continue
        if flag in ELSEWHERE:
            raise UserError(f"{prog} has no option {flag}: {ELSEWHERE[flag]}")
        if why := why_unread(config_type, _knob_of(config_type, flag), choice):
            raise UserError(f"{flag} would have no effect, because {why}; leave it out")
        raise UserError(f"{prog} has no option {flag}{did_you_mean(flag, known)}")
    needed = [
        f.name
        for f in fields(form)
        if f.default is MISSING and f.default_factory is MISSING and f.name in spellings
    ]
    missing = [spellings[n][0] for n in needed if not set(spellings[n]) & set(given)]
    if missing and not HELP & set(args):
        raise UserError(f"{prog} needs {', '.join(missing)}; see {prog} --help")


def _knob_of(config_type: type, flag: str) -> str:
    """The field that a flag sets in some part that was not chosen."""
    for slot in _all_slots(config_type):
        for entry in registry.entries(slot).values():
            if isinstance(part := entry.load(), type):
                for name, flags in _spellings(part).items():
                    if flag in flags:
                        return name
    return flag[2:].replace("-", "_")


def _by_tyro(form: type, args: Sequence[str], prog: str) -> Any:
    import tyro

    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(form, prog=prog, args=args)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # tyro draws a box of several lines; a sentence serves scripts and people better.
        text = " ".join(line.strip(" ─│╭╮╰╯") for line in stderr.getvalue().splitlines())
        words = re.split("Argument helptext|For full helptext", text)[0].split()
        reason = [word for word in words if word.strip("-")]  # a box without its drawing characters
        places = [f.name.upper() for f in fields(form) if f.name not in _spellings(form)]
        if reason[:2] == ["Required", "options"] and places:
            raise UserError(f"{prog} needs {places[0]}; see {prog} --help") from None
        # The box's heading and the sentence in it may begin alike.
        once = re.sub(r"^(.+) \1\b:?", r"\1:", " ".join(reason).strip(" -"), flags=re.IGNORECASE)
        once = re.sub(r"^Value error ", "", once).rstrip(".")
        raise UserError(f"{once}; see {prog} --help") from None


def _spellings(config_type: type, prefix: str = "") -> dict[str, list[str]]:
    """Field → its flags, the own name first; positional fields have none, nested ones have dots, knobs stand alone."""
    spellings: dict[str, list[str]] = {}
    hints = get_type_hints(config_type, include_extras=True)
    for name in (f.name for f in fields(config_type) if f.name not in slots(config_type)):
        hint = hints[name]
        metadata = getattr(hint, "__metadata__", ())
        if any("Suppress" in repr(mark) or "ositional" in repr(mark).lower() for mark in metadata):
            continue
        inner = getattr(hint, "__origin__", hint)
        if is_dataclass(inner) and isinstance(inner, type):
            spellings |= _spellings(inner, prefix if name.endswith(KNOBS) else f"{prefix}{name}.")
            continue
        flag = (prefix + name).replace("_", "-")
        spellings[prefix + name] = [f"--{flag}"]
        if inner is bool:
            spellings[prefix + name].append("--" + _negated(flag))
        for mark in metadata:
            spellings[prefix + name] += getattr(mark, "aliases", None) or ()
    return spellings


def _negated(flag: str) -> str:
    """wait → no-wait, reward.wait → reward.no-wait, as tyro has it."""
    head, dot, tail = flag.rpartition(".")
    return f"{head}{dot}no-{tail}"


def _config_file(args: list[str]) -> tuple[str | None, list[str]]:
    """The file that --config names, and the other words."""
    for i, arg in enumerate(args):
        if arg == "--config" and i + 1 < len(args):
            return args[i + 1], args[:i] + args[i + 2 :]
        if arg.startswith("--config="):
            return arg.partition("=")[2], args[:i] + args[i + 1 :]
    return None, args


def _loaded(path: str) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected keys and values at the top level")
    return loaded


def _flags(
    path: str,
    config_type: type,
    form: type,
    loaded: Mapping[str, Any],
    given: set[str],
    choice: Mapping[str, Any],
    prefix: str = "",
) -> list[str]:
    """The keys and values of a file as flags; what the command line says itself is left out."""
    hints = _fields_of_form(form)
    aliases = {
        flag[2:].replace("-", "_"): name
        for name, (_, *flags) in _spellings(form).items()
        for flag in flags
    }
    flags: list[str] = []
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        name = name if name in hints else aliases.get(name, name)
        if name not in hints:
            if not prefix and why_unread(config_type, name, choice):
                if not _is_usual(config_type, name, value):
                    flags.append(as_flag(name))  # which will be refused, with the reason
                continue
            raise UserError(
                f"--config {path}: unknown key '{prefix}{key}'{did_you_mean(name, hints)}"
            )
        if is_dataclass(hints[name]) and isinstance(hints[name], type):
            if not isinstance(value, dict):
                raise UserError(f"--config {path}: '{prefix}{key}' must hold keys and values")
            flags += _flags(
                path, config_type, hints[name], value, given, choice, f"{prefix}{name}."
            )
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


def _fields_of_form(form: type) -> dict[str, Any]:
    """Key of a file → type of its value."""
    hints: dict[str, Any] = {}
    own = {f.name for f in fields(form)} - set(slots(form))
    for name, hint in get_type_hints(form).items():
        if name not in own:
            continue
        hints |= _fields_of_form(hint) if name.endswith(KNOBS) else {name: hint}
    return hints


def _is_usual(config_type: type, knob: str, value: Any) -> bool:
    """Whether a knob that is not read has a default there: older versions wrote them all down."""
    parts = (e.load() for slot in _all_slots(config_type) for e in registry.entries(slot).values())
    return any(f.name == knob and f.default == value for part in parts for f in fields(part))
