"""Records of other tools → questions of one screen, and everybody's answers to them.

| there | here |
|---|---|
| a ranking, a preference, the choice of a response | `pair` of two responses, else `rank` |
| a rating or a number about a response | `rate`, from 1 (or the least that was given) to 5, 7, 10 or the most |
| labels about a response | `rules`, one for each label: chosen or not |
| spans of a response | `critique`, the label as its remark |
| text; a rating or labels that do not say which response they are about | `note`, in words |

What has no counterpart is left out; that, and what is kept in words alone, is told and counted.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.data.files import Row
from heedful.data.records import Answer, Person, Record, by_question, records
from heedful.errors import UserError
from heedful.store.intake import recorded
from heedful.store.intake.imported import time_of
from heedful.store.project import screens

log = logging.getLogger("heedful")
TOPS = (5, 7, 10, 100)
FEW = 12  # labels that become rules


@dataclass(frozen=True)
class Study:
    """What a file asks, and what people said."""

    questions: list[dict[str, Any]]  # as a project's settings have them
    items: list[recorded.Item]
    left_out: dict[str, int]  # why, and of how many answers
    in_words: dict[str, int]  # likewise

    @property
    def counts(self) -> dict[str, int]:
        answers = sum(len(given.said) for item in self.items for given in item.given)
        people = {given.rater for item in self.items for given in item.given}
        counts = {
            "records": len(self.items),
            "questions": len(self.questions),
            "people": len(people),
        }
        told = {f"left out: {why}": n for why, n in self.left_out.items()}
        told |= {f"kept in words: {why}": n for why, n in self.in_words.items()}
        return counts | {"answers": answers} | told


def study(source: str, rows: Iterator[Row]) -> Study:
    """The questions of a file's records, and its answers in the forms of these."""
    found = list(records(rows))
    if not found:
        raise UserError(f"{source}: no record")
    if not any(record.people for record in found):
        raise UserError(
            f"{source}: nobody has answered any of its {len(found)} records, so what they ask is not known; as "
            "comparisons they become questions of which response is better"
        )
    left_out, in_words = Counter[str](), Counter[str]()
    asked: dict[str, _Asked] = {}
    pairs = all(len(r.responses) == 2 for r in found)
    for name, answers in by_question(found).items():
        try:
            asked[name] = _asked(name, answers, pairs, {q.name for q in asked.values()})
        except UserError as error:
            left_out[f"`{name}`, {error}"] += len(answers)
            continue
        if asked[name].why:
            in_words[f"`{name}`, {asked[name].why}"] += len(answers)
    if not asked:
        why = "".join(f"; {why}" for why in left_out)
        raise UserError(f"{source}: none of its questions has a counterpart here{why}")
    everybody = [person for record in found for person in record.people]
    for name, q in asked.items():
        q.required = all(any(a.question == name for a in p.answers) for p in everybody)
    order = sorted(asked, key=lambda name: asked[name].kind not in ("pair", "rank"))
    questions = screens.checked_list([asked[name].question() for name in order])
    items = [recorded.Item(r.prompt, r.responses, _given(r, asked, left_out)) for r in found]
    for what, reasons in (("left out", left_out), ("kept in words", in_words)):
        for why, n in reasons.items():
            log.warning("%s: %s: %d answer%s to %s", source, what, n, "s" * (n != 1), why)
    return Study(questions, items, dict(left_out), dict(in_words))


@dataclass
class _Asked:
    """One of the questions, and how its answers are said."""

    name: str
    title: str
    kind: str
    options: dict[str, Any]
    required: bool = True
    why: str = ""  # it has no counterpart, and is kept in words

    def question(self) -> dict[str, Any]:
        about = {"name": self.name, "kind": self.kind, "options": self.options}
        return about | {"title": self.title, "required": self.required}

    def body(self, answers: Sequence[Answer], shown: Sequence[str]) -> dict[str, Any]:
        """A person's answer by place on the screen; `UserError` where it says too little."""
        last = answers[-1]
        if self.kind in ("pair", "rank"):
            ranks = [last.value.get(text) for text in shown]
            if self.kind == "rank":
                return {"ranks": ranks}
            return {"tie": True} if ranks[0] == ranks[1] else {"better": ranks.index(min(ranks))}
        if self.kind == "note":
            return {"text": "\n".join(map(_words, answers))}
        if self.kind == "critique":
            marks = [(shown.index(str(a.about)), *span) for a in answers for span in a.value]
            names = ("response", "start", "end", "text")
            return {"critiques": [dict(zip(names, mark, strict=True)) for mark in marks]}
        by_text = {a.about: a.value for a in answers}
        if self.kind == "rate":
            if missing := set(shown) - by_text.keys():
                raise UserError(
                    f"which rates {len(by_text)} of {len(by_text) + len(missing)} responses"
                )
            return {"scores": {"rating": [by_text[text] for text in shown]}}
        codes = [rule["code"] for rule in self.options["rules"]]
        return {
            "rules": {
                code: [code in by_text[text] if text in by_text else None for text in shown]
                for code in codes
            }
        }


