"""Help and mistakes are told before anything heavy is imported.

One process tries all commands, one after the other, so that an import by any of them shows in all that follow: the
first that is named is the offender.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from changed import changed
from heedful import registry
from heedful.configs.commands import COMMANDS, methods
from heedful.recipes import recipe_of
from heedful.training.objective import find_objective

HEAVY = (
    "torch", "transformers", "tokenizers", "numpy", "sqlalchemy", "fastapi", "pandas", "pyarrow", "datasets",
)  # fmt: skip
PROGRAM = f"""
import contextlib, io, json, sys
from heedful.cli import main
for args in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(args)
        except SystemExit as end:
            code = end.code or 0
    heavy = [name for name in {HEAVY} if name in sys.modules]
    families = [name for name in sys.modules if name.startswith("transformers.models.")]
    heavy += [name for name in families if ".modeling_" in name and ".auto." not in name]
    print(json.dumps([args, code, said.getvalue(), heavy]))
"""

TRAIN = ["--model", "m", "--data", "d.jsonl", "--out", "o"]
ONLINE = [*TRAIN, "--reward", "r"]
PLAN = """
out: runs
model: runs/sft
reward: runs/reward
data: prompts.jsonl
comparisons: pairs.jsonl
evaluate: {data: held.jsonl}
methods: {dpo: {label_smoothing: 0.7}}
"""
# command, flags, what is said. One or more of each kind of mistake, and every function that can refuse one.
MISTAKES: list[tuple[str, list[str], str]] = [
    # the command line by itself
    ("train sft", ["--epoks", "2"], "no option --epoks (did you mean '--epochs'?)"),
    ("train sft", ["--use-dora"], "no option --use-dora: LoRA alone is there"),
    ("train sft", [*TRAIN, "--lora-alpha", "8"], "have no effect without --lora.rank"),
    ("train sft", [], "needs --out, --data, --model"),
    ("train ppo", [*ONLINE, "--steps", "many"], "many"),
    ("train ppo", [*ONLINE, "--kl", "sometimes"], "sometimes"),
    ("doctor", [], "needs MODEL"),
    ("export", ["opinions", "x.jsonl"], "opinions"),
    ("train dpo", ["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
    ("train dpo", ["--config", "wrong.yaml"], "unknown key 'betta' (did you mean 'beta'?)"),
    ("iterate", ["iterate.yaml"], "optimise.method 'dop' is unknown (did you mean 'dpo'?)"),
    ("compare", ["nowhere.yaml"], "nowhere.yaml: No such file"),
    ("compare", ["plan.yaml"], "methods.dpo: label_smoothing 0.7: must be"),
    # what nothing reads
    ("train grpo", [*ONLINE, "--lam", "0.9"], "--lam would have no effect"),
    (
        "train rloo",
        [*ONLINE, "--critic-learning-rate", "1"],
        "--critic-learning-rate would have no effect",
    ),
    ("train orpo", [*TRAIN, "--beta", "0.5"], "--beta would have no effect"),
    ("train dpo", [*TRAIN, "--loss", "orpo+0.1*preferred_ft", "--beta", "3"], "no effect"),
    ("train online_dpo", [*ONLINE, "--accept-beta", "1"], "--accept-beta would have no effect"),
    ("train reward", [*TRAIN, "--eval-data", "e", "--held-out", "0.2"], "would have no effect"),
    (
        "train pretrain",
        ["--data", "d", "--out", "o", "--model", "m", "--heads", "2"],
        "would have no effect",
    ),
    # what nobody can mean
    ("train sft", [*TRAIN, "--lora.dropout", "0.1"], "dropout is always off"),
    ("train sft", [*TRAIN, "--epochs", "0"], "must be above 0"),
    ("train sft", [*TRAIN, "--epochs", "nan"], "must be a finite number, above 0"),
    ("train dpo", [*TRAIN, "--lr", "nan"], "--lr nan: must be a finite number"),
    ("train grpo", [*ONLINE, "--lr", "inf"], "--lr inf: must be a finite number, at least 0"),
    ("train ppo", [*ONLINE, "--critic-learning-rate=-1"], "--critic-learning-rate -1: must be"),
    ("train sft", [*TRAIN, "--weight-decay=-1"], "--weight-decay -1: must be at least 0"),
    ("train reward", [*TRAIN, "--warmup-ratio", "2"], "--warmup-ratio 2: must be from 0 to 1"),
    ("train sft", [*TRAIN, "--max-grad-norm", "nan"], "above 0"),
    ("train sft", [*TRAIN, "--micro-batch-tokens", "0"], "must be at least 1"),
    ("train reward", [*TRAIN, "--steps", "0"], "at least 1"),
    (
        "train ppo",
        [*ONLINE, "--advantage", "gea"],
        "--advantage 'gea' is unknown (did you mean 'gae'?)",
    ),
    ("train ppo", [*ONLINE, "--temperature", "0"], "greedy responses"),
    ("train rloo", [*ONLINE, "--group-size", "3"], "no multiple of --group-size 3"),
    ("train dpo", [*TRAIN, "--loss", "dop"], "--loss 'dop' is unknown (did you mean 'dpo'?)"),
    ("train ipo", [*TRAIN, "--beta", "0"], "--beta 0: must be above 0"),
    ("train online_dpo", TRAIN, "either --reward or --judge"),
    *(
        ("sample", [*TRAIN, *flags], " ".join(flags))
        for flags in (
            ("--temperature", "-1"),
            ("--temperature", "nan"),
            ("--top-p", "0"),
            ("--top-p", "1.5"),
            ("--top-k", "-1"),
            ("--limit", "0"),
        )
    ),
    ("train ppo", [*ONLINE, "--vf-coef", "0.5"], "--vf-coef would have no effect"),
    ("sample", [*TRAIN, "--best-of", "4"], "--best-of needs --reward"),
    ("sample", [*TRAIN, "--at-least", "1"], "--at-least needs --reward"),
    ("evaluate", [*TRAIN, "--baseline", "b"], "--baseline needs --scorer"),
    ("evaluate", [*TRAIN, "--tools", "t.py"], "--tools needs --reward"),
    ("doctor", ["m", "--limit", "0"], "--limit 0: must be at least 1"),
    ("serve", ["--host", "0.0.0.0"], "lets other machines in"),
    ("import", ["demonstrations", "d.jsonl", "--gold"], "--gold means nothing"),
    ("iterate", ["--model", "m", "--prompts", "p", "--out", "o", "--rounds", "0"], "at least 1"),
    ("world", ["reviews", "--out", "o"], "needs --source"),
    # data that is not there
    *(
        (f"train {name}", TRAIN, "d.jsonl: there is no such file")
        for name in ("sft", "reward", "kto")
    ),
    *(
        (f"train {name}", ONLINE, "d.jsonl: there is no such file")
        for name in ("ppo", "online_dpo")
    ),
    ("train pretrain", ["--data", ".", "--out", "o"], "is a folder"),
    ("train sft", changed(TRAIN, "--data", "plan.yaml"), "cannot tell what it is"),
    *((name, TRAIN, "d.jsonl: there is no such file") for name in ("sample", "evaluate")),
    ("judge", ["--data", "d.jsonl", "--judge", "scores", "--out", "o"], "there is no such file"),
    ("score", ["--data", "d.jsonl", "--reward", "length", "--out", "o"], "there is no such file"),
    ("baselines", ["--data", "d.jsonl"], "there is no such file"),
    # rows under a name that says something else
    ("clips", ["--game", "tetris", "--out", "x.csv"], "name it .jsonl"),
    ("sample", ["--model", "m", "--data", "hf:a/b", "--out", "samples"], "name it .jsonl"),
    ("play", ["--env", "maze", "--out", "x.parquet"], "--out x.parquet would hold JSON lines"),
    ("sample", [*TRAIN[:2], "--data", "p.jsonl", "--out", "./p.jsonl"], "is --data, too"),
]


def told(
    lines: list[list[str]], here: Path, program: str = PROGRAM
) -> list[tuple[list[str], int, str, list[str]]]:
    """(command, exit code, what it said, what heavy libraries were there afterwards) for each line."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(lines)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=here,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_every_help_is_light(tmp_path: Path):
    """Mutation caught: `from heedful.training.estimates import …`, which imports torch, in `configs/policy.py`."""
    lines = [
        *([*n.split(), "--help"] for n in COMMANDS if n != "train small"),  # which tests add
        *(["train", name, "--help"] for name in methods()),
    ]
    found = told(lines, tmp_path)
    assert [args for args, *_ in found] == lines
    for args, code, said, heavy in found:
        assert (code, heavy) == (0, []), f"{' '.join(args)}: {heavy or said}"
        assert "usage: heedful" in said


