"""The user's data, read row by row, so that a row which fits no form is counted and not fatal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

from heedful.data.columns import ROLE_NAMES, string
from heedful.data.comparisons import label_of, unpaired_of
from heedful.data.files import Row, unbroken
from heedful.data.foreign import form_of as tool_of
from heedful.data.foreign import judged
from heedful.data.forms import in_their_words, standard
from heedful.data.reading import Source, read_table
from heedful.data.sources import demonstrations_of, prompt_of
from heedful.errors import UserError, did_you_mean
from heedful.types import Comparison, Demonstration, LabelledResponse, Message, Prompt, Rated

Form = Literal["comparisons", "labelled responses", "demonstrations", "prompts", "texts", ""]
Item = Comparison | Demonstration | LabelledResponse | Rated | tuple[Message, ...] | str
COLUMNS = ("prompt", "completion", "messages", "chosen", "rejected", "responses", "label", "text")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the responses to it: none, one, or those that were compared."""

    prompt: Prompt
    responses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """`items` are the rows that fit the form, `places` where they stand, `labels` their thumbs; `refused` says why each
    other row does not fit."""

    form: Form = ""
    items: tuple[Item, ...] = ()
    labels: tuple[bool, ...] = ()
    rows: tuple[Row, ...] = ()
    refused: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    whole: bool = True  # False: the source has more rows than were read

    @property
    def comparisons(self) -> list[Comparison]:
        return [item for item in self.items if isinstance(item, Comparison)]

    @property
    def examples(self) -> list[Example]:
        """Every item that has a prompt."""
        return [] if self.form == "texts" else [example_of(item) for item in self.items]


def example_of(item: Item) -> Example:
    """What an item asks and what is answered."""
    if isinstance(item, Comparison):
        return Example(item.prompt, item.responses)
    if isinstance(item, Demonstration):
        # A call of tools alone is no text: the template writes it.
        said = (item.completion,) if item.completion.strip() or not item.tool_calls else ()
        return Example(item.prompt, said)
    if isinstance(item, LabelledResponse | Rated):
        return Example(item.prompt, (item.response,))
    return Example(item)


def read_material(source: Source, limit: int, columns: Sequence[str] = ()) -> Material:
    """The first `limit` rows. A file that cannot be read is a `UserError`; a row that does not fit is counted."""
    stream = iter(read_table(source, columns, broken=True))
    rows = tuple(islice(stream, limit))
    form = form_of(next((row for _, row in rows if row), None) or unbroken(rows[0][1]))
    items: list[Item] = []
    labels: list[bool] = []
    refused: list[str] = []
    places: list[str] = []
    for where, row in rows:
        try:
            made = _items(form, where, unbroken(row))
            if form == "labelled responses":
                labels.append(label_of(where, standard(row)))
            items.extend(made)
            places += [where] * len(made)
        except UserError as error:
            refused.append(in_their_words(str(error), row))
    rest = next(stream, None)
    return Material(
        form,
        tuple(items),
        tuple(labels),
        rows,
        tuple(refused),
        tuple(places),
        whole=rest is None,
    )


def of_items(items: Sequence[Item]) -> Material:
    """Data that a recipe has read already."""
    kinds = {Comparison: "comparisons", Demonstration: "demonstrations"}
    return Material(kinds.get(type(items[0]), "prompts") if items else "", tuple(items))  # type: ignore[arg-type]


def form_of(row: dict[str, Any]) -> Form:
    """What a row is, by the columns it has."""
    if tool_of(row) != "plain":
        return "comparisons"
    row = standard(row)
    names = set(row)
    if "conversation_a" in names:
        return "comparisons"
    if names & {"chosen", "rejected"} or {"responses", "ranking"} & names:
        return "comparisons"
    if "completion" in names:
        return "labelled responses" if "label" in names else "demonstrations"
    if "messages" in names and "prompt" not in names:
        turns = row["messages"]
        last = turns[-1] if isinstance(turns, list) and turns else {}
        role = str(last.get("role", last.get("from"))) if isinstance(last, dict) else ""
        answered = ROLE_NAMES.get(role, role) == "assistant"
        if answered and "label" in names:
            return "labelled responses"
        return "demonstrations" if answered else "prompts"
    if names & {"prompt", "question"}:
        return "prompts"
    return "texts" if "text" in names else ""


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` items, evenly from beginning to end."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def texts_of(examples: Iterable[Example]) -> Iterator[str]:
    """Everything that people or models wrote."""
    for example in examples:
        if isinstance(example.prompt, str):
            yield example.prompt
        else:
            yield from (m.content for m in example.prompt)
        yield from example.responses


def _items(form: Form, where: str, row: dict[str, Any]) -> list[Item]:
    if form == "comparisons":
        return [c for c in judged(where, row) if isinstance(c, Comparison)]
    if form == "demonstrations":
        return list(demonstrations_of(where, row))
    if form == "labelled responses":
        return [Demonstration(one.prompt, one.response) for one in unpaired_of(where, row)]
    if form == "prompts":
        return [prompt_of(where, row)]
    if form == "texts":
        return [string(where, row, "text")]
    hints = (f"`{name}`{did_you_mean(name, COLUMNS)}" for name in row)
    raise UserError(f"{where}: no column says what this is, found {', '.join(hints) or 'none'}")
