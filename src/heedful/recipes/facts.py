"""Facts: what answers claim, whether it is so, and comparisons in which the truer answer is better.

Training on them is meant to lower what is wrong and to raise what is right (Tian et al. 2024). What is so says a
corpus, a judge that reads it, or the model's own confidence, which needs neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heedful.configs.facts import Config
from heedful.data.files import write_json
from heedful.data.reading import named, read_table
from heedful.data.samples import facts_of_sample
from heedful.data.sources import prompt_columns, prompt_of, prompt_text, read_samples, write_rows
from heedful.envs.library import Library, page, read_folder
from heedful.errors import UserError
from heedful.evals import facts
from heedful.evals.facts import Checked, Claim, Verdict
from heedful.recipes.score import scored
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.remote.sources import sources
from heedful.rewards import Group, load_rewards
from heedful.transfer.sources import materialise
from heedful.types import Message, Prompt

Asked = tuple[Prompt, list[dict[str, Any]]]  # a prompt and its samples
Told = Sequence[Sequence[Sequence[Claim]]]  # the claims of each answer to each prompt


def run(config: Config) -> dict[str, Any]:
    """Writes the folder and returns what facts.json holds."""
    library = read_corpus(config.corpus) if config.corpus is not None else None
    asked = by_prompt(config)
    told: Told = [
        [facts.claims(question_of(prompt), row["completion"]) for row in rows]
        for prompt, rows in asked
    ]
    if library is not None:
        checked = by_corpus(config, library, asked, told)
    elif any(len(rows) > 1 for _, rows in asked):
        checked = [by_confidence(of) for of in told]
    else:
        raise UserError(
            f"{named(config.data)}: without --corpus a claim counts by the other answers to its prompt, and there "
            "are none: sample with --n 8"
        )
    by = config.judge or ("rules" if config.corpus else "confidence")
    result = {"by": by, **facts.summary(checked)}
    if config.same is not None:
        result |= facts.consistency(by_fact(config, asked, checked))
    rows = [row for one, of in zip(asked, checked, strict=True) for row in compared(one, of)]
    result["comparisons"] = len(rows)
    config.out.mkdir(parents=True, exist_ok=True)
    write_rows(config.out / "comparisons.jsonl", rows)
    write_rows(config.out / "claims.jsonl", lines(asked, checked))
    write_json(config.out / "facts.json", result)
    return result


def by_prompt(config: Config) -> list[Asked]:
    """The samples of each prompt, in the order in which prompts come first."""
    found: dict[str, Asked] = {}
    for row in read_samples(materialise(config.data, "samples", split="all"), config.columns):
        found.setdefault(repr(row["prompt"]), (prompt_of("a sample", row), []))[1].append(row)
    return list(found.values())


def question_of(prompt: Prompt) -> str:
    """What is asked: plain text, or the last turn."""
    return prompt if isinstance(prompt, str) else prompt[-1].content


def by_confidence(answers: Sequence[Sequence[Claim]]) -> list[Checked]:
    """Nothing is right or wrong here; abstentions are told apart, and what remains is unchecked."""
    sure = facts.by_agreement(answers)
    return [
        Checked(of, ["abstained" if c.abstains else "unchecked" for c in of], confidence)
        for of, confidence in zip(answers, sure, strict=True)
    ]


def by_corpus(
    config: Config, library: Library, asked: Sequence[Asked], told: Told
) -> list[list[Checked]]:
    """Each claim by the pages that its question and it itself find; equal claims of a prompt are judged once."""
    known: dict[tuple[int, Claim], Verdict] = {}
    open_: dict[tuple[int, Claim], Group] = {}
    for k, ((prompt, _), answers) in enumerate(zip(asked, told, strict=True)):
        question = prompt_text(prompt)
        for claim in dict.fromkeys(c for of in answers for c in of):
            found = library.search(f"{question_of(prompt)} {claim.text}", config.pages)
            pages = [library.pages[number] for number, _ in found]
            if config.judge is None or claim.abstains or not pages:
                sentences = [(p.title, s) for p in pages for s in facts.SENTENCE.split(p.text)]
                known[k, claim] = facts.verdict(question_of(prompt), claim, sentences)
            else:
                read = "\n\n".join(f"{p.title}\n{p.text}".strip() for p in pages)
                behind = f"{question}\n\nWhat is known:\n\n{read}"
                open_[k, claim] = Group(
                    (Message("user", behind),),
                    [claim.text],
                    [True],
                    facts_of_sample(asked[k][1][0]),
                )
    if open_:
        known |= dict(zip(open_, judged(config, list(open_.values())), strict=True))
    return [
        [Checked(of, [known[k, claim] for claim in of]) for of in answers]
        for k, answers in enumerate(told)
    ]


def judged(config: Config, groups: Sequence[Group]) -> list[Verdict]:
    """What the judge says of claims behind their pages; where it abstains nothing is known."""
    assert config.judge is not None
    judge = load_rewards(config.judge, device=config.device)
    with recorded_until_done(config.out / ANSWERS, sources(config)):
        scores = asyncio.run(scored(judge, groups, quiet=config.quiet)).total
    return ["unchecked" if s is None else "right" if s >= config.right else "wrong" for s in scores]


def read_corpus(path: Path) -> Library:
    """The pages of a folder, or of a file whose rows have `text` and perhaps `title`."""
    if not path.exists():
        raise UserError(f"--corpus {path}: there is no such folder or file")
    if path.is_dir():
        return Library(read_folder(path, "--corpus"))
    rows = [row for _, row in read_table(path)]
    texts = [(str(row.get("title") or ""), row.get("text")) for row in rows]
    pages = [page(title, text) for title, text in texts if isinstance(text, str) and text.strip()]
    if not pages:
        raise UserError(f"--corpus {path}: there is no `text` in it")
    return Library(pages)


def by_fact(
    config: Config, asked: Sequence[Asked], checked: Sequence[Sequence[Checked]]
) -> dict[str, list[Sequence[Checked]]]:
    """The answers to the phrasings of each fact."""
    found: dict[str, list[Sequence[Checked]]] = {}
    for (_, rows), answers in zip(asked, checked, strict=True):
        if config.same not in rows[0]:
            raise UserError(
                f"{named(config.data)}: --same {config.same}: there is a prompt without this column, found "
                f"{', '.join(rows[0])}"
            )
        found.setdefault(str(rows[0][config.same]), []).append(answers)
    return found


def compared(asked: Asked, answers: Sequence[Checked]) -> Iterator[dict[str, Any]]:
    """The different answers to a prompt by their scores, where these tell any apart."""
    prompt, rows = asked
    scores: dict[str, float] = {}
    for row, answer in zip(rows, answers, strict=True):
        if answer.score is not None and row["completion"].strip():
            scores.setdefault(row["completion"], answer.score)
    levels = sorted({*scores.values()}, reverse=True)
    if len(levels) > 1:
        ranking = [levels.index(score) + 1 for score in scores.values()]
        yield {
            **prompt_columns(prompt),
            "responses": [*scores],
            "ranking": ranking,
            "rater": "facts",
        }


def lines(asked: Sequence[Asked], checked: Sequence[Sequence[Checked]]) -> Iterator[dict[str, Any]]:
    """A line for each answer, with its claims."""
    for (prompt, rows), answers in zip(asked, checked, strict=True):
        for row, answer in zip(rows, answers, strict=True):
            said: list[dict[str, Any]] = [
                {"claim": claim.text, "verdict": verdict}
                for claim, verdict in zip(answer.claims, answer.verdicts, strict=True)
            ]
            for claim, sure in zip(said, answer.confidence, strict=False):  # none by a corpus
                claim["confidence"] = sure
            yield {
                **prompt_columns(prompt),
                "completion": row["completion"],
                "score": answer.score,
                "claims": said,
            }