def test_the_list_of_commands_costs_next_to_nothing():
    """Mutation caught: `import tyro` in a config, `import asyncio` in `ranks`, entry points read where none are."""
    costly = (
        "tyro",
        "asyncio",
        "importlib.metadata",
        "yaml",
        "gzip",
        "heedful.types",
        "heedful.api",
    )
    program = f"""import sys
from heedful.cli import main
main(["--help"])
print([name for name in {costly} if name in sys.modules], file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "train" in done.stdout and done.stderr.strip() == "[]", done.stderr


def test_every_mistake_is_light(tmp_path: Path):
    """Mutation caught: the CLI that imports the recipe before `_refuse`; `unread` of a loss that asks the loss."""
    (tmp_path / "wrong.yaml").write_text("betta: 0.1\n")
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "p.jsonl").write_text('{"prompt": "Why?"}\n')
    (tmp_path / "iterate.yaml").write_text(
        "{model: m, prompts: p.jsonl, out: o, optimise: {method: dop}}"
    )
    lines = [[*name.split(), *flags] for name, flags, _ in MISTAKES]
    for (args, code, said, heavy), (_, _, words) in zip(
        told(lines, tmp_path), MISTAKES, strict=True
    ):
        line = " ".join(args)
        assert heavy == [], f"{line} imports {heavy}"
        assert (code, said.count("heedful: ")) == (2, 1), f"{line}: {said}"
        assert words in said, f"{line}: {said}"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "iterate.yaml",
        "p.jsonl",
        "plan.yaml",
        "wrong.yaml",
    ]
    assert (tmp_path / "p.jsonl").read_text() == '{"prompt": "Why?"}\n'


FILES = ["--data", "d.jsonl", "--out", "o.jsonl"]
ROW = '{"prompt": "Who?", "completion": "You."}'


def test_scoring_by_a_rule_needs_no_torch(tmp_path: Path):
    """Mutation caught: `recipes/score.py` that imports `recipes/sample.py`. And the probe does see what is imported."""
    (tmp_path / "d.jsonl").write_text(ROW)
    program = PROGRAM.replace("import contextlib", "import tokenizers, contextlib")
    (scored,) = told([["score", "--reward", "length", *FILES]], tmp_path, program)
    assert (scored[1], scored[3]) == (0, ["tokenizers"]), scored


@pytest.mark.long
def test_sampling_imports_what_it_uses(tmp_path: Path):
    """PyTorch, but no database, and no model family before it knows which.

    Mutation caught: `engine/passes.py` or `models/new.py` that imports the families it knows, `materialise` beside the
    database.
    """
    (tmp_path / "d.jsonl").write_text(ROW)
    (sampled,) = told([["sample", "--model", str(tmp_path / "nowhere"), *FILES]], tmp_path)
    assert (sampled[1], sampled[2].count("nowhere")) == (2, 1), sampled
    assert sampled[3] == ["torch", "transformers", "tokenizers", "numpy"]


def test_names_told_without_their_functions_are_those_of_the_functions():
    """What is read from the source is what importing gives. Mutation caught: a β for ORPO; another function's name."""
    for kind in registry.KINDS:
        for name, entry in registry.entries(kind).items():
            value = entry.load()
            assert f"{value.__module__}:{value.__qualname__}" == entry.target, name
            assert entry.help, name
    for name, entry in registry.entries("loss").items():
        assert find_objective(name).reads_beta == ("beta" in entry.more), name


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *(m for m, _ in COMMANDS.values()),
            "recipes.policy",
            "recipes.online",
            "recipes.preference",
        }
    ),
)
def test_a_recipe_and_its_flags_have_the_same_name(name: str):
    """`configs/sft.py` for `recipes/sft.py`, whose `run` takes that very config."""
    recipe = importlib.import_module(f"heedful.{name}")
    flags = importlib.import_module(f"heedful.configs.{name.rpartition('.')[2]}")
    assert recipe.Config is flags.Config
    assert flags.Config.__module__ == flags.__name__
    if name.startswith("recipes."):
        assert recipe_of(flags.Config.__new__(flags.Config)) is recipe
