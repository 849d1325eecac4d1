"""A language model as a judge: asked which of two responses is better, in both orders, and by its log-odds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.collate import collate
from heedful.data.sources import prompt_text
from heedful.data.tokens import encode_group
from heedful.models.forward import token_logps
from heedful.models.load import load_policy, load_tokenizer
from heedful.raters.votes import pairs, ranked
from heedful.registry import register
from heedful.types import Comparison, Message, Prompt, Rater

QUESTION = """Here are a prompt and two responses to it. Which response is better? Answer with one letter, A or B.

Prompt:
{prompt}

Response A:
{a}

Response B:
{b}

The better response is"""


class ModelJudge:
    """`types.Rater`. P(A) = softmax of the log-probs of the answers "A" and "B", the mean of both orders.

    Asking both ways round takes out the model's love of a place or a letter (Zheng et al. 2023, §3.4). More than
    two responses are ranked by the sum of their probabilities to win.
    """

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.name, self.model, self.tokenizer = name, model, tokenizer

    @classmethod
    def load(cls, folder: str, *, device: str = "cpu") -> ModelJudge:
        return cls(f"llm:{folder}", load_policy(folder, device=device), load_tokenizer(folder))

    def judge(self, prompt: Prompt, responses: Sequence[str]) -> Comparison:
        """Equal texts tie; so do responses between which the model cannot choose."""
        began = time.monotonic()
        probabilities = {
            (i, j): self.probability(prompt, responses[i], responses[j])
            for i, j in pairs(responses)
        }
        return ranked(prompt, responses, probabilities, self.name, time.monotonic() - began)

    def probability(self, prompt: Prompt, first: str, second: str) -> float:
        """That `first` is the better one."""
        forward = self._prefers_a(prompt, first, second)
        backward = 1 - self._prefers_a(prompt, second, first)
        return (forward + backward) / 2

    def _prefers_a(self, prompt: Prompt, a: str, b: str) -> float:
        text = QUESTION.format(prompt=prompt_text(prompt), a=a, b=b)
        # A model without a chat template goes on in plain text, where the answer begins with a space.
        chat = bool(self.tokenizer.chat_template)
        asked: Prompt = (Message("user", text),) if chat else text
        answers = ["A", "B"] if chat else [" A", " B"]
        batch = collate(encode_group(self.tokenizer, asked, answers, ended=[False, False]))
        device = next(self.model.parameters()).device
        with torch.no_grad():
            logps = token_logps(self.model, batch.tokens.to(device), batch.mask.to(device)).sum(1)
        return 1 / (1 + math.exp(float(logps[1] - logps[0])))


@register("judge", "llm", help="a language model, asked in both orders: llm:MODEL")
def language_model(folder: str, seed: int) -> list[Rater]:
    """What `llm:MODEL` means."""
    return [ModelJudge.load(folder)]
