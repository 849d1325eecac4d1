"""CONTRIBUTING's "How to add …" is true: each thing is added to a copy of the package in as many files as it says, and
by an installed package in none, and then works from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import heedful
import tiny
from heedful.data.sources import write_rows

PACKAGE = Path(heedful.__file__).parent

LOSS = '''
import torch
from heedful.registry import register
from heedful.types import PairLogps

@register("loss", "square", help="squared distance of the margin to one", source="nobody", beta=0.3)
def square(x: PairLogps, p: torch.Tensor, beta: float, *, goal: float = 1.0) -> torch.Tensor:
    """(βh − goal)²."""
    return (beta * ((x.chosen - x.ref_chosen) - (x.rejected - x.ref_rejected)) - goal).square()
'''
ESTIMATOR = '''
from __future__ import annotations
from dataclasses import dataclass
from heedful.configs.tagged.kl import Estimator
from heedful.registry import register

@register("kl_estimator", "power", help="a power of the log-ratio")
@dataclass(frozen=True, kw_only=True)
class Power(Estimator):
    """|log-ratio| to a power."""

    exponent: float = 2.0
    """The power."""

    def __call__(self, logp, ref_logp):
        return (logp - ref_logp).abs() ** self.exponent
'''
ENGINE = """
from heedful.registry import register
from heedful.types import Completion

@register("engine", "echo", help="says the last token of the prompt again")
class Echo:
    def __init__(self, model, **options):
        self.window = 1 << 20

    async def generate(self, tokens, *, n, max_tokens, sampling, stop, seed, **options):
        return [Completion((tokens[-1],), (0.0,), "length")] * n

    async def load(self, weights, version):
        pass
"""
REWARD = '''
from heedful.registry import register

@register("reward", "vowels", help="the share of vowels")
def vowels(*, worth: float = 1.0):
    """A scorer."""
    return lambda prompt, response: worth * sum(c in "aeiou" for c in response) / (len(response) or 1)
'''
ENV = """
from heedful.registry import register

@register("environment", "twice", help="the policy answers twice")
async def twice(task, chat):
    await chat.say(max_tokens=2)
    chat.hear("user", "And?")
    await chat.say(max_tokens=2)
    return 1.0
"""
WORLD = '''
"""A world of one question."""
from heedful.data.sources import write_rows
from heedful.registry import register

VOICES = ("right",)

@register("world", "one", help="one question")
def write(folder, *, seed=0, **options):
    write_rows(folder / "prompts.jsonl", [{"prompt": "1 + 1?"}])

def gold(prompt, response):
    return float(response == "2")

def voice(prompt, response):
    return "right"
'''
# what → (its one file in the package, the text)
ADDED = {
    "loss": ("losses/square.py", LOSS),
    "kl_estimator": ("configs/tagged/power.py", ESTIMATOR),
    "engine": ("engine/echo.py", ENGINE),
    "reward": ("rewards/vowels.py", REWARD),
    "environment": ("envs/twice.py", ENV),
    "world": ("worlds/one.py", WORLD),
}
GROUPS = {
    "loss": "heedful.losses",
    "kl_estimator": "heedful.kl_estimators",
    "engine": "heedful.engines",
    "reward": "heedful.rewards",
    "environment": "heedful.envs",
    "world": "heedful.worlds",
}
NAMES = {"loss": "square", "kl_estimator": "power", "engine": "echo", "reward": "vowels",
         "environment": "twice", "world": "one"}  # fmt: skip
OBJECTS = {"kl_estimator": "Power", "engine": "Echo", "world": "write"}  # where it has another name

PROGRAM = """
import asyncio, json, sys
from heedful.cli import main

base, pairs, prompts, out = sys.argv[1:]
common = ["--quiet", "--report-to", "none"]
codes = {}
codes["loss"] = main(["train", "square", "--model", base, "--data", pairs, "--out", f"{out}/loss", *common,
                      "--loss-options", "goal=2"])
codes["kl_estimator"] = main(
    ["train", "rloo", "--model", base, "--data", prompts, "--out", f"{out}/kl", *common, "--kl", "loss",
     "--kl-estimator", "power", "--exponent", "3", "--reward", "vowels(worth=2)", "--steps", "1",
     "--batch-size", "4", "--group-size", "2", "--max-tokens", "4"])
codes["reward"] = codes["kl_estimator"]
codes["world"] = main(["world", "one", "--out", f"{out}/world"])

from heedful.engine import load_engine
from heedful.envs import load_env
from heedful.models.load import load_policy, load_tokenizer
from heedful.rollout import rollout, tasks
from heedful.types import Sampling

model, tok = load_policy(base), load_tokenizer(base)
todo = tasks(tok, ["Why?"])

def sampled(engine, **how):
    return asyncio.run(rollout(engine, todo, tok, n=1, max_tokens=8, sampling=Sampling(), seed=0, **how))

(echoed,) = sampled(load_engine(model, "echo"))
codes["engine"] = int(echoed.tokens[-1] != echoed.tokens[-2])
(both,) = sampled(load_engine(model), env=load_env("twice"))
codes["environment"] = int(len(both.steps) != 2)
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adding")
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder / "lm")
    tok.save_pretrained(folder / "lm")
    write_rows(folder / "prompts.jsonl", [{"prompt": f"Why {n}?"} for n in range(4)])
    row = {"prompt": "Who?", "chosen": "You, of course.", "rejected": "Potatoes"}
    write_rows(folder / "pairs.jsonl", [row] * 4)
    return folder


def outcome(files: Path, path: Path, out: Path) -> dict[str, int]:
    """What becomes of everything that was added, in a process that imports from `path`: 0 where it works."""
    places = [str(path), os.environ.get("PYTHONPATH", ""), str(PACKAGE.parent)]
    arguments = [str(files / name) for name in ("lm", "pairs.jsonl", "prompts.jsonl")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments, str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_each_is_one_file_in_the_package(files, tmp_path):
    """Mutation caught: a name that must be written in a second place: a list, a preset, a Literal, an import."""
    copy = tmp_path / "src" / "heedful"
    for file in PACKAGE.rglob("*"):
        if "__pycache__" in file.parts or file.is_dir():
            continue
        target = copy / file.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    for place, text in ADDED.values():
        (copy / place).write_text(text)
    codes = outcome(files, copy.parent, tmp_path / "out")
    assert codes == dict.fromkeys(ADDED, 0)
    told = subprocess.run(
        [sys.executable, "-m", "heedful", "train", "--help"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(copy.parent)},
    ).stdout  # fmt: skip
    assert "train square             squared distance of the margin to one" in told


@pytest.mark.long
def test_an_installed_package_adds_them_all(files, tmp_path):
    """By entry points. Mutation caught: a kind without a group; a list that only reads our own source."""
    package, about = tmp_path / "theirs", tmp_path / "theirs-1.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").touch()
    lines = []
    for kind, (_, text) in ADDED.items():
        (package / f"{NAMES[kind]}.py").write_text(text)
        value = f"theirs.{NAMES[kind]}:{OBJECTS.get(kind, NAMES[kind])}"
        lines += [f"[{GROUPS[kind]}]", f"{NAMES[kind]} = {value}"]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    codes = outcome(files, tmp_path, tmp_path / "out")
    assert codes == dict.fromkeys(ADDED, 0)
