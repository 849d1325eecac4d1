"""Words of a command line, and of the file that `--config` names, as a config.

The words are put into ours first (`configs/words.py`); tyro then parses a form, a flat dataclass that is made anew for
each command line: a config's fields, in place of each slot its part's name, and beside it the part's knobs.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from heedful import registry
from heedful.configs.common import Training
from heedful.configs.config_file import config_file, loaded_from
from heedful.configs.elsewhere import rows
from heedful.configs.words import (
    Word,
    as_typed,
    from_file,
    in_our_words,
    names_of,
    spellings,
    split,
)
from heedful.errors import UserError, did_you_mean
from heedful.fields import flag_of, types_of
from heedful.tagged import (
    as_flag,
    chosen,
    compose,
    flat,
    name_of,
    slots,
    takes_functions,
    why_unread,
)

HELP = {"-h", "--help"}
KINDS = {  # by what stands in tyro's errors
    "int()": "a whole number", "float:": "a number", "valid parse for arguments": "numbers",
}  # fmt: skip
PLAIN = {int | None: "INT", float | None: "FLOAT", str | None: "STR", Path | None: "PATH"}


@dataclass(frozen=True)
class Parsed:
    """A config, what was said in other words than ours, and how its flags were typed."""

    config: Any
    notes: list[str]
    words: list[Word]

    def as_typed(self, sentence: str) -> str:
        """A sentence with the names that were typed."""
        return as_typed(sentence, self.words, type(self.config))


def parse(
    config_type: type,
    args: Sequence[str],
    *,
    prog: str,
    preset: Mapping[str, Any] | None = None,
    world: int = 1,
    about: str = "",
    unread: Iterable[str] = (),
) -> Parsed:
    """Flags, after those of `--config FILE.yaml` that no flag repeats, as a config; a preset changes defaults.

    `world` is how many processes train together. Help begins with `about`, and leaves out the fields `unread`, which
    nothing reads beside the preset.
    """
    preset, args = dict(preset or {}), list(args)
    path, args = config_file(args)
    loaded = {} if path is None else loaded_from(path, prog)
    words = [*from_file(path or "", loaded), *split(args)]
    try:
        words, notes = in_our_words(words, config_type, prog, preset, world)
        return Parsed(_config(config_type, words, prog, preset, about, unread), notes, words)
    except UserError as error:
        raise UserError(as_typed(str(error), words, config_type)) from None


def _config(
    config_type: type,
    words: list[Word],
    prog: str,
    preset: Mapping[str, Any],
    about: str,
    unread: Iterable[str],
) -> Any:
    names = names_of(config_type)
    said = {names.get(w.flag, w.flag): w.values[0] for w in words if w.values}
    choice = {**preset, **{slot: said[slot] for slot in _all_slots(config_type) if slot in said}}
    wants_help = any(w.flag in HELP for w in words)
    hidden = set(unread) if wants_help else set()
    form = _form(config_type, choice, preset, hidden, helped=wants_help)
    form.__doc__ = about or config_type.__doc__
    words = _read(words, config_type, form, prog, choice)
    args = [arg for word in words for arg in word.words()]
    parsed = _by_tyro(form, args, prog)
    values = {f.name: getattr(parsed, f.name) for f in fields(form)}
    for name, kind in _nested(config_type).items():
        inner = values[name]
        values[name] = kind(**{f.name: getattr(inner, f.name) for f in fields(kind)})
    return compose(config_type, values)


def preset_flags(config: Any, preset: Mapping[str, Any]) -> list[str]:
    """What a preset has set in a config, as one types it."""
    values = flat(config)
    return preset_flags_of({k: v for k, v in preset.items() if values.get(k) == v})


def preset_flags_of(preset: Mapping[str, Any]) -> list[str]:
    """What a preset sets, as one types it."""
    return [_typed(k, v) for k, v in preset.items()]


def _typed(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return as_flag(name) if value else "--no-" + name.replace("_", "-")
    return f"{as_flag(name)} {value}"


def _all_slots(config_type: type) -> set[str]:
    """The slots of a config, and of all parts that may fill them."""
    names = set(slots(config_type))
    for slot in list(names):
        for entry in registry.entries(slot).values():
            if isinstance(part := entry.load(), type) and is_dataclass(part):
                names |= _all_slots(part)
    return names


# ── the form ─────────────────────────────────────────────────────────────────────────────────────


def _nested(kind: Any) -> dict[str, Any]:
    """The fields that are dataclasses of their own and no parts."""
    hints, named = types_of(kind), slots(kind)
    return {
        f.name: hints[f.name]
        for f in fields(kind)
        if is_dataclass(hints[f.name]) and f.name not in named
    }


def _form(
    config_type: type,
    choice: Mapping[str, Any],
    preset: Mapping[str, Any],
    hidden: set[str] = frozenset(),  # type: ignore[assignment]
    *,
    helped: bool,
) -> type:
    """What tyro fills in: what is needed first, then a command's own fields, then those it shares with others."""
    parts = chosen(config_type, choice)
    found: list[tuple[int, str, Any, Any]] = []

    def add(kind: Any, rank: int | None) -> None:
        hints, named, inner = types_of(kind), slots(kind), _nested(kind)
        for f in fields(kind):
            place = _place(kind, f) if rank is None else rank
            if f.name in named:
                part = parts[f.name]
                found.append(
                    (place, f.name, _slot_hint(kind, f.name, helped), _default_of(f, part))
                )
                add(part, place)
            elif f.name in inner:
                form = _form(inner[f.name], {}, {}, helped=helped)
                found.append((place, f.name, form, field(default_factory=form)))
            elif f.name not in hidden and not flag_of(kind, f.name).hidden:
                hint = _hint(kind, f.name, hints[f.name], helped)
                default = field(default=preset[f.name]) if f.name in preset else _plain(f)
                found.append((place, f.name, hint, default))

    add(config_type, None)
    found.sort(key=lambda row: row[0])
    return make_dataclass(
        config_type.__name__, [row[1:] for row in found], frozen=True, kw_only=True
    )


