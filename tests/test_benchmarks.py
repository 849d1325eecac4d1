"""The benchmarks measure what they say: inputs from a seed, FLOPs by hand, the same work on both sides."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks import (  # noqa: E402
    checks,
    clock,
    floor,
    growth,
    heedful_side,
    inputs,
    process,
    profile,
    run,
    table,
    tools,
    trl_ppo,
    trl_side,
)
from benchmarks.job import (  # noqa: E402
    BLOCKS,
    SAMPLING,
    TASKS,
    TRAINING,
    Job,
    Measured,
    as_result,
    per_step,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    inputs.build("nano", folder)
    return folder


def nano(cache: Path, task: str, **other) -> Job:
    return Job(task=task, size="nano", folder=str(inputs.build("nano", cache)), **other)


def test_inputs_repeat_bit_for_bit(cache, tmp_path):
    """Mutation caught: a global random state in words, weights or tokenizer; an order that was not saved."""
    one, two = inputs.build("nano", cache), inputs.build("nano", tmp_path)
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
    assert [f for f in files if (one / f).read_bytes() != (two / f).read_bytes()] == []
    assert inputs.build("nano", tmp_path, seed=1) != two


def test_lengths_are_what_is_said(cache):
    """Exactly as many tokens as were drawn, also across the seam of prompt and response.

    Mutation caught: words without their space, whose tokens merge with the neighbour's.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(inputs.build("nano", cache) / "base")
    words = inputs.Words(3)
    drawn = sorted(words.length(60, 0.8, 512) for _ in range(4001))
    assert 55 <= drawn[2000] <= 65 and drawn[0] >= 4 and 400 <= drawn[-1] <= 512
    for number in (1, 7, 60):
        one, two = words.text(tokenizer, number), words.text(tokenizer, 9)
        assert len(tokenizer(one)["input_ids"]) == number
        assert len(tokenizer(one + two)["input_ids"]) == number + 9


def test_the_order_is_that_of_the_recipe(cache):
    """Every training row once, the held-out one never. Mutation caught: the held-out row not the last."""
    from heedful.data.sources import split_by_prompt

    folder = inputs.build("nano", cache)
    written = [json.loads(x) for x in (folder / "pairs.jsonl").read_text().splitlines()]
    train, held = split_by_prompt(written, lambda row: row["prompt"], inputs.HELD_OUT)
    taken = inputs.rows(folder, "pairs.jsonl")
    assert sorted(map(str, taken)) == sorted(map(str, train)) and taken != train
    assert len(held) == 1


@pytest.mark.parametrize("dtype", clock.SURE)
def test_responses_are_as_long_as_planned(cache, dtype):
    """Ragged lengths, some cut at the most, and `transformers.generate` writes exactly as many tokens.

    Mutation caught: a clock one token early or late, noise of the residual stream that moves it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = inputs.build("nano", cache)
    timed = folder / f"clock-{dtype}"
    model = AutoModelForCausalLM.from_pretrained(timed, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(timed)
    torch.manual_seed(0)
    lengths = []
    for row in inputs.rows(folder, "prompts.jsonl"):
        given = tokenizer(row["prompt"], return_tensors="pt")
        out = model.generate(**given, max_new_tokens=12, do_sample=True, top_k=0)
        size = given["input_ids"].shape[1]
        lengths.append(out.shape[1] - size)
        assert lengths[-1] == clock.written(size, row["last"], 12)
    assert len(set(lengths)) > 2


def test_flops_by_hand():
    """One layer of width 4 with one key-value head of two, ffn 8, 10 words; a prompt of 3 and responses of 2 and 1.

    Weights: q and o 16 each, k and v 8 each, three of 32 = 144. Tokens that predict: 3 + 1 + 0. Pairs: 1+2+3 in the
    prompt, 4 for the one response token. Rows of logits: after the prompt one, after the response token one.
    Mutation caught: the prompt counted for each response, the last token run, attention to what comes after.
    """
    size = inputs.Size(hidden=4, layers=1, heads=2, kv_heads=1, ffn=8, vocab=10)
    found = floor.forward(size, [(3, (2, 1))])
    assert found == floor.Flops(layers=2 * 144 * 4, attention=4 * 4 * 10, head=2 * 4 * 10 * 2)
    scored = floor.forward(
        size, [(3, (2, 1))], head=False
    )  # every token runs: 3 + 2 + 1; pairs 6 + 4 + 5 + 4
    assert scored == floor.Flops(layers=2 * 144 * 6, attention=4 * 4 * 19, head=2 * 4 * 6)


def test_seconds_of_steps():
    """The first step warms up, what came before all of them is shared. Mutation caught: the share of one step less."""
    assert per_step([10.0, 12.0, 15.0], before=3.0) == [3.0, 4.0]


@pytest.mark.parametrize("task", [t for t in TASKS if t != "startup"])
def test_heedful_does_all_the_work(cache, task):
    """Steps, sampled tokens and real tokens of a nano run. Mutation caught: steps or rounds left out, an end token
    that was sampled after all, log-probs that no clock sees."""
    job = nano(cache, task, breakdown=True)
    measured = Measured()
    heedful_side.work(job, measured)
    found = as_result(measured)
    assert checks.alone(job, found) == []
    assert found["extra"]["floor"]["ratio"] > 0
    if task == "generate":
        assert len(found["seconds"]) == BLOCKS - 1
        return
    assert len(found["seconds"]) == (job.sizes.rounds if found["sampled"] else job.sizes.steps) - 1
    assert all(found["parts"][p] > 0 for p in ("forward and loss", "backward", "optimiser"))
    assert (found["before"] > 0) == (task == "dpo")
    mean = sum(found["seconds"]) / len(found["seconds"])
    assert sum(found["parts"].values()) == pytest.approx(mean)
    if not found["sampled"]:
        groups = floor.groups_of(job)
        shared = sum(p * (len(r) - 1) for p, r in groups)  # each response is a row with its prompt
        assert sum(found["tokens"]) == sum(p + sum(r) for p, r in groups) + shared


def test_no_process_finds_what_an_earlier_one_cached(tmp_path):
    """Mutation caught: references' log-probs that the second repeat finds on the disk."""
    given = process.environment(1, "default", str(tmp_path))
    assert given["HEEDFUL_CACHE"] == given["HF_HOME"] == str(tmp_path)


