"""heedful teaches language models to heed people: the whole loop of RLHF in one program."""

import os

__version__ = "0.1.0"

# How often a thread of PyTorch's (libgomp) looks whether the others have come, before it lets go of its processor:
# half a millisecond. Left alone it is 16, for which one of them may be waiting on a machine that does anything else.
# Read once, when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> object:
    """What `heedful.api` offers, imported when it is asked for: `import heedful` costs nothing."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'heedful' has no attribute '{name}'")
    import importlib

    api = importlib.import_module(f"{__name__}.api")
    if name == "__all__":
        return ["__version__", *api.NAMES]
    if name not in api.NAMES:
        raise AttributeError(f"module 'heedful' has no attribute '{name}'")
    return api.get(name)


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]  # type: ignore[misc]
