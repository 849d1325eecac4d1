"""The doctor: every check finds its illness and leaves the healthy alone; the page, the JSON, the exit code."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file, save_file

import patients
import tiny
from heedful import doctor
from heedful.cli import main
from heedful.data.columns import prompt_from_json
from heedful.data.tokens import encode_prompt
from heedful.doctor import diagnose, examine, preflight, tokens
from heedful.doctor.finding import Finding, NotApplicable, graded, share
from heedful.doctor.material import Example, read_material
from heedful.errors import UserError
from heedful.models.load import load_reference
from heedful.models.new import CHAT_TEMPLATE
from heedful.models.save import save_model
from heedful.types import Demonstration, Message, Sample

CHECKS = {
    f"{doctor.group_name(g)}.{c.__name__}": c for g in doctor.GROUPS for c in doctor.checks(g)
}
INFORMATION = {"probabilities.reencoding"}  # says a number and judges nothing


def test_every_check_has_a_patient():
    """A new check without a broken model that it finds fails here. Mutation caught: a helper taken for a check."""
    assert set(patients.ILL) == set(CHECKS) - INFORMATION
    assert len(CHECKS) > 60 and all(c.__doc__ for c in CHECKS.values())


@pytest.mark.parametrize(
    ("name", "kind", "make"),
    [(name, kind, make) for name, all_ in patients.ILL.items() for kind, make in all_],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_illness_is_found(name, kind, make):
    """Each broken tokenizer, template, model, head or file is found by the check for it, which says what to do.

    Mutation caught: any check that always passes, or that fails without a remedy.
    """
    finding = diagnose(CHECKS[name], make())
    assert finding.kind == kind, finding
    assert finding.says and finding.remedy
    assert "the check broke" not in finding.says and "\n" not in finding.says


@pytest.fixture(scope="module")
def visits() -> dict[str, tuple[list[Finding], float]]:
    """What was found in the healthy, and the processor's seconds, which do not count what else the machine does."""
    found = {}
    for who, context in {"whole": patients.healthy(), **patients.other_healthy()}.items():
        began = time.process_time()
        found[who] = (examine(context), time.process_time() - began)
    return found


@pytest.fixture(scope="module")
def sound(visits) -> dict[str, list[Finding]]:
    return {who: all_ for who, (all_, _) in visits.items()}


def test_the_healthy_pass(sound):
    """Llama, Qwen2 and GPT-2; chats and plain text; every form of data; masks and greedy decoding.

    Mutation caught: any check that cries wolf.
    """
    wrong = [(who, f) for who, all_ in sound.items() for f in all_ if f.kind in ("warning", "fail")]
    assert wrong == []
    passes = {f"{f.group}.{f.check}" for all_ in sound.values() for f in all_ if f.kind == "pass"}
    assert passes == set(CHECKS)
    assert all(f.says for all_ in sound.values() for f in all_)


def test_it_takes_seconds(visits):
    assert all(took < 10 for _, took in visits.values())
    assert all(sum(f.seconds for f in all_) > 0 for all_, _ in visits.values())


def test_a_check_that_breaks_is_a_finding():
    """Mutation caught: an exception that ends the doctor's visit, an interrupt that does not."""

    def raising(error):
        def check(context):
            raise error

        return diagnose(check, patients.healthy())

    broken = raising(IndexError("out of\nrange"))
    assert broken.kind == "fail" and "IndexError: out of range" in broken.says and broken.remedy
    assert raising(NotApplicable("no data")) == Finding("not applicable", "no data")
    assert raising(UserError("no eos")).kind == "fail"
    for stop in (KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(stop)):
            raising(stop)


def test_a_check_changes_nothing():
    """Weights, gradients, mode and generation settings are as before. Mutation caught: grads left, train() left on."""
    model = patients.policy("gpt2")
    state = {n: t.clone() for n, t in model.state_dict().items()}
    settings = model.generation_config
    examine(patients.healthy(policy=model, reference=None, rm=None))
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m.training for m in model.modules()) and model.generation_config is settings