def _place(kind: type, f: Field) -> int:
    """Needed fields come before all others, those of base classes behind."""
    if f.default is MISSING and f.default_factory is MISSING:
        return -1
    owners = [i for i, c in enumerate(kind.__mro__) if f.name in inspect.get_annotations(c)]
    return owners[-1] + 100 * (kind.__mro__[owners[-1]] is Training)


def _plain(f: Field) -> Any:
    if f.default_factory is not MISSING:
        return field(default_factory=f.default_factory)
    return field() if f.default is MISSING else field(default=f.default)


def _default_of(f: Field, part: type) -> Any:
    return field(default=getattr(part, "spec", None) or name_of(f.name, object.__new__(part)))


def _hint(kind: type, name: str, hint: Any, helped: bool) -> Any:
    """A field's type with what tyro is to know of it."""
    import tyro

    flag = flag_of(kind, name)
    text = (flag.help or _docstring(kind, name)) if helped else ""
    extras: list[Any] = [tyro.conf.Positional] if flag.positional else []
    metavar = flag.metavar or PLAIN.get(hint)  # not `{None}|INT`: who leaves it out says None
    about = tyro.conf.arg(aliases=flag.aliases or None, metavar=metavar, help=text)
    return Annotated[(hint, about, *extras)]  # type: ignore[return-value]


def _slot_hint(holder: type, slot: str, helped: bool) -> Any:
    """The field of a form that says which part is chosen; its help lists them."""
    import tyro

    if not helped:
        return str
    entries = registry.entries(slot).values()
    lines = [f"{e.name} ({e.help})" if e.help else e.name for e in entries]
    user_function = "; or package.module:function" * takes_functions(types_of(holder)[slot])
    text = f"{_docstring(holder, slot)} One of: {'; '.join(lines)}{user_function}."
    return Annotated[str, tyro.conf.arg(help=text)]


def _docstring(holder: type, name: str) -> str:
    """What stands below a field in its class, or in the nearest base class that says something."""
    return next((text for cls in holder.__mro__ if (text := _docstrings(cls).get(name))), "")


@functools.cache
def _docstrings(cls: type) -> dict[str, str]:
    if cls.__module__ == "builtins" or not inspect.get_annotations(cls):
        return {}
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    except (OSError, TypeError):  # made of a user's function
        return {}
    found = {}
    for line, below in itertools.pairwise(body):
        text = getattr(getattr(below, "value", None), "value", None)
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(below, ast.Expr)
            and isinstance(text, str)
        ):
            found[ast.unparse(line.target)] = " ".join(text.split())
    return found


# ── what is read of it ───────────────────────────────────────────────────────────────────────────


def _flags_of(form: Any, prefix: str = "") -> dict[str, list[str]]:
    """Field → its flags, the own name first; positional fields have none."""
    found: dict[str, list[str]] = {}
    hints = get_type_hints(form, include_extras=True)
    for f in fields(form):
        hint = hints[f.name]
        marks = getattr(hint, "__metadata__", ())
        if is_dataclass(hint):
            found |= _flags_of(hint, f"{f.name}.")
        elif not any("ositional" in repr(mark).lower() for mark in marks):
            aliases = [a for mark in marks for a in getattr(mark, "aliases", None) or ()]
            inner = getattr(hint, "__origin__", hint)
            found[prefix + f.name] = spellings(prefix + f.name, inner, aliases)
    return found


