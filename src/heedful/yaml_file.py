"""A YAML file that anybody may have written: each key once, and no more values than it has room for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import UserError

if TYPE_CHECKING:
    import yaml

LARGEST = 1 << 20  # bytes of a file
MOST = 50_000  # values, each alias counted as what it stands for


def read_yaml(path: str | Path, where: str) -> Any:
    """What the file holds; UserError, which begins with `where`, for whatever is wrong with it."""
    import yaml

    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UserError(
                f"{where}: larger than {LARGEST >> 20} MiB, which is no file of settings"
            )
        return yaml.load(data.decode("utf-8"), _loader(where))
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date in month 13
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply") from error


def _loader(where: str) -> Any:
    """YAML's safe loader, but for a key that is there twice, of which its own lets the last one win, and for aliases
    of aliases, which stand for more values than any memory holds."""
    import yaml

    class Loader(yaml.SafeLoader):
        def get_single_node(self) -> yaml.Node | None:
            node = super().get_single_node()
            if node is not None and _values(node, {}) > MOST:
                raise UserError(f"{where}: stands for more than {MOST:,} values, aliases counted")
            return node

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in names:
                raise UserError(
                    f"{where}: the key '{key.value}' is there twice; remove one of them"
                )
            names |= {key.value} if isinstance(key.value, str) else set()
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Loader


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; more than MOST where it is within itself."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # until it is counted
        inner = node.value if isinstance(node.value, list) else []
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
