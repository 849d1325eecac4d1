"""What people type: numbers that somebody can mean, the words of other trainers, a run's config as a command again."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from heedful import registry
from heedful.configs import command_line, commands, config_file, elsewhere, sft
from heedful.configs.typed import made
from heedful.configs.words import in_our_words, names_of, split
from heedful.errors import UserError
from heedful.fields import ROWS, Range, flag_of, marks, refuse_out_of_range
from heedful.run.settings import settings
from heedful.types import Sampling

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-trl.md"
TRAIN = ["--model", "m", "--data", "d.jsonl", "--out", "o"]
ONLINE = [*TRAIN, "--reward", "r"]
WHOLE = {"train pretrain": TRAIN[2:], "train online_dpo": ONLINE}


def parsed(name: str, *args: str, world: int = 1) -> Any:
    command = commands.command(name)
    found = command_line.parse(
        command.flags.Config, args, prog=f"heedful {name}", preset=command.sets, world=world
    )
    return commands.named(command, found.config)


OF_TESTS = "small_policy"  # a command that tests/interruptions.py adds


def config_types() -> Iterator[type]:
    """All that commands take, with what is nested in it, and all parts."""
    names = {module.rpartition(".")[2] for module, _ in commands.COMMANDS.values()} - {OF_TESTS}
    todo = [
        importlib.import_module(f"heedful.configs.{n}").Config
        for n in (*names, "policy", "online", "preference", "q_learning")
    ]
    todo += [importlib.import_module("heedful.configs.compare_plan").Plan]
    slots = ("advantage", "surrogate", "average", "kl", "kl_estimator")
    todo += [entry.load() for slot in slots for entry in registry.entries(slot).values()]
    while todo:
        kind = todo.pop()
        yield kind
        hints = get_type_hints(kind)
        todo += [hints[f.name] for f in fields(kind) if is_dataclass(hints[f.name])]


def test_who_writes_rows_says_so():
    """Mutation caught: a command whose `--out x.csv` holds JSON lines, which nobody can read under that name."""
    seen = 0
    for file in (Path(commands.__file__).parents[1] / "recipes").glob("*.py"):
        if re.search(r"(write_rows|_add)\(\s*config\.out,", file.read_text(encoding="utf-8")):
            kind = importlib.import_module(f"heedful.configs.{file.stem}").Config
            assert flag_of(kind, "out") is ROWS, file.name
            seen += 1
    assert seen > 9


def test_every_number_says_what_it_can_be():
    """Mutation caught: a new field `penalty: float = 1.0` without a range; a range that its default breaks."""
    for kind in config_types():
        hints = get_type_hints(kind)
        for f in fields(kind):
            hint = repr(hints[f.name])
            if hints[f.name] in (int, float) or any(
                n in hint for n in ("int |", "float |", "[int,", "[float,")
            ):
                found = [m for m in marks(kind)[f.name] if isinstance(m, Range)]
                assert len(found) == 1, f"{kind.__module__}.{kind.__name__}.{f.name}"
                default = f.default if isinstance(f.default, int | float) else None
                assert default is None or found[0].holds(default), f.name


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.5])
def test_a_number_that_nobody_means_is_refused_wherever_it_is(number: float):
    """Mutation caught: a comparison that nan passes; a nested field (`lora.alpha`) or a tuple that is not looked at."""
    for name, flag in (("sft", "lora.alpha"), ("sft", "learning_rate"), ("ppo", "lam")):
        flag = flag.replace("_", "-")
        with pytest.raises(UserError, match=rf"^--{flag} {number:g}: must be"):
            parsed(f"train {name}", *(ONLINE if name == "ppo" else TRAIN), f"--{flag}={number}")
    if not math.isfinite(number):
        with pytest.raises(UserError, match="--reward-weights"):
            parsed("train ppo", *ONLINE, f"--reward-weights={number}")
    config = parsed("train sft", *TRAIN)
    object.__setattr__(config.lora, "rank", -1)
    with pytest.raises(UserError, match=r"here: lora\.rank -1: must be at least 0"):
        refuse_out_of_range(config, "here: ")


SAME = [  # command, what a user of another trainer types, what that is here
    ("train dpo", "--bf16", "--dtype bfloat16"),
    ("train dpo", "--bf16 true --fp16 false --push-to-hub false --deepspeed null", "--dtype bfloat16"),
    ("train dpo", "--push-to-hub true --hub-model-id a/b", "--push-to-hub a/b"),
    ("train dpo", "--loss-type sigmoid", "--loss dpo"),
    ("train dpo", "--loss_type hinge", "--loss rso"),
    ("train cpo", "--loss-type sigmoid", ""),
    ("train simpo", "--simpo-gamma 0.5", "--loss-options gamma=0.5"),
    ("train dpo", "--per-device-train-batch-size 4 --gradient-accumulation-steps 8", "--batch-size 32"),
    ("train grpo", "--per-device-train-batch-size 8 --gradient-accumulation-steps 4 --steps-per-generation 8",
     "--batch-size 64 --minibatch-size 32"),
    ("train ppo", "--per-device-train-batch-size 8", "--batch-size 8 --minibatch-size 8"),
    ("train sft", "--use-peft", "--lora.rank 16"),
    ("train sft", "--use-peft --lora-r 4", "--lora.rank 4"),
    ("train sft", "--finetuning-type lora --lora-target all", "--lora.rank 16"),
    ("train sft", "--cutoff-len 128 --optim adamw_torch --save-strategy no", "--max-length 128"),
    ("train sft", "--lr-scheduler-type constant_with_warmup --gradient-checkpointing true",
     "--schedule constant --gradient-checkpointing"),
    ("train grpo", "--loss-type dr_grpo --scale-rewards none", "--average constant --advantage group_centred"),
    ("train ppo", "--advantage-estimator gae --lambd 0.9 --eps-clip 0.1", "--lam 0.9 --clip 0.1"),
]  # fmt: skip


@pytest.mark.parametrize("name, theirs, ours", SAME, ids=lambda text: text[:30])
def test_words_of_other_trainers_do_what_they_mean(
    name: str, theirs: str, ours: str, tmp_path: Path
):
    """On the command line, and as keys of a file. Mutation caught: a batch for each device taken for the whole one."""
    needed = WHOLE.get(name, ONLINE if name in ("train grpo", "train ppo") else TRAIN)
    expected = parsed(name, *needed, *ours.split())
    assert parsed(name, *needed, *theirs.split()) == expected
    words = [group.split(" ") for group in f" {theirs}".split(" --")[1:]]
    keys = {k.replace("-", "_"): yaml.safe_load(v[0]) if v else True for k, *v in words}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(keys))
    assert parsed(name, *needed, "--config", str(tmp_path / "c.yaml")) == expected


TRL = """
model_name_or_path: m
torch_dtype: null
attn_implementation: flash_attention_2
bf16: true
do_eval: true
eval_strategy: steps
dataset_name: p.jsonl
gradient_accumulation_steps: 2
gradient_checkpointing: true
gradient_checkpointing_kwargs: {use_reentrant: true}
learning_rate: 5.0e-7
log_level: info
lr_scheduler_type: cosine
optim: adamw_torch
output_dir: out
per_device_train_batch_size: 8
per_device_eval_batch_size: 8
max_prompt_length: 512
push_to_hub: true
hub_model_id: org/name
save_strategy: "steps"
save_steps: 100
warmup_ratio: 0.1
"""
FACTORY = """
model_name_or_path: m
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: p.jsonl
template: qwen
cutoff_len: 2048
overwrite_cache: true
preprocessing_num_workers: 16
output_dir: out
plot_loss: true
overwrite_output_dir: true
report_to: none
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
bf16: true
ddp_timeout: 180000000
val_size: 0.1
"""
HERE = {
    "train dpo": (TRL, "--model m --data p.jsonl --out out --dtype bfloat16 --batch-size 16 --gradient-checkpointing "
                  "--lr 5e-7 --schedule cosine --save-every 100 --warmup 0.1 --push-to-hub org/name"),
    "train sft": (FACTORY, "--model m --data p.jsonl --out out --dtype bfloat16 --lora.rank 8 --max-length 2048 "
                  "--report-to none --batch-size 8 --lr 1e-4 --epochs 3 --held-out 0.1"),
}  # fmt: skip


@pytest.mark.parametrize("name", HERE)
def test_whole_files_of_other_trainers(name: str, tmp_path: Path):
    """As people keep them beside their runs. What changes nothing here is told, and no reason to refuse a file."""
    text, ours = HERE[name]
    (tmp_path / "c.yaml").write_text(text)
    assert parsed(name, "--config", str(tmp_path / "c.yaml")) == parsed(name, *ours.split())
    if name == "train sft":
        with pytest.raises(UserError, match="stage: it is the command"):
            parsed("train dpo", "--config", str(tmp_path / "c.yaml"))


def test_a_rank_that_somebody_typed_is_the_only_one_told():
    """Mutation caught: the usual rank told beside the one that counts; `save_strategy: no` that gives way."""

    def told(*args: str) -> tuple[list[list[str]], list[str]]:
        words, notes = in_our_words(split(args), sft.Config, "heedful train sft", {})
        return [word.words() for word in words], notes

    lora = ("--finetuning-type", "lora")
    assert told(*lora) == ([["--lora.rank", "16"]], ["--finetuning-type lora: --lora.rank 16"])
    for rank in (["--lora-rank", "8"], ["--lora.rank", "8"]):
        words, notes = told(*lora, *rank)
        assert words == [["--lora.rank", "8"]] and not any("16" in note for note in notes)
    words, _ = told("--save-strategy", "no", "--save-steps", "5")
    assert ["--save-every", "0"] in words


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("train sft", [*TRAIN, "--steps", "1e9"], "--steps 1e9: expected a whole number;"),
        ("train sft", [*TRAIN, "--max-steps", "x"], "--max-steps x: expected a whole number;"),
        ("train sft", [*TRAIN, "--batch-size", "x"], "--batch-size x: expected a whole number;"),
        ("train sft", [*TRAIN, "--lr", "x"], "--lr x: expected a number;"),
        ("train sft", [*TRAIN, "--lr="], "--lr '': expected a number;"),
        ("train sft", [*TRAIN, "--steps=-x"], "--steps -x: expected a whole number;"),
        ("train sft", [*TRAIN, "--lora.alpha", "x"], "--lora.alpha x: expected a number;"),
        ("train sft", [*TRAIN[2:], "--model"], "--model needs a value;"),
        (
            "train sft",
            [*TRAIN, "--schedule", "cosin"],
            "--schedule cosin: expected constant, linear, cosine (did you mean 'cosine'?);",
        ),
        (
            "train ppo",
            [*ONLINE, "--reward-weights", "x", "y"],
            "--reward-weights x y: expected num",
        ),
        ("import", ["comparisns", "x"], "comparisns: expected prompts, demonstrations, "),
        ("import", ["comparisons"], "heedful import needs SOURCE;"),
        ("import", [], "heedful import needs WHAT;"),
    ],
)
def test_a_value_of_another_kind_is_told_in_words(name: str, args: list[str], said: str):
    """Mutation caught: `no type matching {None}|INT could be instantiated from ['1e9']`, and the names of Python's
    functions; a first word asked for that is there."""
    with pytest.raises(UserError) as error:
        parsed(name, *args)
    assert str(error.value).startswith(said)


def test_one_setting_under_two_names_is_refused(tmp_path: Path):
    """Mutation caught: the last of them counts, in silence."""
    file = tmp_path / "c.yaml"
    file.write_text("learning_rate: 1e-4\nlr: 2e-4\n")
    for said in (["--config", str(file)], ["--learning-rate", "1e-4", "--lr", "2e-4"]):
        with pytest.raises(UserError, match="are one setting; leave one of them out"):
            parsed("train sft", *TRAIN, *said)
    file.write_text("learning_rate: 1e-4\n")
    typed = parsed("train sft", *TRAIN, "--config", str(file), "--lr", "2e-4")
    assert typed.learning_rate == 2e-4  # what is typed wins over a file


@pytest.mark.parametrize(
    "said, one, other",
    [
        ("--lr 1e-4 --lr 2e-4", "--lr 1e-4", "--lr 2e-4"),
        ("--steps=3 --steps 4", "--steps 3", "--steps 4"),
        ("--quiet --no-quiet", "--quiet", "--no-quiet"),
        ("--loss-type ipo --loss_type hinge", "--loss-type ipo", "--loss_type hinge"),
        (
            "--per-device-train-batch-size 2 --per-device-train-batch-size 4",
            "--per-device-train-batch-size 2",
            "--per-device-train-batch-size 4",
        ),
    ],
)
def test_a_setting_that_is_said_twice_is_refused(said: str, one: str, other: str):
    """Mutation caught: the last of them counts, in silence; of what is said elsewhere, too."""
    with pytest.raises(UserError, match=f"^{one} and {other} are one setting; leave one of them"):
        parsed("train dpo", *TRAIN, *said.split())


def test_what_holds_several_values_may_be_said_several_times():
    """As other programs want it. Mutation caught: the last of them counts, so that the data that the first names is
    left out in silence; the same word twice refused."""
    said = "--data e@0.5 --reward length --reward=no_eos --reward-weights 1 --reward-weights=-2"
    config = parsed("train grpo", *TRAIN, *said.split(), "--quiet", "--quiet")
    assert config.data == ("d.jsonl", "e@0.5")
    assert config.reward == ("length", "no_eos") and config.reward_weights == (1.0, -2.0)
    for words, reason in (
        (["--config", "a.yaml", "--config=b.yaml"], "--config is there twice"),
        (["--config"], "--config needs a value"),
        (["--config", "--quiet"], "--config needs a value"),
    ):
        with pytest.raises(UserError, match=reason):
            parsed("train sft", *words)


def test_a_value_may_be_words_of_another_command():
    """Mutation caught: `--flags '--steps 3'` taken for an option of the name `--steps 3`."""
    assert parsed("plan", "c.yaml", "--gpus", "H100", "--flags", "--steps 3").flags == "--steps 3"


def test_a_batch_is_of_all_processes():
    assert (
        parsed("train sft", *TRAIN, "--per-device-train-batch-size", "2", world=3).batch_size == 6
    )


@pytest.mark.parametrize(
    "name, args, words",
    [
        ("train dpo", "--gradient-accumulation-steps 4", "--batch-size is the whole batch"),
        ("train dpo", "--rpo-alpha 1.0", r"dpo\+0.01\*preferred_ft"),
        ("train dpo", "--loss-type kto_pair", "heedful train kto"),
        ("train dpo", "--loss-type bnpo", "heedful train grpo"),
        ("train dpo", "--deepspeed ds.json", "--shard shares out"),
        ("train dpo", "--push-to-hub", "say where"),
        ("train dpo", "--torch-dtype auto", "^--torch-dtype auto: say float32 or bfloat16"),
        ("train dpo", "--skip-bad", "it is --on-bad-row drop"),
        ("train grpo", "--num-train-epochs 3", "--steps counts rounds"),
        ("train sft", "--rollout-bach-size 3", "did you mean '--rollout-batch-size'"),
        ("train sft", "--quantise 3", "no option --quantise$"),  # no misleading nearest word
        ("train sft", "--kl-target 3", "no option --kl-target$"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_told(name: str, args: str, words: str, tmp_path: Path):
    needed = ONLINE if "grpo" in name else TRAIN
    with pytest.raises(UserError, match=words):
        parsed(name, *needed, *args.split())


def test_every_row_of_the_table_is_heard():
    """By each command: it does something, changes nothing, or is answered; nobody gets a traceback or a wrong hint."""
    flags = [row.flag for row in elsewhere.rows().values() if " " not in row.flag]
    assert len(flags) == len(set(flags)) > 120
    for name in ("train dpo", "train grpo", "train sft", "sample"):
        command = commands.command(name)
        kind = command.flags.Config
        known = names_of(kind)
        for flag in flags:
            for value in ([], ["1"], ["false"]):
                try:
                    ours, _ = in_our_words(split([flag, *value]), kind, name, command.sets)
                    assert all(w.flag in known for w in ours), flag
                except UserError as error:
                    assert str(error).startswith((f"{name} has no option {flag}: ", flag)), error


def test_the_page_shows_the_table():
    """`python -m heedful.configs.elsewhere` writes it."""
    assert elsewhere.markdown() in PAGE.read_text(encoding="utf-8")


TRAINED = [n for n, (m, _) in commands.COMMANDS.items() if n.startswith("train ") and m != OF_TESTS]
TRAINED = [
    n for n in TRAINED if hasattr(commands.command(n).flags.Config, "lora")
]  # language models
TRAINED += [f"train {method}" for method in commands.methods()]


@pytest.mark.parametrize("name", TRAINED)
def test_a_saved_config_is_the_command_again(name: str, tmp_path: Path, monkeypatch):
    """Mutation caught: a config without the name of its method, which another method then becomes."""
    rewards = commands.command(name).flags.__name__.endswith(("policy", "online"))  # type: ignore[union-attr]
    needed = WHOLE.get(name, ONLINE if rewards else TRAIN)
    config = parsed(name, *needed, "--lora.rank", "2", "--seed", "5")
    saved = tmp_path / "config.yaml"
    saved.write_text(yaml.safe_dump(settings(config), sort_keys=False))
    assert parsed(name, "--config", str(saved)) == config
    assert config_file.command_in(["--config", str(saved)]) == name
    other = "train ppo" if name != "train ppo" else "train grpo"
    with pytest.raises(UserError, match=f"is of heedful {name}, not of heedful {other}"):
        parsed(other, "--config", str(saved))


def test_a_field_of_several_parts_is_read_as_the_chosen_one_has_it():
    """From Python and from a file. Mutation caught: the values that another advantage's field of this name may have."""
    given = {"model": "m", "data": "d", "reward": ("r",), "out": "o", "credit": "turn"}
    sets = commands.command("train grpo").sets
    config = made(commands.command("train grpo").flags.Config, {**sets, **given}, "grpo")
    assert config.advantage.credit == "turn"
    with pytest.raises(UserError, match="credit is 'token'"):
        made(type(config), {**sets, **given, "credit": "token"}, "grpo")
    with pytest.raises(UserError, match="credit is 'turn'"):
        made(type(config), {**commands.command("train ppo").sets, **given}, "ppo")


def test_the_same_names_in_python():
    """Mutation caught: aliases that only the command line knows."""
    config = made(
        sft.Config, {"model_name_or_path": "m", "data": "d", "out": "o", "lr": 0.1}, "sft"
    )
    assert (config.model, config.learning_rate) == ("m", 0.1)
    with pytest.raises(UserError, match="sft: unknown field 'deepspeed': --nproc starts"):
        made(sft.Config, {"deepspeed": "x"}, "sft")
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}):
        with pytest.raises(ValueError, match="top_p above 0"):
            Sampling(**wrong)
