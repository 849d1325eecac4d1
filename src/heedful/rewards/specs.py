"""`--reward` on the command line → named parts.

runs/reward  org/model              a reward model: folder or hub name
runs/reward(user=answers.jsonl)     of one by `train reward --personal`: the reward of who gave these answers
runs/axes(helpful=1, long=-0.3)     one of several heads, with other weights; runs/ensemble(k=1), see `rewards.heads`
length  numeric  no_eos …           a rule or a verifier of ours
length(price=0.02, free=50)         with options
http://host/v1#MODEL                a language model behind a server that grades, see `rewards.endpoint`
mypkg.mod:score  ./file.py:score    a function of the user's, see `rewards.functions`
ensemble(runs/a, runs/b, k=1)       the mean of several, minus k standard deviations; by=min the minimum
residual(runs/a, biases.json)       one without what length explains of it, by a file of `heedful biases --reward`
kind=runs/a                         any of them under a name of one's own, for the metrics
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful import registry
from heedful.calls import OPTION, call, convert, number, option, typed, unquoted
from heedful.errors import UserError, did_you_mean
from heedful.registry import load_function
from heedful.remote.endpoint import Endpoint, is_endpoint
from heedful.remote.limits import Limits
from heedful.rewards.endpoint import EndpointReward
from heedful.rewards.functions import GIVEN, as_reward, parameters
from heedful.rewards.parts import Part, Parts
from heedful.types import Reward

RESERVED = ("std", "penalised", "own")  # what `reward/…` means already
USER = {"user": inspect.Parameter("user", inspect.Parameter.KEYWORD_ONLY, annotation=Path)}
LABEL = re.compile(r"([A-Za-z_][\w.-]*)=(.+)", re.DOTALL)


def load_rewards(
    specs: str | Sequence[str],
    *,
    weights: Sequence[float] = (),
    normalise: bool = False,
    watch: Sequence[str] = (),
    dtype: str = "float32",
    device: str = "cpu",
    micro_batch_tokens: int = 16384,
    none: bool = False,
) -> Parts:
    """The weighted sum that `--reward A B …` and `--reward-weights 1 0.5 …` describe; weights are 1 by default.

    Reward models are loaded in this dtype. `watch` are scored and logged beside it (`--watch-reward`). With `none`
    there may be no reward at all, as beside an environment that has its own.
    """
    specs = [specs] if isinstance(specs, str) else list(specs)
    if not specs and not none:
        raise UserError("--reward needs at least one reward")
    if weights and len(weights) != len(specs):
        raise UserError(
            f"--reward has {_count(len(specs), 'part')} but --reward-weights {_count(len(weights), 'number')}"
        )
    if not all(math.isfinite(w) for w in weights):
        raise UserError("--reward-weights must be finite numbers")
    loader = _Loader(dtype, device, micro_batch_tokens)
    parts: list[Part] = []
    for spec, weight in zip(specs, weights or [1.0] * len(specs), strict=True):
        label, target = _label(spec.strip())
        taken = {*RESERVED, *(part.name for part in parts)}
        parts.append(loader.part(target, _unique(label or _name(target), taken), weight))
    for spec in watch:
        label, target = _label(spec.strip())
        taken = {part.name for part in parts}
        part = loader.part(target, _unique(label or _name(target), taken), 0.0)
        parts.append(replace(part, watched=True))
    return Parts(parts, normalise=normalise)


class _Loader:
    def __init__(self, dtype: str, device: str, micro_batch_tokens: int):
        self.how: dict[str, Any] = {
            "dtype": dtype,
            "device": device,
            "micro_batch_tokens": micro_batch_tokens,
        }

    def part(self, spec: str, name: str, weight: float) -> Part:
        target, arguments = call(f"--reward {spec}", spec)
        if target != "ensemble":
            return Part(name=name, members=(self.reward(spec, name),), weight=weight)
        members = [a for a in arguments if not OPTION.fullmatch(a)]
        options = dict(option(a) for a in arguments if OPTION.fullmatch(a))
        if unknown := set(options) - {"by", "k"}:
            raise UserError(
                f"--reward {spec}: an ensemble has the options by and k, not {unknown.pop()}"
            )
        if len(members) < 2:
            raise UserError(f"--reward {spec}: an ensemble needs at least two members")
        by, k = options.get("by", "mean"), number(f"--reward {spec}", "k", options.get("k", "0"))
        if by not in ("mean", "min") or (by == "min" and k):
            raise UserError(f"--reward {spec}: by is mean or min, and k goes with mean only")
        rewards = tuple(self.reward(unquoted(m), name) for m in members)
        return Part(name=name, members=rewards, weight=weight, by=by, k=k)

    def reward(self, spec: str, name: str) -> Reward:
        target, arguments = call(f"--reward {spec}", spec)
        if is_endpoint(spec):
            return EndpointReward(Endpoint.of(spec, "--reward"))
        if target in (known := registry.entries("reward")):
            made = known[target].load()
            options = _typed(spec, target, made, arguments)
            ours = Limits(recorded=not known[target].target.startswith("heedful."))
            try:
                return as_reward(made(**options), name, ours)
            except (TypeError, ValueError) as error:  # a rule says so of its options
                raise UserError(f"--reward {spec}: {error}") from error
        if target == "residual":
            return self.residual(f"--reward {spec}", name, arguments)
        if target == "ensemble":
            raise UserError(f"--reward {spec}: an ensemble cannot be a member of another")
        if ":" in target and not Path(spec).exists():
            function = load_function(target)
            limits, arguments = _limits(spec, function, arguments)
            return as_reward(function, name, limits, **_typed(spec, target, function, arguments))
        if target != spec and Path(target).is_dir():
            return self.model(f"--reward {spec}", target, arguments)
        if target != spec:
            raise UserError(
                f"--reward {spec}: only {', '.join(_known())}, models with several heads and functions take options"
            )
        if not Path(spec).exists() and not re.search(r"[/\\]", spec):
            raise UserError(
                f"there is no reward '{spec}'{did_you_mean(spec, _known())}: expected a reward model's folder "
                f"or hub name, package.module:function, or one of {', '.join(_known())}"
            )
        return self.model(f"--reward {spec}", spec, ())

    def residual(self, where: str, name: str, arguments: Sequence[str]) -> Reward:
        """A reward without what attributes explain of it."""
        from heedful.rewards.residual import residual

        plain = [unquoted(a) for a in arguments if not OPTION.fullmatch(a)]
        options = dict(option(a) for a in arguments if OPTION.fullmatch(a))
        if len(plain) != 2 or options.keys() - {"of"}:
            raise UserError(
                f"{where}: expected residual(REWARD, FILE), and of='longer lists' perhaps"
            )
        reward = self.reward(plain[0], name)
        return residual(where, reward, Path(plain[1]), options.get("of", "longer"))

    def model(self, where: str, folder: str, arguments: Sequence[str]) -> Reward:
        """A reward model; what stands in brackets is whose it is, or weights of its heads, or their k."""
        from heedful.rewards.model import ModelReward

        words = dict(option(a) if OPTION.fullmatch(a) else (a, "") for a in arguments)
        whose = typed(where, folder, USER, arguments) if USER.keys() & words.keys() else {}
        reward = ModelReward.load(folder, **self.how, **whose)
        options = (
            {} if whose else {name: number(where, name, value) for name, value in words.items()}
        )
        if reward.heads is not None:
            reward.heads = reward.heads.given(where, options)
            return reward
        if options:
            raise UserError(
                f"{where}: a reward model with one output has no option '{next(iter(options))}'; of one by "
                "`train reward --personal` it is user=FILE"
            )
        return reward


def _known() -> list[str]:
    return [*registry.entries("reward"), "ensemble", "residual"]


def _label(spec: str) -> tuple[str | None, str]:
    match = None if Path(spec).exists() else LABEL.fullmatch(spec)
    return (match[1], match[2]) if match else (None, spec)


def _name(target: str) -> str:
    """What a part is called in the metrics: the last word of where it is from."""
    if is_endpoint(target):
        target = target.partition("(")[0].partition("#")[2] or "judge"
    if not Path(target).exists():
        target, _ = call(f"--reward {target}", target)
    last = target.rstrip("/\\").rpartition(":")[2] if ":" in target else Path(target).resolve().name
    return re.sub(r"[^\w.-]+", "_", last) or "reward"


def _unique(name: str, taken: set[str]) -> str:
    names = (name if i == 1 else f"{name}_{i}" for i in range(1, len(taken) + 2))
    return next(n for n in names if n not in taken)


def _typed(
    spec: str, name: str, function: Callable[..., Any], arguments: Sequence[str]
) -> dict[str, Any]:
    """The options in a spec as the function's types."""
    offered = {
        p.name: p
        for p in parameters(function)
        if p.name not in GIVEN and (p.kind is p.KEYWORD_ONLY or p.default is not p.empty)
    }
    options = typed(f"--reward {spec}", name, offered, arguments)
    missing = [n for n, p in offered.items() if p.default is p.empty and n not in options]
    if missing and name in registry.entries("reward"):
        raise UserError(f"--reward {spec}: {name} needs the option '{missing[0]}'")
    return options


def _limits(
    spec: str, function: Callable[..., Any], arguments: Sequence[str]
) -> tuple[Limits, list[str]]:
    """What an awaited function is held to, and the arguments that are its own."""
    own = {p.name for p in parameters(function)}
    known = inspect.signature(Limits).parameters
    options, rest = {}, []
    for argument in arguments:
        key = argument.partition("=")[0].strip()
        if key in ("concurrency", "timeout", "retries", "cache") and key not in own:
            options[key] = convert(f"--reward {spec}", known[key], option(argument)[1])
        else:
            rest.append(argument)
    called = getattr(type(function), "__call__", None)  # noqa: B004
    if options and not any(map(inspect.iscoroutinefunction, (function, called))):
        raise UserError(
            f"--reward {spec}: {next(iter(options))} is for functions that are awaited (async def)"
        )
    try:
        return Limits(**options), rest
    except ValueError as error:
        raise UserError(f"--reward {spec}: {error}") from error


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
