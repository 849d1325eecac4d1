r"""Whether two answers are the same mathematics: math-verify, in a process of its own.

What a model writes is hostile: 9^{9^{9^9}} keeps a processor busy for ever inside one operation, where no signal
handler and no thread can stop it. So a process reads formulas; one that takes too long is ended, its answer is not the
right one, and the next question starts another.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

_worker: subprocess.Popen[str] | None = None
_one_at_a_time = threading.Lock()
_PLAIN = {
    "√": r"\sqrt",
    "π": r"\pi ",
    "×": r"\times ",
    "·": r"\cdot ",
    "−": "-",
    "∞": r"\infty ",
    "°": r"^\circ ",
}
_ROOT = re.compile(r"\\?sqrt ?(?:\(([^()]{1,80})\)|([0-9a-zA-Z]+))|(?<![\\a-zA-Z])sqrt(?=\{)")


@functools.lru_cache(maxsize=1 << 16)
def equal(gold: str, response: str, tolerance: float = 0.0) -> bool:
    """Whether the formula of a response is worth what that of the right answer is: 2\\sqrt{3} and \\sqrt{12}."""
    return _asked([gold, response], tolerance)


@functools.lru_cache(maxsize=1 << 12)
def readable(gold: str) -> bool:
    """Whether there is mathematics in a right answer; a word is none, though its letters could be variables."""
    bare = gold.removeprefix(r"\boxed{").removesuffix("}")
    if not re.search(r"[0-9\\^_+*/=<>√π]", bare) and not re.fullmatch(r"\s*-?[a-zA-Z]\s*", bare):
        return False
    return _asked([gold], 0.0)


def _asked(texts: list[str], tolerance: float) -> bool:
    global _worker
    question = json.dumps({"texts": [_latex(t) for t in texts], "tolerance": tolerance})
    with _one_at_a_time:
        if _worker is None or _worker.poll() is not None:
            _worker = _started()
        assert _worker.stdin is not None and _worker.stdout is not None
        try:
            _worker.stdin.write(question + "\n")
            _worker.stdin.flush()
            answer = _worker.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:  # it took too long
            _worker.kill()
            _worker.wait()
            _worker = None
            return False
        return bool(json.loads(answer))


def _started() -> subprocess.Popen[str]:
    # -P: the folder of this file, whose modules have names that others may import, stays off the path.
    script = Path(__file__).with_name("formula_worker.py")
    worker = subprocess.Popen(
        [sys.executable, "-P", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    atexit.register(worker.kill)
    return worker


def _latex(text: str) -> str:
    r"""A root as people type it, √3 and sqrt(3), as LaTeX has it."""
    for sign, command in _PLAIN.items():
        text = text.replace(sign, command)
    return _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}" if m[1] or m[2] else r"\sqrt", text)
