"""Claims of answers, and whether sentences of a corpus say them: by words, names and numbers alone.

A claim is a sentence of an answer. What it says are the names and numbers in it that do not stand in the question, or
where there are none all such words but function words and hedges. It is judged by those sentences that speak most of
what was asked; where none has all names and numbers of the question, the corpus says nothing of it, and it is
unchecked. No paraphrase is understood: that is a judge's work.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, Literal

from heedful.evals.calibration import NOT_TOLD
from heedful.evals.statistics import bootstrap_ci

Verdict = Literal["right", "wrong", "abstained", "unchecked"]
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])|\n+")
WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)?")
EMPTY = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing down during each few for from further had has have having he her here hers him his how i
    if in into is it its itself just me more most my no nor not now of off on once only or other our out over own please
    same she should so some such tell than that the their them then there these they this those through to too under
    until up very was we were what when where which while who whom whose why will with would yes you your called name
    named well oh surely certainly perhaps maybe probably think believe guess""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Claim:
    """A sentence of an answer: its text and what it says beyond the question, as normal words."""

    text: str
    words: frozenset[str]
    abstains: bool = False


@dataclass(frozen=True)
class Checked:
    """An answer, its claims, what became of each, and, where it was asked for, how sure the model is of each."""

    claims: Sequence[Claim]
    verdicts: Sequence[Verdict]
    confidence: Sequence[float] = ()

    def count(self, verdict: Verdict) -> int:
        return sum(v == verdict for v in self.verdicts)

    @property
    def key(self) -> frozenset[str]:
        """All that the answer says, as words: two answers with the same key agree."""
        return frozenset(w for claim in self.claims for w in claim.words)

    @property
    def score(self) -> float | None:
        """(right − wrong) / (right + wrong), 0 for whoever only abstains; by confidence its mean over claims. None
        where nothing could be checked: no number is made of that."""
        if self.confidence:
            return fmean(self.confidence)
        right, wrong = self.count("right"), self.count("wrong")
        if right + wrong:
            return (right - wrong) / (right + wrong)
        return 0.0 if self.count("abstained") else None


def claims(question: str, answer: str) -> list[Claim]:
    """The sentences of an answer that add something to the question, or say that they do not know."""
    asked, found = frozenset(words(question)), []
    for text in filter(None, (s.strip() for s in SENTENCE.split(answer))):
        said = text.lower().replace("’", "'")
        if any(phrase in said for phrase in NOT_TOLD):
            found.append(Claim(text, frozenset(), abstains=True))
        elif adds := frozenset(words(text)) - asked:
            found.append(Claim(text, (specifics(text) - asked) or adds))
    return found


def verdict(question: str, claim: Claim, sentences: Sequence[tuple[str, str]]) -> Verdict:
    """Whether one of the sentences, each (title, text), says what the claim does. A page's title counts as said in each
    of its sentences."""
    if claim.abstains:
        return "abstained"
    asked, must = frozenset(words(question)), specifics(question)
    of = [frozenset(words(f"{title} {text}")) for title, text in sentences]
    near = [said for said in of if must <= said]
    most = max((len(asked & said) for said in near), default=0)
    if not most:
        return "unchecked"
    told = any(claim.words <= said for said in near if len(asked & said) == most)
    return "right" if told else "wrong"


def by_agreement(answers: Sequence[Sequence[Claim]]) -> list[list[float]]:
    """How sure a model is of each claim of its answers to one question: the share of the answers that make it too, in
    the same words; an abstention is no claim and has 0 (Tian et al. 2024, without a second model that matches claims).
    """
    counts = Counter(words for claims in answers for words in {c.words for c in claims})
    return [[0.0 if c.abstains else counts[c.words] / len(answers) for c in of] for of in answers]


def words(text: str) -> list[str]:
    """Lower case without accents; plurals and genitives as the singular, 1,850 as 1850; no function words."""
    flat = unicodedata.normalize("NFKD", text)
    flat = "".join(c for c in flat if not unicodedata.combining(c)).lower()
    found = (_normal(word) for word in WORD.findall(flat))
    return [word for word in found if word not in EMPTY]


def specifics(text: str) -> frozenset[str]:
    """Numbers, and names: words with a capital that do not begin a sentence."""
    found = []
    for sentence in SENTENCE.split(text):
        for k, word in enumerate(WORD.findall(sentence)):
            if word[0].isdigit() or (word[0].isupper() and k):
                found += words(word)
    return frozenset(found)


def _normal(word: str) -> str:
    word = word.replace("’", "'").removesuffix("'s")
    if word[0].isdigit():
        return word.replace(",", "")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def summary(answers: Sequence[Sequence[Checked]]) -> dict[str, Any]:
    """Of the answers to each prompt: how many claims are right, wrong, abstained and unchecked, and their numbers an
    answer with intervals over prompts. `right_share` is of those that could be checked."""
    every = [a for of in answers for a in of]
    found: dict[str, Any] = {"prompts": len(answers), "answers": len(every)}
    for name in ("right", "wrong", "abstained", "unchecked"):
        means = [fmean(a.count(name) for a in of) for of in answers]
        found |= {name: sum(a.count(name) for a in every), f"{name}_an_answer": fmean(means)}
        found[f"{name}_an_answer_ci"] = bootstrap_ci(means)
    checked = found["right"] + found["wrong"]
    return found | {"right_share": found["right"] / checked if checked else None}


def consistency(facts: Mapping[str, Sequence[Sequence[Checked]]]) -> dict[str, Any]:
    """How often answers to two phrasings of one fact agree, over pairs of phrasings and of their answers, and how often
    they agree on what is right; `facts` has of each fact the answers to each phrasing. Facts asked once say nothing."""
    agree, rightly = [], []
    for phrasings in (of for of in facts.values() if len(of) > 1):
        pairs = [(x, y) for one, other in combinations(phrasings, 2) for x in one for y in other]
        same = [bool(x.key) and x.key == y.key for x, y in pairs]
        agree.append(fmean(same))
        rightly.append(fmean(s and x.score == 1 for s, (x, _) in zip(same, pairs, strict=True)))
    if not agree:
        return {}
    return {
        "facts": len(agree),
        "consistent": fmean(agree),
        "consistent_ci": bootstrap_ci(agree),
        "consistent_and_right": fmean(rightly),
        "consistent_and_right_ci": bootstrap_ci(rightly),
    }
