"""The lead's playground: a conversation, and what its thumbs leave behind."""

from __future__ import annotations

from playwright.sync_api import expect

from heedful.store.tables import schema
from workspace import make_project


def test_a_conversation_with_thumbs(site):
    """Mutations caught: a thumb that shows what is not kept; a turn that the model is not told; Shift and Enter that
    send; what was typed lost where the model could not reply."""
    project = make_project(site.store, "poems")
    run = site.workspace / "runs" / "sft"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    page = site.signed_in("lead", f"/lead/{project}/playground")
    box = page.get_by_label("Your message")
    box.fill("A line,")
    box.press("Shift+Enter")
    box.press_sequentially("please")
    box.press("Enter")
    reply = page.locator(".turn.assistant").first
    expect(reply.locator("strong")).to_have_text("runs/sft")
    expect(box).to_have_value("")
    box.fill("Another")
    box.press("Enter")
    expect(page.locator(".turn.assistant")).to_have_count(2)
    told = [(m["role"], m["content"]) for m in site.talk.heard[1]]
    assert told[0] == ("user", "A line,\nplease") and told[2] == ("user", "Another")
    assert told[1] == ("assistant", "Reply 1 of **runs/sft**.")
    good, bad = (reply.get_by_role("button", name=name) for name in ("Good reply", "Bad reply"))
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(good).to_have_attribute("aria-pressed", "false")
    assert [(s.axis, s.value) for s in site.rows(schema.score)] == [("thumb", 1.0), ("thumb", -1.0)]
    assert len(site.rows(schema.completion)) == 1  # the second reply has no thumb
    (run / "config.json").unlink()
    site.expect("400")
    box.fill("Are you there?")
    box.press("Enter")
    page.locator("#say").get_by_text("none of the models").wait_for()
    expect(box).to_have_value("Are you there?")
