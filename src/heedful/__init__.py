"""heedful teaches language models to heed people: the whole loop of RLHF in one program."""

import os
import sys
from types import ModuleType

__version__ = "0.1.0"

# How often a thread of PyTorch's (libgomp) looks whether the others have come, before it lets go of its processor:
# half a millisecond. Left alone it is 16, for which one of them may be waiting on a machine that does anything else.
# Read once, when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


FUNCTIONS = ("run", "rollout")  # of the library, though rooms are called so too


class _Package(ModuleType):
    """`heedful.run` and `heedful.rollout` are functions of the library and rooms of the house. Whoever imports such a
    room has it (`from heedful.run import Run`), but its name here goes on to mean the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in FUNCTIONS:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    """What `heedful.api` offers, imported when it is asked for: `import heedful` costs nothing."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'heedful' has no attribute '{name}'")
    room = os.path.join(__path__[0], name)
    if name not in FUNCTIONS and (os.path.isdir(room) or os.path.isfile(f"{room}.py")):
        # `from heedful import ranks` asks here first, and then imports the room; it needs nothing of the library.
        raise AttributeError(f"heedful.{name} is a room, to be imported")
    import importlib

    api = importlib.import_module(f"{__name__}.api")
    if name == "__all__":
        return ["__version__", *api.NAMES]
    return api.get(name)


def __dir__() -> list[str]:
    return __getattr__("__all__")  # type: ignore[return-value]