def test_length_is_compared_within_a_prompt():
    """Long answers to one prompt, short ones to another, and in each the shorter is better: −1, not +1.

    Mutation caught: one correlation over all responses, whose free shift per prompt is then taken for length.
    """
    sizes = {"a": (40, 50, 60, 70), "b": (2, 3, 4, 5)}
    rated = [
        (
            Example(prompt, ("x",) * 4),
            [Sample((0,) * n, (True,) * n, (0.0,) * n) for n in lengths],
            [lengths[0] - 0.01 * n for n in lengths],
        )
        for prompt, lengths in sizes.items()
    ]
    context = patients.healthy()
    context.__dict__["rated"] = rated
    finding = diagnose(CHECKS["rewards.longer_is_better"], context)
    assert finding.kind == "warning" and "-1.00" in finding.says and "punishes" in finding.remedy


def test_a_pad_id_of_its_own_suits_transformers():
    """Any pad id will do that no response ends with. Mutation caught: rows filled with 0 whatever the config says."""
    context = patients.treated(lambda model: setattr(model.config, "pad_token_id", 2))
    assert diagnose(CHECKS["rewards.last_token"], context).kind == "pass"


def test_what_just_fits_is_not_cut():
    """Mutation caught: an end token at the very limit counted as lost; a prompt that just fits refused."""
    item = {"prompt": patients.asked("Why?"), "completion": "So."}
    context = patients.healthy(material=patients.material(item))
    size = len(context.encoded[0].sample.tokens)
    for limit, kind in ((size, "pass"), (size - 1, "fail")):
        short = patients.healthy(material=context.material, max_length=limit)
        assert diagnose(CHECKS["data.cut"], short).kind == kind
    room = 128 - len(encode_prompt(context.tokenizer, context.encoded[0].prompt))
    for most, kind in ((room, "pass"), (room + 1, "fail")):
        full = patients.healthy(material=context.material, max_tokens=most)
        assert diagnose(CHECKS["tokens.prompts_fit"], full).kind == kind


def test_the_first_dpo_loss_is_the_losses_own():
    """With another reference the line says the loss that `losses.preference.dpo` would start at, worked by hand."""
    other = tiny.policy(patients.tok(), seed=5)
    context = patients.healthy(reference=other)
    rows = [e.sample for e in context.trainable]
    logps = [context.logps(rows, model=m).sum(1) for m in (context.model, other)]
    h = (logps[0] - logps[1])[0::2] - (logps[0] - logps[1])[1::2]
    expected = torch.log(1 + torch.exp(-0.1 * h)).mean()
    said = diagnose(CHECKS["updates.dpo_starts_at_ln2"], context).says
    assert f"DPO starts at {expected:.5f}" in said