def _asked(name: str, answers: list[Answer], pairs: bool, taken: set[str]) -> _Asked:
    """A question of ours for one of theirs; `UserError` where there is none."""
    forms = {a.form for a in answers}
    if forms == {
        "ranks",
        "text",
    }:  # `tie` here, and words there: only all of it can be kept as text
        raise UserError("some answers of which name a response and some do not")
    (form, *others) = forms
    if others or form == "unknown":
        raise UserError("a kind of answer that is not known here")
    if form in ("number", "labels", "spans") and any(a.about is None for a in answers):
        what = {"number": "a rating", "labels": "a choice of labels", "spans": "marked passages"}
        why = f"{what[form]} that does not say which response it is about"
        if form == "spans":
            raise UserError(why)
        return _Asked(_name(name, taken), name, "note", {}, why=why)
    if form == "ranks":
        return _Asked(_name(name, taken), name, "pair" if pairs else "rank", {})
    if form == "text":
        return _Asked(_name(name, taken), name, "note", {})
    if form == "spans":
        return _Asked(_name(name, taken), name, "critique", {})
    if form == "number":
        return _Asked(_name(name, taken), name, "rate", {"axes": [_axis(answers)]})
    labels = list(dict.fromkeys(label for a in answers for label in a.value))
    if len(labels) > FEW:
        raise UserError(f"a choice among {len(labels)} labels; {FEW} are the most")
    rules = [{"code": label, "text": label} for label in labels]
    return _Asked(_name(name, taken), name, "rules", {"rules": rules})


def _words(answer: Answer) -> str:
    if answer.form == "labels":
        return ", ".join(answer.value)
    return f"{answer.value:g}" if answer.form == "number" else str(answer.value)


def _axis(answers: Sequence[Answer]) -> dict[str, Any]:
    """A scale that holds all ratings that were given; the file does not say where it ends."""
    values = [a.value for a in answers]
    low, most = min(1, math.floor(min(values))), max(values)
    high = next((top for top in TOPS if most <= top), math.ceil(most))
    whole = all(float(v).is_integer() for v in values)
    return {"name": "rating", "low": low, "high": high, "step": 1 if whole else 0.1}


def _name(name: str, taken: set[str]) -> str:
    """A name that a question here can have, and no other has."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "question"
    plain = (plain if plain[0].isalpha() else f"q_{plain}")[:36]
    plain = f"{plain}_" if plain in ("skip", "flag") else plain
    number = next(n for n in range(1, 1000) if (plain if n == 1 else f"{plain}_{n}") not in taken)
    return plain if number == 1 else f"{plain}_{number}"


def _given(
    record: Record, asked: Mapping[str, _Asked], left_out: Counter[str]
) -> list[recorded.Given]:
    """What each person said of a record, by question, in the record's order of responses."""
    given = []
    for person in record.people:
        said: dict[str, Any] = {}
        for name, answers in _answers(person, asked).items():
            try:
                asked[name].body(answers, record.responses)
            except UserError as error:
                left_out[f"`{name}`, {error}"] += len(answers)
                continue
            said[asked[name].name] = lambda shown, q=asked[name], a=answers: q.body(a, shown)
        if said:
            when = time_of(record.where, person.created_at)
            seconds = person.seconds if isinstance(person.seconds, int | float) else None
            given.append(recorded.Given(person.rater or "imported", said, seconds, when))
    return given


def _answers(person: Person, asked: Mapping[str, _Asked]) -> dict[str, list[Answer]]:
    by_name: dict[str, list[Answer]] = {}
    for answer in person.answers:
        if answer.question in asked:
            by_name.setdefault(answer.question, []).append(answer)
    return by_name
