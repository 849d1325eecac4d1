"""The YAML file that `--config` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.errors import UserError
from heedful.yaml_file import read_yaml


def config_file(args: list[str]) -> tuple[str | None, list[str]]:
    """The file that --config names, and the other words."""
    places = [i for i, arg in enumerate(args) if arg.partition("=")[0] == "--config"]
    if not places:
        return None, args
    if len(places) > 1:
        raise UserError(
            "--config is there twice; one file can be read, and options change what it says"
        )
    (i,) = places
    _, joined, path = args[i].partition("=")
    behind = i + (1 if joined else 2)
    if not joined and (behind > len(args) or args[i + 1].startswith("--")):
        raise UserError("--config needs a value, the file of settings")
    return path if joined else args[i + 1], args[:i] + args[behind:]


def command_in(args: Sequence[str]) -> str | None:
    """The command that a run's saved config is of, where `--config` names one."""
    path, _ = config_file(list(args))
    return None if path is None else _yaml(path).get("command")


def loaded_from(path: str, prog: str) -> dict[str, Any]:
    """What a file holds. UserError for the config of another command."""
    loaded = _yaml(path)
    command = loaded.pop("command", None)
    if command and f"heedful {command}" != prog:
        raise UserError(
            f"--config {path} is of heedful {command}, not of {prog}: type heedful {command} --config {path}"
        )
    return loaded


def _yaml(path: str) -> dict[str, Any]:
    loaded = read_yaml(path, f"--config {path}")
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected keys and values at the top level")
    return loaded
