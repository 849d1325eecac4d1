"""Groups of users: found where they are, what one reward costs each, and words for what they like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select
from torch import nn

import tiny
from databases import new_store
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError
from heedful.models.load import new_reward_model
from heedful.models.personal import PersonalHeads, add_personal_heads
from heedful.models.save import save_model
from heedful.raters.groups import Answers, Groups, grouped, k_means, report, sentences
from heedful.store.membership import profiles
from heedful.store.project import consent
from heedful.store.rating import work
from heedful.store.tables import schema
from workspace import answer, make_project, make_rater, make_task

LIKES = {"ann": 1.0, "bob": 1.0, "cem": 1.0, "dee": -1.0}


def exact_heads() -> PersonalHeads:
    """z is what the answers say of the first of two features, and counts as much in the reward."""
    heads = PersonalHeads(2, 1)
    with torch.no_grad():
        for p in heads.parameters():
            p.zero_()
        heads.view.weight[0, 0] = heads.back.weight[0, 0] = 3.0
    return heads


def answers(each: int = 8) -> Answers:
    """Three users out of four like the first feature, one dislikes it."""
    torch.manual_seed(0)
    users = torch.arange(8).repeat_interleave(each)
    sign = torch.where(users % 4 == 3, -1.0, 1.0)
    difference = torch.stack([sign * (1 + torch.rand(len(users))), torch.randn(len(users))], 1)
    return Answers(users, torch.arange(len(users)) % 2, difference, torch.ones(len(users)), 8)


def single_head() -> nn.Linear:
    """What Bradley–Terry makes of the majority: the first feature is good."""
    head = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0]]))
    return head


def test_a_minority_is_found_and_its_loss_is_told():
    """Exact numbers: one reward orders all of the majority's answers right and none of the minority's. Mutations
    caught: means over users in place of the worst group, accuracy on the answers that told who it is, groups not
    counted, the minority's flag at the majority."""
    found = answers()
    groups = grouped(found, exact_heads(), single_head(), None)
    assert groups.of.tolist() == [0, 0, 0, 1] * 2 and len(groups.tried) == 6
    told = report(found, groups)
    assert told["all"]["single"]["mean"] == 0.75 and told["worst_group"]["single"] == 0
    assert told["worst_group"]["grouped"] == told["worst_group"]["personal"] == 1
    large, small = told["groups"]
    assert (large["users"], small["users"], small["answers"]) == (6, 2, 16)
    assert small["overridden"]["mean"] == small["lost"]["mean"] == 1 and small["flag"]
    assert large["overridden"]["mean"] == large["lost"]["mean"] == 0 and not large["flag"]


def test_nobody_is_known_by_what_is_predicted():
    """A user whose halves say the opposite of each other is predicted wrongly in both. Mutation caught: z of all
    answers, which would get one half right."""
    one = answers()
    turned = torch.where((one.user == 0) & (one.half == 0), -1.0, 1.0)[:, None]
    torn = Answers(one.user, one.half, one.difference * turned, one.weight, one.users)
    groups = grouped(torn, exact_heads(), single_head(), None, 2)
    assert not (groups.personal[torn.user == 0] > 0).any()


def test_a_reward_from_elsewhere_is_the_one_that_is_compared():
    """Mutation caught: --single that is not read."""
    one = answers()
    groups = grouped(one, exact_heads(), single_head(), -one.difference[:, 0], 2)
    assert report(one, groups)["all"]["single"]["mean"] == 0.25


def test_one_camp_is_one_group():
    """Where all want the same one group predicts as well as six. Mutation caught: the best likelihood by a hair."""
    one = answers()
    alike = Answers(one.user, one.half, one.difference.abs(), one.weight, one.users)
    groups = grouped(alike, exact_heads(), single_head(), None)
    assert len(groups.centre) == 1 and isinstance(groups, Groups)


def test_k_means():
    """Three heaps, the largest first. Mutation caught: labels that do not follow the order of the centres."""
    x = torch.tensor([[0.0], [10.0], [10.1], [10.2], [20.0], [20.1]])
    centre, of = k_means(x, 3)
    torch.testing.assert_close(centre, torch.tensor([[10.1], [20.05], [0.0]]))
    assert of.tolist() == [2, 0, 0, 0, 1, 1]


def test_sentences():
    """Mutations caught: words that everybody likes, words of the worse responses among the liked, two groups of one
    sentence."""
    better = ["good cats"] * 9 + ["good dogs"] * 9
    worse = ["bad dogs"] * 9 + ["bad cats"] * 9
    group = [0] * 9 + [1] * 9
    assert sentences(better, worse, group, 2) == [
        "I like answers with: cats. I do not like answers with: dogs.",
        "I like answers with: dogs. I do not like answers with: cats.",
    ]
    assert sentences(["a"], ["b"], [0], 2) == ["I am one of group 1.", "I am one of group 2."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tok = tmp_path_factory.mktemp("personal"), tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder)
    tok.save_pretrained(folder)
    made = new_reward_model(str(folder), seed=0)
    add_personal_heads(made, 0, 2)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    save_model(made, tok, folder)
    return folder