def test_numbers():
    assert graded("x", 0.1, warn=0.1, fail=1, remedy="r").kind == "pass"
    assert graded("x", 0.2, warn=0.1, fail=1, remedy="r").kind == "warning"
    assert graded("x", 2.0, warn=0.1, fail=1, remedy="r").kind == "fail"
    assert graded("x", float("nan"), warn=0.1, remedy="r").kind == "fail"
    assert share(0, 5) == "none of 5" and share(2, 8) == "2 of 8 (25 %)"
    assert share(1, 1000) == "1 of 1,000 (under 1 %)"


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    at = tmp_path_factory.mktemp("doctor")
    for name, model, tok in (
        ("policy", patients.policy(), patients.tok()),
        ("reward", patients.reward().model, patients.tok()),
        ("no_eos", patients.policy(), patients.other_tokenizer(eos_token=None)),
        ("gpt2", patients.policy("gpt2"), patients.tok()),
        ("fewer_rows", tiny.causal_lm("llama", vocab=300), patients.tok()),
    ):
        (at / name).mkdir()
        save_model(model, tok, at / name)
    (at / "torn").mkdir()
    save_model(patients.policy(), patients.tok(), at / "torn")
    whole = load_file(at / "torn" / "model.safetensors")
    whole.pop("model.norm.weight")
    save_file(whole, at / "torn" / "model.safetensors", {"format": "pt"})
    for name, rows in {
        "pairs": patients.comparisons(),
        "bad": [*patients.comparisons()[:9], {"prompt": "x", "responses": ["a", "a"], "ranking": [1, 2]}],
        "sft": [{"prompt": patients.asked("Why?"), "completion": "So."}],
        "prompts": [{"prompt": patients.asked("Why?")}],
        "odd": [{"promt": "Why?"}],
    }.items():  # fmt: skip
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (at / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return at


def visit(capsys, *args) -> tuple[int, str]:
    code = main(["doctor", *map(str, args)])
    return code, capsys.readouterr().out


def test_the_page(folders, capsys, monkeypatch):
    """A line of at most 80 columns for each finding, in plain text. Mutation caught: colours in a file."""
    monkeypatch.setenv("COLUMNS", "200")
    code, out = visit(
        capsys, folders / "policy", folders / "pairs.jsonl", "--reward-model", folders / "reward",
        "--max-tokens", "16", "--eval-data", folders / "prompts.jsonl",
    )  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in out
    assert not any(line != line.rstrip() for line in lines)
    shown = [line for line in lines if line.startswith(("pass ", "n/a ", "warning ", "fail "))]
    assert len(shown) == len(CHECKS)  # here no two in succession do not apply for the same reason
    assert lines[-1].startswith("0 failed, 0 with a warning, ")
    assert "60 rows of comparisons, all readable" in out


def test_what_does_not_apply_is_one_line(folders, capsys):
    """Mutation caught: nine lines of "no --reward-model"; a group whose lines stand below the next heading."""
    _, out = visit(capsys, folders / "policy", "--max-tokens", 16)
    n = sum(name.startswith("rewards.") for name in CHECKS)
    assert f"\nrewards\nn/a     {n} checks: no --reward-model\n\ndata\n" in out
    assert out.count("no --reward-model") == 1


def test_failures_have_remedies_and_exit_code_1(folders, capsys):
    """Mutation caught: exit code 0 although something failed; a failure without what to do."""
    code, out = visit(capsys, folders / "policy", folders / "bad.jsonl", "--max-tokens", 16)
    assert code == 1
    at = next(i for i, line in enumerate(out.splitlines()) if line.startswith("fail"))
    below = " ".join(out.splitlines()[at : at + 6])
    assert "bad.jsonl:10" in below and "→ mend these rows" in below and "[readable]" in below
    assert visit(capsys, folders / "no_eos", folders / "sft.jsonl")[0] == 1


def test_a_language_model_as_reward_model_is_a_finding(folders, capsys):
    """Mutation caught: refused with exit code 2 before anything else was looked at."""
    code, out = visit(
        capsys, folders / "policy", "--reward-model", folders / "policy", "--max-tokens", 16
    )
    out = " ".join(out.split())
    assert code == 1 and "scalar head" in out and "the reward model does not load" in out
    code, out = visit(capsys, folders / "reward", "--max-tokens", 16)
    out = " ".join(out.split())  # where a line breaks depends on the length of the folder's name
    assert code == 1 and "holds a reward model" in out
    code, out = visit(capsys, folders / "torn", "--max-tokens", 16)
    out = " ".join(out.split())
    assert code == 1 and "holds no weights for" in out and "the model does not load" in out


def test_json(folders, capsys, tmp_path):
    """--json prints what --out writes. Mutation caught: lines among the JSON."""
    args = [folders / "gpt2", folders / "sft.jsonl", "--max-tokens", 16]
    code, out = visit(capsys, *args, "--json")
    said = json.loads(out)
    assert code == (1 if said["counts"]["fail"] else 0) == 0
    assert {f["check"] for f in said["findings"]} == {n.partition(".")[2] for n in CHECKS}
    assert set(said["findings"][0]) == {f.name for f in fields(Finding)}
    assert sum(said["counts"].values()) == len(said["findings"]) and said["seconds"] < 60
    code, out = visit(capsys, *args, "--out", tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text())
    assert "pass" in out and code == 0
    same = [(f["check"], f["kind"], f["says"]) for f in written["findings"]]
    assert same == [(f["check"], f["kind"], f["says"]) for f in said["findings"]]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "MODEL"),
        (["nowhere/at/all"], "no such folder"),
        (["policy", "nothing.jsonl"], "no such file"),
        (["policy", "--reward-model", "nowhere/at/all"], "no such folder"),
        (["policy", "--reference", "nowhere/at/all"], "no such folder"),
        (["policy", "--top-p", "0"], "--top-p"),
        (["policy", "--limit", "0"], "--limit"),
        (["policy", "--temprature", "1"], "did you mean '--temperature'"),
    ],
)
def test_bad_input_is_exit_code_2(args, words, folders, capsys, monkeypatch):
    monkeypatch.chdir(folders)
    assert main(["doctor", *args]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_reference_that_training_refuses_is_a_failure(folders, capsys):
    """Mutation caught: sizes compared alone; an index that is out of range where the reference has fewer rows."""
    _, out = visit(capsys, folders / "policy", "--reference", folders / "fewer_rows", "--json")
    found = {f["check"]: f for f in json.loads(out)["findings"]}["reference_fits"]
    assert found["kind"] == "fail" and "300 rows of embeddings, and 20 tokens" in found["says"]
    with pytest.raises(UserError, match="300 rows of embeddings, and 20 tokens"):
        load_reference(str(folders / "fewer_rows"), str(folders / "policy"))
    assert load_reference(str(folders / "policy"), str(folders / "gpt2"))


def test_wrong_columns_are_told_plainly(folders):
    m = read_material(str(folders / "odd.jsonl"), 10)
    assert m.refused == (
        "odd.jsonl:1: no column says what this is, found `promt` (did you mean 'prompt'?)",
    )


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "comparisons"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}, "comparisons"),
        ({"prompt": "a", "completion": "b", "label": 1}, "labelled responses"),
        ({"prompt": "a", "completion": "b"}, "demonstrations"),
        ({"messages": [*patients.asked("a"), {"role": "assistant", "content": "b"}]}, "demonstrations"),
        ({"messages": patients.asked("a")}, "prompts"),
        ({"question": "a"}, "prompts"),
        ({"text": "a"}, "texts"),
    ],
)  # fmt: skip
def test_forms(row, form):
    m = patients.material(row)
    assert (m.form, m.refused, len(m.items)) == (form, (), 1) and m.whole


