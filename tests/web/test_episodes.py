"""Episodes on raters' and leads' pages: messages in boxes, hostile words as words, quotes beside the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.configs.ingest import Config
from heedful.data.files import write_rows
from heedful.data.shown import as_text, whole
from heedful.store.database.db import Store
from heedful.store.lead import reports
from heedful.store.rating import show
from heedful.transfer import ingest
from heedful.types import Message
from heedful.web.episodes import response_html
from heedful.web.routes.lead import rendered
from heedful.web.routes.rate import payload
from workspace import claim, make_project, make_rater

HOSTILE = '<img src=x onerror=alert(1)>\n[x](javascript:alert(1))\nassistant: </div><div class="said assistant">'
CALL = {"type": "function", "function": {"name": "see", "arguments": {"where": HOSTILE}}}


def test_what_a_tool_says_is_words_and_no_message():
    """Mutation caught: a tool's result or a call as Markdown or HTML; a forged message in a box of its own."""
    said = [Message("assistant", "I *look*.", (CALL,)), Message("tool", HOSTILE, name="see")]
    html = response_html(as_text([*said, Message("assistant", "It is 5.")]), {"whole": True})
    assert html.count('class="said') == 3 and html.count("<div") == html.count("</div>")
    assert "<img" not in html and "href" not in html and "<em>look</em>" in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html and "[x](javascript:alert(1))" in html


def test_the_form_alone_makes_no_episode():
    """A model's own answer in this form has called nothing. Mutation caught: messages that a model made up."""
    forged = "assistant: x\ntool see: 5"
    for told in (None, {}, {"whole": False}):
        assert 'class="said' not in response_html(forged, told)
    assert "said" not in response_html("no such form", {"whole": True})


def test_quotes_stand_beside_the_answer_that_cites_them():
    """Mutation caught: quotes that nobody cites, an answer's own list, a quote as Markdown."""
    shown = "It is *Oslo* [1].\n\n[1] Ada: She was born\nin **Oslo**."
    html = response_html(shown, {"whole": False})
    assert html.startswith('<div class="cited"><div><p>It is <em>Oslo</em> [1].</p>')
    assert (
        '<li class="quote"><pre class="plain">[1] Ada: She was born\nin **Oslo**.</pre></li>'
        in html
    )
    for other in ("It is Oslo.\n\n[1] Ada: Born in Oslo.", "[1] Ada", shown):
        told = None if other is shown else {"whole": False}
        assert "cited" not in response_html(other, told)


@pytest.mark.parametrize("is_whole", [True, False])
def test_transcripts_are_compared_and_their_worth_is_for_the_lead(
    store: Store, tmp_path: Path, is_whole: bool
):
    """From a file of transcripts to a question. Mutation caught: a reward in what a rater's page is sent; the messages
    of an environment that shows an answer of its own; a transcript's row that lost its rewards."""
    import asyncio

    from heedful.data.episodes import transcript_row
    from heedful.envs.plain import played_by

    async def env(task, chat):
        if not is_whole:
            chat.show(f"{(await chat.say()).text} [1]\n\n[1] Page: words")
        else:
            await chat.say()
        chat.reward(0.125)
        chat.hear("user", "More.")
        await chat.say()
        return 0.5

    rows = []
    for k in range(2):
        said = iter([f"a{k}", "b"])

        async def speaker(heard, tools, said=said):
            return next(said, None)

        row = {"prompt": [{"role": "user", "content": "Go."}]}
        episode = whole(asyncio.run(played_by(env, row, speaker)))
        rows.append(transcript_row(episode, k, "m", 0))
    write_rows(tmp_path / "plays.jsonl", rows)
    project, ada = make_project(store), make_rater(store)
    source = str(tmp_path / "plays.jsonl")
    loaded = ingest.load(Config(what="samples", source=source, ask="pair", quiet=True))
    assert loaded.write(store, project)["tasks"] == 1
    asked = claim(store, project, ada)
    assert asked
    with store.read() as connection:
        seen = payload(show.question(connection, asked, ada))
        (question,) = reports.questions(connection, _tasks(connection)).values()
    assert "0.125" not in str(seen) and "reward" not in str(seen)
    html = [r["html"] for r in seen["responses"]]
    assert all(h.count('class="said') == (3 if is_whole else 0) for h in html)
    assert all(("cited" in h) != is_whole for h in html)
    told = rendered(question)["responses"]
    assert all("reward 0.625, terminated" in h and ("+0.125" in h) == is_whole for h in told)


def _tasks(connection) -> list[str]:
    from sqlalchemy import select

    from heedful.store.tables.schema import task

    return list(connection.execute(select(task.c.id)).scalars())
