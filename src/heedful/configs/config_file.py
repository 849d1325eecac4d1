"""The YAML file that `--config` names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.errors import UserError


def config_file(args: list[str]) -> tuple[str | None, list[str]]:
    """The file that --config names, and the other words."""
    for i, arg in enumerate(args):
        if arg == "--config" and i + 1 < len(args):
            return args[i + 1], args[:i] + args[i + 2 :]
        if arg.startswith("--config="):
            return arg.partition("=")[2], args[:i] + args[i + 1 :]
    return None, args


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


def _once_loader(path: str) -> Any:
    """YAML's safe loader, but for a key that is there twice: its own lets the last one win."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if again := [name for name in names if names.count(name) > 1]:
            raise UserError(
                f"--config {path}: the key '{again[0]}' is there twice; remove one of them"
            )
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Loader


def _yaml(path: str) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.load(Path(path).read_text(encoding="utf-8"), _once_loader(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: {getattr(error, 'strerror', error)}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected keys and values at the top level")
    return loaded
