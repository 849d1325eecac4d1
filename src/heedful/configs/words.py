"""What somebody typed, or wrote into a file: flags with their values, and those of other trainers in our words."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_args, get_origin

from heedful import registry
from heedful.configs.elsewhere import Row, rows
from heedful.errors import UserError
from heedful.fields import flag_of, types_of
from heedful.tagged import slots

BATCH = (
    "--per-device-train-batch-size",
    "--gradient-accumulation-steps",
    "--steps-per-generation",
    "--num-mini-batches",
)
# Beside what a method's own name sets, another trainer's usual value is no other loss.
OWN_LOSS = {"cpo": ("sigmoid",), "kto": ("kto",), "bco": ("bco",)}
FILES = (
    "data",
    "eval_data",
    "dataset_name",
    "dataset",
    "eval_dataset",
)  # keys that name files of rows
FLAG = re.compile(r"--[^\s=]+(=|$)|-h$")  # `--flags '--steps 3'` has one, and its value
STAGES = {"rm": "reward", "pt": "pretrain"}
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off", "none", "null")


@dataclass(frozen=True)
class Word:
    """A flag with its values; before the first flag, a flag of no letters. `typed` is how it was written."""

    flag: str
    values: tuple[str, ...]
    typed: str
    file: str | None = None
    joined: bool = False
    usual: bool = False  # gives way to what was said of the same field expressly
    note: str = ""  # what other trainers' words have become

    def words(self) -> list[str]:
        """As it is typed."""
        if len(self.values) == 1 and (self.joined or self.values[0].startswith("-")) and self.flag:
            return [f"{self.flag}={self.values[0]}"]
        return [*([self.flag] if self.flag else ()), *self.values]


def split(args: Sequence[str]) -> list[Word]:
    """The words of a command line."""
    words: list[Word] = []
    for arg in args:
        if FLAG.match(arg):
            head, equals, value = arg.partition("=")
            values = (value,) if equals else ()
            words.append(Word(head.replace("_", "-"), values, head, joined=bool(equals)))
        elif words and not words[-1].joined:
            words[-1] = replace(words[-1], values=(*words[-1].values, arg))
        else:
            words.append(Word("", (arg,), arg))
    return words


def from_file(path: str, loaded: Mapping[str, Any], prefix: str = "") -> list[Word]:
    """The keys and values of a file; what says nothing is left out."""
    words: list[Word] = []
    for key, value in loaded.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in FILES:
            words += from_file(path, value, f"{name}.")
        elif value is not None:
            items = value if isinstance(value, list) else [value]
            _plain_values(path, name, items)
            values = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in items)
            words.append(Word("--" + name.replace("_", "-"), values, name, path))
    return words


def _plain_values(path: str, name: str, items: Sequence[Any]) -> None:
    """UserError for a list of objects, but for keys whose row of the table answers whatever they hold."""
    entry = next((item for item in items if isinstance(item, Mapping)), None)
    row = rows().get("--" + name.partition(".")[0].replace("_", "-"))
    if entry is None or (row is not None and row.says):
        return
    reason = f"--config {path}: '{name}' holds keys and values where a plain value is expected"
    if name in FILES:
        file, share = entry.get("path", "file"), entry.get("weight", 0.5)
        reason += f"; write {file}@{share} for a share of a file's rows, and --columns prompt=… for its columns"
    raise UserError(reason)


@functools.cache
def names_of(config_type: type) -> dict[str, str]:
    """Flag → field, dotted, of a config and of all parts that may fill its slots."""
    names = dict(_names(config_type, ""))
    for slot in slots(config_type):
        for entry in registry.entries(slot).values():
            if isinstance(part := entry.load(), type) and is_dataclass(part):
                names = names_of(part) | names
    return names


def _names(kind: Any, prefix: str) -> dict[str, str]:
    names: dict[str, str] = {}
    hints = types_of(kind)
    for f in fields(kind):
        name, flag = prefix + f.name, flag_of(kind, f.name)
        if is_dataclass(hint := hints[f.name]) and f.name not in slots(kind):
            names |= _names(hint, f"{name}.")
            continue
        if flag.positional or flag.hidden:
            continue
        for spelling in spellings(name, hint, flag.aliases):
            names[spelling] = name
    return names


def spellings(name: str, hint: Any, aliases: Sequence[str]) -> list[str]:
    """The flags of a field, its own name first; nested ones have dots."""
    flags = [f"--{name.replace('_', '-')}", *aliases]
    return [*flags, *(f"--{negated(flag[2:])}" for flag in flags if hint is bool)]


def negated(flag: str) -> str:
    """wait → no-wait, reward.wait → reward.no-wait, as tyro has it."""
    head, dot, tail = flag.rpartition(".")
    return f"{head}{dot}no-{tail}"


def in_our_words(
    words: Sequence[Word],
    config_type: type,
    prog: str,
    preset: Mapping[str, Any],
    world: int = 1,
) -> tuple[list[Word], list[str]]:
    """The flags and values of other trainers as ours, with a line for each that is worth telling.

    UserError, in one sentence, for what has no counterpart. What the command line says wins over a file.
    """
    names, several = names_of(config_type), _several(config_type)
    words = _placed(list(words), names)
    for here in (None, *{w.file for w in words if w.file}):
        _refuse_contradictions([w for w in words if w.flag and w.file == here], names, several)
    words, notes = _batch(words, names, prog, world)
    ours: list[Word] = []
    for word in words:
        name = names.get(word.flag)
        if name is not None:
            ours.append(_valued(word, name, preset))
        elif (flag := word.flag.partition(".")[0]) in rows():  # keys of keys, in a file
            translated = _translated(word, rows()[flag], names, prog, notes)
            ours += [_valued(w, names.get(w.flag, ""), preset) for w in translated]
        else:
            ours.append(word)
    ours = [_as_switch(word, names) for word in ours]
    typed = {names.get(w.flag, w.flag) for w in ours if w.file is None and not w.usual}
    expressly = {names.get(w.flag, w.flag) for w in ours if not w.usual}
    kept = [
        w
        for w in ours
        if not (w.file and names.get(w.flag, w.flag) in typed)
        and not (w.usual and names.get(w.flag, w.flag) in expressly)
    ]
    return _summed(kept, names, several), [*notes, *(w.note for w in kept if w.note)]


def _refuse_contradictions(
    words: Sequence[Word], names: Mapping[str, str], several: Collection[str]
) -> None:
    """UserError for one setting that is said twice in one place, under one name or two, and not the same."""
    said: dict[str, Word] = {}
    for word in words:
        name = names.get(word.flag, word.flag)
        before = said.setdefault(name, word)
        same = (before.values, _negates(before, names)) == (word.values, _negates(word, names))
        if not same and not (name in several and before.typed == word.typed):
            one, other = (" ".join([w.typed, *w.values]) for w in (before, word))
            raise UserError(f"{one} and {other} are one setting; leave one of them out")


def _negates(word: Word, names: Mapping[str, str]) -> bool:
    """Whether a flag is --no-quiet, of a setting called quiet."""
    head, dot, tail = word.flag[2:].rpartition(".")
    plain = f"--{head}{dot}{tail.removeprefix('no-')}"
    return plain != word.flag and names.get(plain) == names.get(word.flag)


@functools.cache
def _several(kind: Any, prefix: str = "") -> frozenset[str]:
    """The fields, dotted, that hold several values."""
    hints, own = types_of(kind), slots(kind)
    inner = (
        _several(hints[f.name], f"{prefix}{f.name}.")
        for f in fields(kind)
        if is_dataclass(hints[f.name]) and f.name not in own
    )
    these = (prefix + name for name, hint in hints.items() if _is_tuple(hint))
    return frozenset(these).union(*inner)


def _is_tuple(hint: Any) -> bool:
    """Of one kind of value, perhaps beside a single one."""
    return any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))


def _translated(
    word: Word, row: Row, names: Mapping[str, str], prog: str, notes: list[str]
) -> list[Word]:
    value, by_value = " ".join(word.values), row.by_value or {}
    becomes = by_value.get(value.lower() or "true")
    if word.flag == "--stage" and prog == f"heedful train {STAGES.get(value, value)}":
        return []
    if becomes is None and value.lower() in FALSE:
        return []  # what is switched off is not asked for
    if row.ignored:
        notes.append(f"{word.typed} is {row.says}")
        return []
    if becomes is None:
        becomes = next((w for w in row.becomes if w.split()[0] in names), None)
    if becomes == "":
        return []
    if becomes is None or becomes.split()[0] not in names:
        words = filter(None, (*row.becomes, *by_value.values()))
        flags = " or ".join(dict.fromkeys(w.split()[0] for w in words))
        reason = row.says or f"it is {flags} elsewhere, which {prog} does not have"
        raise UserError(f"{prog} has no option {word.typed}: {reason}")
    flag, *rest = becomes.split()
    values = [
        v for piece in rest for v in (word.values if piece == "X" else [_filled(piece, value)])
    ]
    note = f"{' '.join([word.typed, *word.values])}: {' '.join([flag, *values])}"
    # A number that nobody typed, such as a rank of 16 for `finetuning_type: lora`, gives way to one that somebody did;
    # 0 switches something off, and does not.
    made_up = any(v.isdigit() and int(v) for v in values)
    usual = "X" not in becomes and (not row.by_value or made_up)
    return [Word(flag, tuple(values), word.typed, word.file, usual=usual, note=note)]


def _filled(piece: str, value: str) -> str:
    return re.sub(r"\bX\b", lambda _: value, piece)


def _valued(word: Word, name: str, preset: Mapping[str, Any]) -> Word:
    """Values that others call otherwise."""
    values = []
    for value in word.values:
        own = str(preset.get("loss", ""))
        row = rows().get(f"--{name.replace('_', '-')} {value}")
        if name == "loss" and value in OWN_LOSS.get(own, ()):
            value, row = own, None
        elif row is not None and not row.becomes:
            raise UserError(f"{word.typed} {value}: {row.says}")
        values += row.becomes if row else (value,)
    if name == "loss" and len(values) > 1:
        raise UserError(f"{word.typed} {' '.join(values)}: write a sum, such as dpo+0.2*ipo")
    return replace(word, values=tuple(values))


def _as_switch(word: Word, names: Mapping[str, str]) -> Word:
    """`--quiet true` as `--quiet`, `--quiet false` as `--no-quiet`."""
    no = "--" + negated(word.flag[2:])
    if no not in names or len(word.values) != 1 or word.values[0].lower() not in TRUE + FALSE:
        return word
    flag = word.flag if word.values[0].lower() in TRUE else no
    return replace(word, flag=flag, values=(), joined=False)


def _summed(words: list[Word], names: Mapping[str, str], several: Collection[str]) -> list[Word]:
    """Words of one setting that holds several values are one: `--reward a --reward b` is `--reward a b`."""
    once: dict[Any, Word] = {}
    for i, word in enumerate(words):
        name = names.get(word.flag)
        key = name if name in several else i
        values = (*once[key].values, *word.values) if key in once else word.values
        once[key] = replace(
            once.get(key, word), values=values, joined=len(values) == 1 and word.joined
        )
    return list(once.values())


def _batch(
    words: list[Word], names: Mapping[str, str], prog: str, world: int
) -> tuple[list[Word], list[str]]:
    """A batch for each process and pass as the whole one: × accumulation × processes."""
    given = {w.flag: w for w in words if w.flag in BATCH}
    if BATCH[0] not in given or "--batch-size" not in names:
        idle = BATCH[1:] if "--batch-size" in names else ()
        ones = [w for f in idle if (w := given.get(f)) is not None and w.values == ("1",)]
        if rest := [given[f] for f in idle if f in given and given[f] not in ones]:
            raise UserError(f"{prog} has no option {rest[0].typed}: {rows()[BATCH[1]].says}")
        return [w for w in words if w not in ones], []
    numbers = {flag: _whole(word) for flag, word in given.items()}
    passes = numbers.get(BATCH[1], 1)
    step = numbers[BATCH[0]] * passes * world
    first = given[BATCH[0]]
    shown = " × ".join(f"{given[f].typed} {numbers[f]}" for f in BATCH[:2] if f in given)
    shown += f" × {world} processes" * (world > 1)
    new = [Word("--batch-size", (str(step),), first.typed, first.file)]
    if "--minibatch-size" in names:
        rounds = step * numbers.get(BATCH[3], 1)
        if BATCH[2] in numbers:
            rounds = numbers[BATCH[0]] * numbers[BATCH[2]] * world
        new[0] = replace(new[0], values=(str(rounds),))
        new.append(Word("--minibatch-size", (str(step),), first.typed, first.file, usual=True))
    note = f"{shown}: {' '.join(piece for w in new for piece in w.words())}"
    return [w for w in words if w.flag not in BATCH] + new, [note]


def _placed(words: list[Word], names: Mapping[str, str]) -> list[Word]:
    """`--push-to-hub` is a switch elsewhere, beside `--hub-model-id`; here it says the place."""
    switches = [
        w for w in words
        if w.flag == "--push-to-hub" and " ".join(w.values).lower() in ("", *TRUE, *FALSE)
    ]  # fmt: skip
    asked = [w for w in switches if " ".join(w.values).lower() not in FALSE]
    if asked and "--push-to-hub" in names and all(w.flag != "--hub-model-id" for w in words):
        raise UserError(f"{asked[0].typed}: say where, as {asked[0].typed} ORG/NAME")
    return [w for w in words if w not in switches]


def _whole(word: Word) -> int:
    try:
        number = int(" ".join(word.values))
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{word.typed} {' '.join(word.values)}: must be a whole number, at least 1")
    return number


def as_typed(sentence: str, words: Sequence[Word], config_type: type) -> str:
    """A sentence about our flags with the names that were typed."""
    names = names_of(config_type)
    for word in words:
        name, typed = names.get(word.flag), word.typed.replace("_", "-")
        own = "--" + (name or "").replace("_", "-")
        if name is not None and not word.file and typed != own and typed not in sentence:
            sentence = re.sub(rf"(?<![\w.-]){re.escape(own)}(?![\w.-])", typed, sentence)
    return sentence
