"""What must stay light, and that the checks of conftest.py are really switched on."""

from __future__ import annotations

import subprocess
import sys

import pytest

import heedful

HEAVY = ("torch", "transformers", "tokenizers", "datasets", "matplotlib", "sklearn", "pandas")

# Runs the statement as a fresh program would, then prints which heavy libraries it pulled in.
PROGRAM = """
import sys
code = 0
try:
    {statement}
except SystemExit as end:
    code = end.code or 0
print("HEAVY", *[name for name in {heavy} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
COMMAND = "sys.argv = ['heedful', {flag!r}]; from heedful.cli import main; sys.exit(main())"


def run(statement: str) -> tuple[str, list[str]]:
    """What the statement printed, and the heavy libraries that were imported by it."""
    program = PROGRAM.format(statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    marks = [line for line in done.stderr.splitlines() if line.startswith("HEAVY")]
    return done.stdout, marks[-1].split()[1:]


def test_the_probe_sees_heavy_imports():
    assert run("import tokenizers")[1] == ["tokenizers"]


def test_importing_heedful_is_light():
    assert run("import heedful")[1] == []


def test_help_is_light_and_names_the_commands():
    printed, heavy = run(COMMAND.format(flag="--help"))
    assert heavy == []
    for command in ("demo", "train", "sample", "evaluate"):
        assert command in printed


def test_version_is_light_and_true():
    printed, heavy = run(COMMAND.format(flag="--version"))
    assert heavy == []
    assert heedful.__version__ in printed


def test_losses_are_shape_checked_in_tests():
    """Fails when conftest.py no longer installs the import hook (or installs it too late)."""
    import torch
    from jaxtyping import TypeCheckError

    from heedful.losses.kl import k1, k3

    right, wrong = torch.zeros(2, 3), torch.zeros(2, 4)
    for estimate in (k1, k3):
        assert estimate(right, right).shape == (2, 3)
        with pytest.raises(TypeCheckError):
            estimate(right, wrong)
