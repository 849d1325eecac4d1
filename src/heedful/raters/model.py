"""A language model of this process as a judge, by its log-probs: of letters, of yes and no, or of the responses."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.calls import call, typed
from heedful.data.collate import collate
from heedful.data.context import in_context
from heedful.data.sources import prompt_text
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.models.forward import token_logps
from heedful.models.load import load_policy, load_tokenizer
from heedful.raters.asking import ONE, Letters, by_principle, drawn, preferred, read_principles
from heedful.raters.votes import pairs, ranked
from heedful.registry import register
from heedful.remote.endpoint import fill
from heedful.types import Comparison, Message, Prompt, Rater

FORMS = ("ab", "yesno", "contrast")
QUESTION = """Here are a prompt and two responses to it. Which response is better? Answer with one letter, A or B.

Prompt:
{prompt}

Response A:
{a}

Response B:
{b}

The better response is"""
BY_PRINCIPLE = QUESTION.replace("is better?", "follows this principle better: {principle}")


@dataclass(frozen=True)
class Options:
    """What stands in the brackets of `llm:MODEL(…)`."""

    form: Literal["ab", "yesno", "contrast"] = "ab"
    principles: Path | None = None  # a file, one a line: each comparison is asked about one of them
    good: str = "You are a kind, honest and helpful assistant. You answer correctly and politely."
    bad: str = "You are a rude and careless assistant. You answer wrongly, evade and insult."
    force: bool = False  # go on with a judge that says the same letter in both orders
    device: str = "cpu"


@dataclass
class ModelJudge:
    """`types.Rater`. In three forms, of which the first needs a model that can compare, the last the smallest one:

    ab        P(A) = softmax of the log-probs of the answers A and B, the mean of both orders, which takes out the
              model's love of a place or a letter (Zheng et al. 2023, §3.4)
    yesno     a response's worth is log P(Yes) − log P(No), asked whether it is good
    contrast  a response's worth is log P(response | a good assistant) − log P(response | a bad one)
              (the self-reward of DLMA, Liu et al. 2024)

    More than two responses are ranked by the sum of their probabilities to win.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    options: Options = Options()
    letters: Letters = field(default_factory=lambda: Letters("--judge llm"))
    principles: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str, options: Options = Options()) -> ModelJudge:
        where = f"--judge llm:{folder}"
        principles = read_principles(where, options.principles)
        model = load_policy(folder, device=options.device)
        letters = Letters(where, options.force)
        return cls(f"llm:{folder}", model, load_tokenizer(folder), options, letters, principles)

    def judge(self, prompt: Prompt, responses: Sequence[str]) -> Comparison:
        """Equal texts tie; so do responses between which the model cannot choose."""
        began, principle = time.monotonic(), drawn(self.principles, prompt, responses)
        asked = pairs(responses)
        if self.options.form == "ab":
            said = {
                (i, j): self.probability(prompt, responses[i], responses[j], principle)
                for i, j in asked
            }
        else:
            worth = {r: self.worth(prompt, r, principle) for r in dict.fromkeys(responses)}
            said = {(i, j): preferred(worth[responses[i]], worth[responses[j]]) for i, j in asked}
        seconds = time.monotonic() - began
        return replace(ranked(prompt, responses, said, self.name, seconds), explanation=principle)

    def summary(self) -> str:
        """How far its letters can be used; nothing where it was asked for none."""
        told = self.letters.told()
        return f"{self.name}: {told}" if told else ""

    def probability(
        self, prompt: Prompt, first: str, second: str, principle: str | None = None
    ) -> float:
        """That `first` is the better one, by letters in both orders."""
        forward = self._prefers_a(prompt, first, second, principle)
        backward = self._prefers_a(prompt, second, first, principle)
        self.letters.heard(forward, backward)
        return (forward + 1 - backward) / 2

    def worth(self, prompt: Prompt, response: str, principle: str | None = None) -> float:
        """Nats, by yes and no or by the contrast of two assistants."""
        if self.options.form == "yesno":
            question = by_principle(ONE) if principle else ONE
            values = {"prompt": prompt_text(prompt), "response": response}
            yes, no = self._answers(question, values, principle, ("Yes", "No"))
            return yes - no
        good, bad = self.options.good, self.options.bad
        if principle:
            good, bad = (
                f"You follow this principle: {principle}",
                f"You do the opposite of: {principle}",
            )
        as_told = [in_context(self.tokenizer, prompt, persona) for persona in (good, bad)]
        return self._logps(as_told[0], [response])[0] - self._logps(as_told[1], [response])[0]

    def _prefers_a(self, prompt: Prompt, a: str, b: str, principle: str | None = None) -> float:
        values = {"prompt": prompt_text(prompt), "a": a, "b": b}
        question = BY_PRINCIPLE if principle else QUESTION
        return preferred(*self._answers(question, values, principle, ("A", "B")))

    def _answers(
        self, question: str, values: dict[str, str], principle: str | None, words: tuple[str, str]
    ) -> tuple[float, float]:
        """Log-probs of two answers to a question."""
        text = fill(question, values | ({"principle": principle} if principle else {}))
        # A model without a chat template goes on in plain text, where the answer begins with a space.
        if self.tokenizer.chat_template:
            first, second = self._logps((Message("user", text),), words)
        else:
            first, second = self._logps(text, [f" {word}" for word in words])
        return first, second

    def _logps(self, prompt: Prompt, answers: Sequence[str]) -> list[float]:
        """The sum of each answer's log-probs, without the end of the turn."""
        batch = collate(encode_group(self.tokenizer, prompt, answers, ended=[False] * len(answers)))
        device = next(self.model.parameters()).device
        with torch.no_grad():
            logps = token_logps(self.model, batch.tokens.to(device), batch.mask.to(device))
        return logps.sum(1).tolist()


@register("judge", "llm", help="a language model, asked in both orders: llm:MODEL(form=ab)")
def language_model(spec: str, seed: int) -> list[Rater]:
    """What `llm:MODEL(options)` means."""
    where = f"--judge llm:{spec}"
    folder, arguments = call(where, spec)
    options = Options(**typed(where, "llm", inspect.signature(Options).parameters, arguments))
    if options.form not in FORMS:
        raise UserError(f"{where}: form must be one of {', '.join(FORMS)}, not {options.form!r}")
    return [ModelJudge.load(folder, options)]