def test_labels_stay_with_their_rows():
    """Mutation caught: a refused row whose label stays, so that all later ones slip by one."""
    rows = [{"prompt": "a", "completion": "b", "label": x} for x in (1, "yes", 0)]
    m = patients.material(*rows)
    assert m.labels == (True, False) and len(m.items) == 2 and "`label`" in m.refused[0]


# ── before training ──────────────────────────────────────────────────────────────────────────────


def test_preflight_is_quick_and_silent_for_the_healthy(caplog):
    """Well under a second. Mutation caught: a forward pass, or all of a large data set, before training."""
    items = [Demonstration((Message("user", f"Why {i}?"),), "So.") for i in range(5000)]
    started = time.process_time()
    preflight(patients.tok(), patients.policy(), items)
    assert time.process_time() - started < 0.5
    assert caplog.records == []
    preflight(patients.tok(), patients.policy(), [prompt_from_json(patients.asked("Why?")), "Why"])
    preflight(patients.tok(), patients.policy(), [])


def test_preflight_tells_what_bears_on_the_run(caplog):
    """Mutation caught: every run of a model without a system's turn warns, though nobody has one; a run on questions in
    plain text does not."""
    no_system = patients.templated(patients.NO_SYSTEM).tokenizer
    ask = (Message("user", "Why?"),)
    preflight(no_system, patients.policy(), [Demonstration(ask, "So.")])
    assert not caplog.text
    preflight(patients.tok(), patients.policy(), [Demonstration("Why is", " it so.")])
    assert not caplog.text
    preflight(patients.tok(), patients.policy(), ["Once upon a", "Why is it\n", "Why. TL;DR:"])
    assert not caplog.text
    for asked in ([Demonstration("Why? Say it.", "So."), "Why?"], ["Name three fruits."]):
        preflight(patients.tok(), patients.policy(), asked)
        assert "plain_prompts" in caplog.text and "--columns question=prompt" in caplog.text
        caplog.clear()