def test_different_work_is_seen(cache):
    """Mutation caught: a check that compares nothing."""
    job = nano(cache, "dpo")
    good = {"updates": 3, "sampled": 0, "tokens": [5, 6, 7], "losses": [0.7, 0.6, 0.5]}
    assert checks.alone(job, good) == checks.together(job, good, good) == []
    assert checks.alone(job, {**good, "updates": 2})
    asked = nano(cache, "grpo")
    assert checks.alone(asked, {"updates": 2, "sampled": checks.planned(asked, 2)}) == []
    assert checks.alone(asked, {"updates": 2, "sampled": checks.planned(asked, 2) - 1})
    assert checks.together(job, good, {**good, "tokens": [5, 6, 8]})
    assert checks.together(job, good, {**good, "losses": [0.7, 0.6, 0.501]})
    greedy = [{"extra": {"greedy": [[1, 2], [3, last]]}} for last in (4, 5)]
    assert checks.together(nano(cache, "generate"), *greedy)


@pytest.mark.parametrize("work", growth.WORK)
def test_growth_measures_a_point(work, monkeypatch):
    """Mutation caught: a long point run again and again; rows along the length that no micro-batch holds at once."""
    import torch

    from heedful.learner.local import LocalLearner

    calls = []
    monkeypatch.setattr(growth, work, lambda *_: lambda: calls.append(time.sleep(0.02)))
    given = {**growth.BASE, "hidden": 32, "vocab": 64, "work": work}
    found = growth.point(given, torch.get_num_threads(), "float32")
    assert found["seconds"] >= 0.02 and len(calls) == 1 + growth.TIMES
    monkeypatch.setattr(growth, "ENOUGH", 0.03)
    growth.point(given, torch.get_num_threads(), "float32")
    assert len(calls) == 1 + growth.TIMES + 1 + 2
    of_learner = inspect.signature(LocalLearner).parameters["micro_batch_tokens"].default
    assert max(growth.AXES["length"]) * growth.FIXED["length"]["batch"] <= of_learner


def test_growth_goes_on_after_a_point_without_end(capsys):
    """Mutation caught: a limit nobody keeps, an axis that stops where a point failed."""
    assert growth.main(["length", "--most", "128", "--limit", "0.01"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["work"], line["failed"]) for line in lines] == [(w, "time") for w in growth.WORK]


