"""Compile the kernels for this machine's processor, once: a second or two, kept in heedful's cache.

It is not shipped compiled, since it is as fast as it is by using what the processor at hand has. OpenMP's
functions are left open for the loader to find in the library that PyTorch has loaded: two pools of threads would
wait for each other.

$HEEDFUL_KERNELS, read once a process, has them compiled for the oldest processor of this family (`baseline`), or does
without them (`off`): each rounds in its own way.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from heedful.caches import cache_folder
from heedful.disk import seal, unsealed
from heedful.errors import UserError

SOURCES = Path(__file__).parent
# Associativity and NaNs stay as written: no -ffast-math.
FLAGS = ("-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fopenmp")

KINDS = ("native", "baseline", "off")
BASELINE = {"x86_64": "-march=x86-64", "aarch64": "-march=armv8-a"}

log = logging.getLogger("heedful")


def kind() -> str:
    """$HEEDFUL_KERNELS: one of KINDS."""
    chosen = os.environ.get("HEEDFUL_KERNELS") or "native"
    if chosen not in KINDS:
        raise UserError(f"HEEDFUL_KERNELS must be native, baseline or off, not {chosen!r}")
    return chosen


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are off, there is no compiler, it is not Linux, or they do not load."""
    if kind() == "off" or not sys.platform.startswith("linux"):
        return None
    import torch  # noqa: F401  so that its OpenMP is there to be found

    reason: object = "there is none of them"
    for compiler in c_compilers():
        try:
            return ctypes.CDLL(str(_compiled(compiler, _folder())))
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or error
    log.warning(f"neither $CC nor gcc made heedful's kernels, all is slower on this CPU: {reason}")
    return None


def c_compilers() -> list[str]:
    """$CC and gcc, those that are there. Clang's threads are not those that PyTorch's Linux builds bring."""
    found = (shutil.which(name) for name in (os.environ.get("CC", ""), "gcc") if name)
    return [path for path in found if path]


def _folder() -> Path:
    """heedful's cache; where that cannot be, the system's folder for what passes, if nobody else can write there."""
    cache = cache_folder()
    if cache is not None:
        with contextlib.suppress(OSError):
            (cache / "kernels").mkdir(parents=True, exist_ok=True)
            if os.access(cache / "kernels", os.W_OK):
                return cache / "kernels"
    passing = Path(tempfile.gettempdir()) / f"heedful-{os.getuid()}"
    passing.mkdir(mode=0o700, exist_ok=True)
    about = passing.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise OSError(f"{passing} belongs to somebody else")
    return passing


def target() -> list[str]:
    """The compiler's flag for the processor at hand, or for any of its family where it has one."""
    machine = platform.machine()
    if kind() == "baseline":
        return [BASELINE[machine]] if machine in BASELINE else []
    return ["-mcpu=native" if machine == "aarch64" else "-march=native"]


def _compiled(compiler: str, folder: Path) -> Path:
    """The library in this folder, made anew where it is not as it was written: a loader trusts what it maps."""
    command = [compiler, *FLAGS, *target()]
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[ch]"))}
    identity = repr([sorted(texts.values()), command, _version(compiler), processor()])
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if unsealed(path) is None:
        with tempfile.TemporaryDirectory() as aside:
            steps, objects, built = [], [], f"{aside}/kernels.so"
            for source in texts:
                if source.suffix == ".c":
                    objects.append(f"{aside}/{source.stem}.o")
                    steps.append([*command, "-c", str(source), "-o", objects[-1]])
            for step in (*steps, [compiler, "-shared", *objects, "-lm", "-o", built]):
                subprocess.run(step, check=True, capture_output=True, text=True, timeout=120)
            seal(path, Path(built).read_bytes())
    return path


def _version(compiler: str) -> str:
    return subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def processor() -> str:
    """What `native`, and the rounding of all sums, depends on: a home folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return repr(
        sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    )