def test_preflight_stops_what_would_be_ruined(caplog):
    """Mutation caught: a warning that stops a run, a failure that does not."""
    items = [Demonstration((Message("user", "Why?"),), "So.")]
    broken = patients.other_tokenizer(CHAT_TEMPLATE.replace("add_generation_prompt", "false"))
    with pytest.raises(UserError, match=r"add_generation_prompt.*training_is_generation"):
        preflight(broken, patients.policy(), items)
    with pytest.raises(UserError, match="out of range"):
        preflight(patients.tok(), tiny.causal_lm("llama", vocab=300), items)
    with pytest.raises(UserError, match="no room for 127 tokens"):
        preflight(patients.tok(), patients.policy(), items, max_tokens=127)
    dated = patients.other_tokenizer("{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE)
    preflight(dated, patients.policy(), items)
    assert "today's date" in caplog.text


@pytest.mark.parametrize("job", ["sft", "reward"])
def test_training_asks_the_doctor_first(job, folders, tmp_path, capsys):
    """A run that would be ruined leaves nothing behind. Mutation caught: a recipe without its preflight line."""
    broken = patients.other_tokenizer(CHAT_TEMPLATE.replace("add_generation_prompt", "false"))
    (tmp_path / "m").mkdir()
    save_model(patients.policy(), broken, tmp_path / "m")
    data = folders / ("sft.jsonl" if job == "sft" else "pairs.jsonl")
    args = ["--model", tmp_path / "m", "--data", data, "--out", tmp_path / "out"]
    assert main(["train", job, *map(str, args), "--report-to", "none"]) == 2
    assert "a check of this run failed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_pages_say_what_there_is():
    """docs/doctor.md names every check. Mutation caught: a check that nobody can look up."""
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert [name for name in CHECKS if f"`{name.partition('.')[2]}`" not in text] == []
    assert importlib.import_module("heedful.recipes.doctor").Config.__doc__


def test_the_advice_about_a_missing_bos_is_for_who_leaves_it_out():
    """Mutation caught: a template that begins with BOS is told to begin with BOS."""
    for context, told in (
        (patients.with_bos(""), "begin the chat template with it"),
        (patients.with_bos("<s>", tokenizer_adds_it=False), "add_bos_token=True"),
    ):
        assert told in tokens.begin_of_sequence(context).remedy


def test_the_token_that_opens_a_turn_may_be_bos():
    """As in SmolLM2-Instruct, whose template begins with a system's turn of its own. Mutation caught: every BOS of a
    conversation is counted, and such a model cannot be trained."""
    turn = "<s>{{ m['role'] }}{{ m['content'] }}<|end|>"
    template = "<s>systemBe kind.<|end|>{% for m in messages %}" + turn + "{% endfor %}"
    context = patients.with_bos(template, turns=patients.OPEN, tokenizer_adds_it=False)
    assert tokens.begin_of_sequence(context).kind != "fail"


def test_a_bos_is_missed_where_it_would_stand(caplog):
    """Mutation caught: every run on conversations is told what plain text lacks."""
    tok = patients.with_bos("<s>", tokenizer_adds_it=False).tokenizer
    model = tiny.causal_lm("llama", vocab=len(tok))
    preflight(tok, model, [Demonstration((Message("user", "Why?"),), "So.")])
    assert "begin_of_sequence" not in caplog.text
    preflight(tok, model, [Demonstration("Why is", " it so.")])
    assert "begin_of_sequence" in caplog.text