@pytest.mark.parametrize("task", ["sft", "dpo"])
def test_the_profile_adds_up(task, capsys):
    """Every operation has one kind, and all of the model is found. Mutation caught: a function that was renamed."""
    assert profile.main(["--size", "nano", "--task", task, "--batches", "2", "--threads", "1"]) == 0
    *rows, plain = capsys.readouterr().out.splitlines()
    cells = [row.split("|") for row in rows]
    parts = {kind.strip(): float(share.strip(" %")) for _, kind, _, share, _ in cells}
    assert sum(parts.values()) == pytest.approx(100, abs=len(parts))
    assert "without the profiler" in plain
    assert set(parts) == {
        "products of layers",
        "attention",
        "products of output layer",
        "output layer, without products",
        "norms",
        "gates",
        "optimiser",
        "other",
        "Python between operations",
    }


def test_the_table():
    """Mutation caught: heedful's numbers in TRL's column."""
    same = {"task": "sft", "size": "tiny", "flags": "best", "dtype": "float32", "threads": 2}
    lines = [
        {**same, "impl": "heedful", "seconds": {"median": 1.0}, "peak_rss_mib": 500.0, "floor": {"ratio": 1.5}},
        {**same, "impl": "trl", "seconds": {"median": 3.0}, "peak_rss_mib": 700.0},
        {**same, "impl": "trl/heedful", "ratio": {"min": 2.5, "median": 3, "max": 3.5}, "same_work": True},
    ]  # fmt: skip
    row = "| sft | tiny | best | float32 | 2 | 0 | 1 | 1 | 3 | 3.00 (2.50 to 3.50) | 1.50 | 500 | 700 |"
    assert table.table(lines).splitlines()[-1] == row


def test_ppo_asks_the_same_prompts_in_the_same_order(cache, monkeypatch):
    """Mutation caught: prompts in the order of the file, a prompt once, all prompts once and then all again."""
    from heedful.recipes import policy

    asked, rollout = [], policy.scored_rollout

    async def heard(*args, **kwargs):
        samples, metrics = await rollout(*args, **kwargs)
        asked.extend(s.tokens[: s.mask.index(True)] for s in samples)
        return samples, metrics

    monkeypatch.setattr(policy, "scored_rollout", heard)
    job = nano(cache, "ppo")
    heedful_side.work(job, Measured())
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.clock)
    assert [tuple(tokenizer(text)["input_ids"]) for text in trl_ppo.prompts(job)] == asked


def test_what_trls_ppo_does_is_counted():
    """What its trainer keeps of responses and the steps of its optimiser. Mutation caught: padding or what follows
    the end token counted, the end token not, a step counted for the policy alone."""
    import torch

    def truncate(stop, pad, responses):
        after = (responses == stop).cumsum(1) - (responses == stop).long() > 0
        return responses.masked_fill(after, pad)

    module, measured = SimpleNamespace(truncate_response=truncate), Measured()
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    trl_ppo.count(SimpleNamespace(optimizer=SimpleNamespace(optimizer=adam)), measured, module)
    kept = module.truncate_response(1, 0, torch.tensor([[5, 1, 6], [5, 6, 7]]))
    adam.step()
    assert kept.tolist() == [[5, 1, 0], [5, 6, 7]]
    assert (measured.sampled, measured.updates) == (5, 2)


