"""Tagged parts of a config: a field whose value is one of several small frozen dataclasses, each with its own knobs.

A field marked `SLOT` holds a part of the kind (see `registry`) that has the field's name. On the command line, in YAML
files and in a saved config parts are flat: the field holds the part's name, and the knobs of the part that was chosen
stand beside it, `--advantage gae --lam 0.9`. A knob of a part that was not chosen has no place to go, and is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from typing import Any, get_type_hints

from heedful import registry
from heedful.errors import UserError
from heedful.fields import SLOT, refuse_out_of_range, types_of


@dataclass(frozen=True)
class ReadWith:
    """In a field's annotation: it is read only beside another one that is set, or with `unset` one that is not."""

    other: str
    unset: bool = False
    reason: str = ""  # in place of the usual sentence

    def why_unread(self, holder: Any) -> str | None:
        """A reason, or None where the field is read."""
        if bool(getattr(holder, self.other)) != self.unset:
            return None
        return self.reason or (
            f"{as_flag(self.other)} is set" if self.unset else f"there is no {as_flag(self.other)}"
        )


def as_flag(name: str) -> str:
    """A field's name as one types it."""
    return "--" + name.replace("_", "-")


def slots(config_type: type) -> list[str]:
    """The fields that hold parts."""
    hints = types_of(config_type, marked=True)
    return [
        f.name for f in fields(config_type) if SLOT in getattr(hints[f.name], "__metadata__", ())
    ]


def part_type(kind: str, spec: str, base: type) -> type:
    """The dataclass of a name, or of a user's `package.module:function`, whose keyword parameters are its knobs."""
    value = registry.load(kind, spec, as_flag(kind))
    if isinstance(value, type):
        return value
    if not takes_functions(base):
        names = ", ".join(registry.entries(kind))
        raise UserError(f"{as_flag(kind)} takes no function; it is one of {names}")
    return _part_of(value, spec, base)


def takes_functions(base: type) -> bool:
    """Whether parts of this kind are called, so that a plain function may be one."""
    return "__call__" in vars(base)


def _part_of(function: Any, spec: str, base: type) -> type:
    """A dataclass that calls a function with its fields; what else a part of its kind has, it has from `base`."""
    signature = inspect.signature(function)
    knobs = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    for knob in knobs:
        if knob.default is knob.empty or isinstance(knob.default, list | dict | set):
            raise UserError(f"'{spec}': give its parameter {knob.name} a default that is no list")
    inputs = list(inspect.signature(vars(base)["__call__"]).parameters)[1:]
    try:
        signature.bind(*inputs)
    except TypeError as error:
        raise UserError(
            f"'{spec}' is called with ({', '.join(inputs)}), and its knobs stand behind a bare *: {error}"
        ) from None

    def call(self: Any, *inputs: Any) -> Any:
        return function(*inputs, **{knob.name: getattr(self, knob.name) for knob in knobs})

    hints = get_type_hints(function)
    knob_fields = [
        (k.name, hints.get(k.name, type(k.default)), field(default=k.default)) for k in knobs
    ]
    space = {"__call__": call, "spec": spec, "__doc__": function.__doc__ or spec}
    return make_dataclass(
        "UserPart", knob_fields, bases=(base,), frozen=True, kw_only=True, namespace=space
    )


def name_of(kind: str, part: Any) -> str:
    """The name by which a part is chosen."""
    if spec := getattr(part, "spec", None):
        return spec
    target = f"{type(part).__module__}:{type(part).__qualname__}"
    return next((name for name, e in registry.entries(kind).items() if e.target == target), target)


def holders(config: Any) -> Iterator[Any]:
    """A config, its parts, and theirs."""
    yield config
    for slot in slots(type(config)):
        yield from holders(getattr(config, slot))


def flat(config: Any) -> dict[str, Any]:
    """The fields of a config, parts by their names and their knobs beside them: what `compose` reads."""
    values: dict[str, Any] = {}
    for holder in holders(config):
        named = slots(type(holder))
        values |= {f.name: getattr(holder, f.name) for f in fields(holder)}
        values |= {slot: name_of(slot, getattr(holder, slot)) for slot in named}
    return values


def chosen(config_type: type, given: Mapping[str, Any]) -> dict[str, type]:
    """Slot → type of the part that `given`, or else the default, chooses; the slots of parts behind their part's."""
    types: dict[str, type] = {}
    defaults = {f.name: f.default for f in fields(config_type)}
    bases = types_of(config_type)
    for slot in slots(config_type):
        default, spec = type(defaults[slot]), given.get(slot)
        types[slot] = default if spec is None else part_type(slot, str(spec), bases[slot])
        types |= chosen(types[slot], given)
    return types


def all_fields(config_type: type) -> dict[str, type]:
    """Name → its class, of the fields of a config and of all registered parts that may fill its slots."""
    known = {f.name: config_type for f in fields(config_type)}
    for slot in slots(config_type):
        for entry in registry.entries(slot).values():
            part = entry.load()
            known = (all_fields(part) if isinstance(part, type) else {}) | known
    return known


def compose(
    config_type: type, given: Mapping[str, Any], ignore: Iterable[str] = (), where: str = "--"
) -> Any:
    """A config from flat fields. UserError for one that no chosen part has, but those of other parts in `ignore`, and
    for a number that nobody can mean.

    `where` stands before the field's name in its sentence: a flag's dashes, or the place in a file.
    """
    left = dict(given)
    config = _built(config_type, left, given, where)
    for name in left:
        why = why_unread(config_type, name, given)
        if why is None:
            raise TypeError(f"{config_type.__name__} has no field '{name}'")
        if name not in ignore:
            shown = as_flag(name) if where == "--" else where + name
            raise UserError(f"{shown} would have no effect, because {why}; leave it out")
    return config


def _built(kind: type, left: dict[str, Any], given: Mapping[str, Any], where: str) -> Any:
    """Takes what belongs to a dataclass and its parts out of `left`."""
    types, named = chosen(kind, given), slots(kind)
    values = {}
    for f in fields(kind):
        if f.name in named:
            left.pop(f.name, None)
            values[f.name] = _built(types[f.name], left, given, where)
        elif f.name in left:
            values[f.name] = left.pop(f.name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise TypeError(f"{kind.__name__} needs '{f.name}'")
    built = kind(**values)
    refuse_out_of_range(built, where)
    return built


def refuse_numbers(config: Any) -> None:
    """UserError for a number that nobody can mean, in a config or its parts: what `compose` makes is checked."""
    for holder in holders(config):
        refuse_out_of_range(holder)


def why_unread(config_type: type, knob: str, given: Mapping[str, Any]) -> str | None:
    """Why a knob of some part is not read beside the parts that `given` chooses; None where no part has it."""
    for slot, part in chosen(config_type, given).items():
        others = {name: entry.load() for name, entry in registry.entries(slot).items()}
        readers = [n for n, other in others.items() if knob in {f.name for f in fields(other)}]
        if readers:
            name = next((n for n, other in others.items() if other is part), given.get(slot))
            return f"{as_flag(slot)} {name} does not read it; these do: {', '.join(readers)}"
    return None


def unread(config: Any) -> dict[str, str]:
    """Fields, of a config and its parts, that nothing reads beside the others (`ReadWith`), and why."""
    reasons = {}
    for holder in holders(config):
        for name, hint in types_of(type(holder), marked=True).items():
            for mark in getattr(hint, "__metadata__", ()):
                if isinstance(mark, ReadWith) and (why := mark.why_unread(holder)):
                    reasons[name] = why
    return reasons