def _read(
    words: list[Word], config_type: type, form: Any, prog: str, choice: Mapping[str, Any]
) -> list[Word]:
    """The words without what says nothing. UserError for flags that nobody knows or reads, and for missing ones."""
    flags = _flags_of(form)
    known = {flag for of_field in flags.values() for flag in of_field}
    given = {w.flag for w in words}
    wanted = []
    for word in words:
        if word.flag in known or not word.flag or word.flag in HELP:
            wanted.append(word)
            continue
        name = names_of(config_type).get(word.flag, word.flag[2:].replace("-", "_"))
        why = why_unread(config_type, name, choice)
        if why and word.file and _is_usual(config_type, name, word.values):
            continue  # older versions wrote them all down
        if why:
            raise UserError(f"{word.flag} would have no effect, because {why}; leave it out")
        if word.file:
            raise UserError(_unknown_key(word, form, flags))
        raise UserError(f"{prog} has no option {word.flag}{_nearest(word.flag, known)}")
    needed = [
        f.name
        for f in fields(form)
        if f.default is MISSING and f.default_factory is MISSING and f.name in flags
    ]
    missing = [flags[n][0] for n in needed if not set(flags[n]) & given]
    if missing and not HELP & given:
        raise UserError(f"{prog} needs {', '.join(missing)}; see {prog} --help")
    return wanted


def _nearest(flag: str, known: Iterable[str]) -> str:
    """A flag that was probably meant, ours or one that is translated."""
    flags = (*known, *(row for row in rows() if " " not in row))
    near = [f[2:] for f in flags if f[2:3] == flag[2:3]]  # slips of the hand come later in a word
    hint = did_you_mean(flag[2:], near, cutoff=0.7)
    return hint.replace("'", "'--", 1) if hint else ""


def _unknown_key(word: Word, form: Any, flags: Mapping[str, list[str]]) -> str:
    where = f"--config {word.file}"
    if word.typed in {name.partition(".")[0] for name in flags if "." in name}:
        return f"{where}: '{word.typed}' must hold keys and values"
    known = {name for f in flags.values() for name in (f[0][2:].replace("-", "_"),)}
    return f"{where}: unknown key '{word.typed}'{did_you_mean(word.typed, known, cutoff=0.7)}"


def _is_usual(config_type: type, knob: str, values: Sequence[str]) -> bool:
    """Whether a knob that is not read has a default there."""
    parts = (e.load() for slot in _all_slots(config_type) for e in registry.entries(slot).values())
    usual = {str(f.default).lower() for part in parts for f in fields(part) if f.name == knob}
    return " ".join(values).lower() in usual


def _by_tyro(form: Any, args: Sequence[str], prog: str) -> Any:
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
        flags = _flags_of(form)
        places = [f.name.upper() for f in fields(form) if f.name not in flags]
        if reason[:2] == ["Required", "options"] and places:
            given = len(list(itertools.takewhile(lambda arg: not arg.startswith("--"), args)))
            needed = places[min(given, len(places) - 1)]
            raise UserError(f"{prog} needs {needed}; see {prog} --help") from None
        # The box's heading and the sentence in it may begin alike.
        once = re.sub(r"^(.+) \1\b:?", r"\1:", " ".join(reason).strip(" -"), flags=re.IGNORECASE)
        once = _plainly(re.sub(r"^Value error ", "", once).rstrip("."), args)
        raise UserError(f"{once}; see {prog} --help") from None


def _plainly(said: str, typed: Sequence[str]) -> str:
    """What tyro says of a value, without Python's words for it and with the flag as it stands among the words."""
    # `--lr=` has a value, and so has `--lr=-1`, which is how words are handed to tyro.
    pairs = (arg.split("=", 1) if arg.startswith("--") else [arg] for arg in typed)
    args = [part for pair in pairs for part in pair]

    def flag_in(names: str) -> str:
        return next((name for name in names.split("/") if name in args), names)

    if found := re.match(
        r"Invalid choice: '(.*?)' for argument '(.*?)'\. Expected one of (.*)", said
    ):
        choices = re.findall(r"'([^']*)'", found[3])
        flag = f"{flag_in(found[2])} " if found[2].startswith("-") else ""
        return f"{flag}{found[1]}: expected {', '.join(choices)}{did_you_mean(found[1], choices)}"
    if found := re.match(r"Missing argument Missing value for argument '(.*?)'", said):
        return f"{flag_in(found[1])} needs a value"
    if not (found := re.match(r"Error parsing (\S+): ", said)) or flag_in(found[1]) not in args:
        return said
    flag = flag_in(found[1])
    behind = itertools.takewhile(lambda arg: not arg.startswith("--"), args[args.index(flag) + 1 :])
    wanted = next((words for sign, words in KINDS.items() if sign in said), "")
    value = " ".join(behind) or "''"
    return f"{flag} {value}: expected {wanted}" if wanted else said