@pytest.mark.parametrize("size", inputs.SIZES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_micro_batches_are_whole(size, dtype):
    """Mutation caught: micro-batches that leave rows of a step out, fewer rows in TRL's defaults."""
    for task in (*TRAINING, *SAMPLING):
        job = Job(task=task, size=size, folder="", dtype=dtype, flags="best")
        batch = job.sizes.responses if task in SAMPLING else job.sizes.batch
        assert batch % trl_side.piece_of(job, batch) == 0
        assert trl_side.piece_of(replace(job, flags="default"), batch) == batch
        assert trl_side.flags_of(replace(job, flags="default")) == {}


def test_padding_is_never_sampled(cache):
    """A trainer takes it for the end of the response. Mutation caught: padding as likely as any other token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = inputs.build("nano", cache) / "clock-float32"
    model, tokenizer = (
        kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    given = tokenizer(inputs.rows(folder.parent, "prompts.jsonl")[0]["prompt"], return_tensors="pt")
    with torch.no_grad():
        probs = model(**given).logits[0, -1].softmax(-1)
    assert probs[tokenizer.pad_token_id] == 0 and (probs > 0).sum() > 100


def test_only_trl_differs_between_its_two_environments(tmp_path):
    """Mutation caught: PPO measured with another PyTorch or by a TRL that has none, and no word where there is none."""
    one, two = (
        {x for x in (ROOT / f"benchmarks/{name}.txt").read_text().splitlines() if "==" in x}
        for name in ("requirements-trl", "requirements-trl-ppo")
    )
    assert {x.split("==")[0] for x in one ^ two} == {"trl"} and len(one | two) == 4
    assert run.trl_python("ppo").parts[-3] == ".venv-bench-ppo"
    gone = str(tmp_path / "python")
    with pytest.raises(SystemExit, match="make bench"):
        run.main(["ppo", "--size", "nano", "--cache", str(tmp_path), "--trl-ppo-python", gone])


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", [*TASKS, tools.NAME])
@pytest.mark.parametrize("flags", ["default", "best"])
def test_both_do_the_same_work(cache, tmp_path, task, flags):
    """TRL beside heedful at the smallest size: tokens, steps, losses and greedy responses agree."""
    if not run.trl_python(task).exists():
        pytest.skip("TRL at the pinned version is neither here nor in an environment of make bench")
    out = tmp_path / "lines.jsonl"
    args = [task, "--size", "nano", "--repeats", "1", "--flags", flags, "--cache", str(cache)]
    assert run.main([*args, "--threads", "1", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 3 and table.table(lines)


def test_a_policy_that_does_not_call_its_tool_is_told(tmp_path):
    """Two conversations of 10 and 12 tokens, each played by a group in every round. Mutation caught: episodes without
    a call that count as fast ones, the tool's words counted as the policy's."""
    (tmp_path / tools.NAME).mkdir()
    (tmp_path / tools.NAME / "planned.json").write_text("[10, 12]")
    job = Job(task=tools.NAME, size="nano", folder=str(tmp_path))
    tokens = job.sizes.rounds * job.sizes.group * 22
    good = {"updates": job.sizes.rounds, "sampled": tokens, "extra": {"calls": 1.0}}
    assert checks.alone(job, good) == []
    assert "0.500 calls" in checks.alone(job, {**good, "extra": {"calls": 0.5}})[0]
    assert checks.alone(job, {**good, "sampled": round(1.05 * tokens)})
    assert [tools.calculate(e) for e in ("37 * 48", "5-7", "?")] == [
        "1776",
        "-2",
        "Error: no expression",
    ]
    talk = tools.conversations(2)[1]
    assert (talk[0]["content"], talk[3]["content"]) == ("What is 24 * 28?", "It is 672.")


def test_what_heedful_tells_pytorch_is_not_told_to_trl():
    """Mutation caught: the environment after heedful has been imported."""
    said = (
        "import os, benchmarks.run, heedful; from benchmarks.process import environment; "
        "print(os.environ['GOMP_SPINCOUNT'], environment(1, 'default', '').get('GOMP_SPINCOUNT'))"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", said], env=kept, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["10000", "None"]


def test_neighbours_compute_until_the_end():
    """Mutation caught: programs that outlive the benchmark."""
    with process.neighbours(2) as programs:
        assert [program.poll() for program in programs] == [None, None]
    assert all(program.poll() is not None for program in programs)


def test_what_other_programs_take_is_seen(monkeypatch):
    """Mutation caught: the benchmark's own processes counted as others, idle time as work, one processor as all."""
    tick = os.sysconf("SC_CLK_TCK")
    # In 10 s two processors have been idle for 9, waiting for 1, worked for 9 and were stolen for 1: 6 s for children.
    lines = iter(["cpu 0 0 0 0 0 0 0 0 0 0", "cpu 700 100 60 900 100 20 20 100 50 0"])
    used = iter([(1.0, 1.0), (5.0, 3.0)])
    seconds = iter([100.0, 110.0])

    def line() -> list[str]:
        name, *numbers = next(lines).split()
        return [name, *(str(int(n) * tick // 100) for n in numbers)]

    def usage(_: int) -> SimpleNamespace:
        user, system = next(used)
        return SimpleNamespace(ru_utime=user, ru_stime=system)

    monkeypatch.setattr(process, "_cpu_line", line)
    monkeypatch.setattr(process.resource, "getrusage", usage)
    monkeypatch.setattr(process.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(process.os, "cpu_count", lambda: 2)
    assert process.taken_by_others(process.clocks()) == pytest.approx(4 / 20)


def test_where_the_system_does_not_say_it_nobody_knows(monkeypatch):
    def nothing() -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(process, "_cpu_line", nothing)
    assert process.taken_by_others(process.clocks()) is None
