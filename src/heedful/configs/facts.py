"""What `heedful facts` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.fields import AT_LEAST_1, DATA, FINITE, Data
from heedful.tagged import ReadWith


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """What answers claim, and whether it is so: by a corpus, a judge that reads it, or the model's own confidence.

    Counts in facts.json; comparisons of the answers to each prompt, the truer the better, for `heedful train dpo`.
    """

    data: Annotated[Data, DATA]
    """Samples, several to each prompt: `heedful sample --n 8`."""
    corpus: Path | None = None
    """What is so: a folder of text and Markdown pages, or a file of rows with `text` and perhaps `title`. Without it, a
    claim counts by the share of the prompt's other answers that make it, too."""
    pages: Annotated[int, AT_LEAST_1, ReadWith("corpus")] = 5
    """Pages that are read for a claim, the best by BM25."""
    judge: Annotated[str | None, ReadWith("corpus")] = None
    """Who reads the pages: whatever --reward takes, given question and pages as the prompt, the claim as the response.
    Default: rules on words, names and numbers."""
    right: Annotated[float, FINITE, ReadWith("judge")] = 0.5
    """A claim with this score or more by the judge is right."""
    same: str | None = None
    """A column that names the fact which a prompt asks for: prompts with the same one are phrasings of it, and their
    answers should agree."""
    out: Path
    """Folder for facts.json, claims.jsonl and comparisons.jsonl."""
    device: str = "cpu"
    """Torch device of a judge, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""