def test_from_comparisons_to_a_sentence(model: Path, tmp_path: Path, capsys):
    """The command, its files, and a new user's profile. Mutations caught: prompts without the sentence, a profile of
    another group than that of whose answers they are, rows of nobody taken for somebody's."""
    rows = [
        {"prompt": f"q{i}", "responses": ["yes it is", "no it is not"], "ranking": [1, 2] if like > 0 else [2, 1],
         "rater": name}
        for name, like in LIKES.items() for i in range(6)
    ]  # fmt: skip
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    write_rows(data, [*rows, {**rows[0], "rater": None}])
    words = ["--reward", str(model), "--data", str(data), "--out", str(out), "--groups", "2"]
    assert main(["pluralism", *words]) == 0
    found = json.loads((out / "pluralism.json").read_text())
    assert [row["users"] for row in found["groups"]] == [3, 1] and found["left_out"] == 1
    groups = json.loads((out / "profiles.json").read_text())
    written = [row for _, row in read_rows(out / "comparisons.jsonl")]
    assert len(written) == 24 and groups[0]["sentence"] != groups[1]["sentence"]
    for row in written:
        sentence = groups[row["rater"] == "dee"]["sentence"]
        assert row["prompt"].startswith(f"{sentence}\n\nq")
    for name, k in (("bob", 0), ("dee", 1), ("", 0)):
        write_rows(tmp_path / "mine.jsonl", [row for row in rows if row["rater"] == name])
        words = [
            "profile",
            "--reward",
            model,
            "--profiles",
            out / "profiles.json",
            "--data",
            tmp_path / "mine.jsonl",
        ]
        assert main([*map(str, words), "--out", str(tmp_path / "mine.txt")]) == 0
        assert (tmp_path / "mine.txt").read_text().strip() == groups[k]["sentence"]
    workspace_profiles(
        model, out / "profiles.json", [group["sentence"] for group in groups], tmp_path, capsys
    )
    (tmp_path / "bad.json").write_text("[]")
    words[4] = str(tmp_path / "bad.json")
    assert main([*map(str, words), "--out", str(tmp_path / "mine.txt")]) == 2
    write_rows(data, rows[:3])
    assert main(["pluralism", "--reward", str(model), "--data", str(data), "--out", str(out)]) == 2
    assert "two raters" in capsys.readouterr().err


def workspace_profiles(
    model: Path, file: Path, sentences: list[str], tmp_path: Path, capsys: Any
) -> None:
    """Everybody who has answered in a workspace, but who has said it themselves or wants none; it goes with withdrawn
    answers, and is renewed where there are newer answers or other profiles. Mutations caught: another's answers, a
    sentence written over, one that comes back; a reward looked for from another folder; all made anew each time; one
    of three answers."""
    work_folder = tmp_path / "work"
    work_folder.mkdir()
    store = new_store(work_folder / "heedful.db")
    project = make_project(store)
    texts = ("yes it is", "no it is not")
    tasks = [
        make_task(store, project, question=f"q{i}", responses=texts, overlap=5 if i else 4)
        for i in range(4)
    ]
    people = {name: make_rater(store) for name in LIKES}
    hasty = make_rater(store)
    for task in tasks:
        for name, rater in [*people.items(), ("ann", hasty)][: 5 if task != tasks[0] else 4]:
            with store.write() as connection:
                given = work.assign(connection, task, rater, order=(0, 1))
            answer(store, given, rater, {"value": 1 if LIKES[name] > 0 else 8})
    with store.write() as connection:
        profiles.write(connection, project, people["bob"], " Short ones. ")
        profiles.delete(connection, project, people["cem"])
    words = [
        "profile",
        "--workspace",
        str(work_folder),
        "--profiles",
        str(file),  # pluralism.json beside it names the reward
    ]
    assert main(words) == 0
    assert "not yet of 1, who compared fewer than 4 questions" in capsys.readouterr().out

    def told(name: str) -> str | None:
        with store.read() as connection:
            found = profiles.of(connection, project, people[name])
        return found and found["sentence"]

    assert [told(name) for name in LIKES] == [sentences[0], "Short ones.", None, sentences[1]]

    def outdated() -> set[str]:
        version = profiles.version_of(file.read_bytes())
        with store.read() as connection:
            return profiles.outdated(connection, project, version)

    too_early = {f"rater-{hasty}"}  # outdated until there is one
    assert outdated() == too_early
    one_more = make_task(store, project, question="q8", responses=texts, overlap=1)
    with store.write() as connection:
        given = work.assign(connection, one_more, people["dee"], order=(0, 1))
    answer(store, given, people["dee"], {"value": 8})
    assert outdated() == {f"rater-{people['dee']}"} | too_early
    file.write_text(file.read_text().replace(sentences[0], "In a word: yes."))
    assert outdated() == {f"rater-{people[name]}" for name in ("ann", "dee")} | too_early
    assert main(words) == 0 and outdated() == too_early
    told_now = ["In a word: yes.", "Short ones.", None, sentences[1]]
    assert [told(name) for name in LIKES] == told_now
    with store.write() as connection:
        profiles.let(connection, project, people["cem"])
    assert outdated() == {f"rater-{people['cem']}"} | too_early
    with store.write() as connection:
        profiles.delete(connection, project, people["cem"])
        consent.withdraw(connection, project, people["dee"], actor=None)
        with pytest.raises(UserError, match="1 to 2000 characters"):
            profiles.write(connection, project, people["bob"], " ")
    assert told("dee") is None and told("bob") == "Short ones."
    assert main([*words, "--data", "mine.jsonl"]) == 2
    # What tells most of somebody new, of whom nothing is known.
    make_task(store, project, question="q9", responses=texts)
    make_task(store, project, question="q9", responses=("no", "no!"))
    order = [
        "choose",
        "--reward",
        str(model),
        "--workspace",
        str(work_folder),
        "--strategy",
        "newcomer",
    ]
    assert main(order) == 0
    with store.read() as connection:
        open_ones = connection.execute(
            select(schema.task_slot).where(schema.task_slot.c.state == "open")
        ).all()
    assert (
        len({slot.position for slot in open_ones}) == 2 and max(s.position for s in open_ones) < 0
    )
    store.close()
