"""The rows of the page's tables and sample cards, as plain values for the template."""

from __future__ import annotations

from typing import Any

from heedful.report import figures, words
from heedful.report.results import Question, Results

TIE = 1e-9


def win_rates(results: Results) -> list[dict[str, Any]]:
    """One row a stage, all numbers already as text."""
    rows = []
    for name in words.ordered(results.stages):
        s = results.stages[name]
        rows.append(
            {
                "name": words.label(name),
                "css": words.css(name),
                "gold": words.number(s.gold),
                "gold_ci": words.interval(s.gold_ci),
                "accuracy": words.percent(s.accuracy),
                "rude": words.percent(s.rude),
                "length": words.number(s.length, 1),
                "kl": words.number(s.kl),
                "win_rate": words.percent(s.win_rate),
                "win_rate_ci": words.percent_interval(s.win_rate_ci),
                "yardstick": name == "sft" and s.win_rate is None,
                "forest": figures.forest(name, results),
                "n": s.n,
                "voices": [
                    {
                        "name": voice,
                        "css": words.voice_css(voice),
                        "mark": words.MARKS.get(voice, ""),
                        "share": words.percent(share),
                        "width": f"{100 * share:.2f}",
                        "wide": share >= 0.09,
                    }
                    for voice, share in s.voices.items()
                    if share > 0
                ],
            }
        )
    return rows


def voices(results: Results) -> list[dict[str, str]]:
    """The legend of voices: the known ones in their order, then a world's own."""
    seen = dict.fromkeys(v for s in results.stages.values() for v in s.voices)
    names = [v for v in words.MARKS if v in seen] + [v for v in seen if v not in words.MARKS]
    return [{"name": v, "css": words.voice_css(v), "mark": words.MARKS.get(v, "")} for v in names]


def cards(results: Results) -> list[dict[str, Any]]:
    """One card a held-out prompt; `tags` are what the filters ask for."""
    return [
        {
            "prompt": q.prompt,
            "answer": q.answer,
            "tags": " ".join(_tags(q)),
            "rows": [_row(q, name) for name in words.ordered(q.responses)],
        }
        for q in results.samples
    ]


def _row(q: Question, name: str) -> dict[str, Any]:
    answer = q.responses[name]
    return {
        "name": words.label(name),
        "css": words.css(name),
        "text": answer.text,
        "gold": "" if answer.gold is None else words.number(answer.gold),
        "reward": "" if answer.reward is None else words.number(answer.reward),
        "voice": answer.voice,
        "voice_css": words.voice_css(answer.voice),
        "mark": words.MARKS.get(answer.voice, ""),
    }


def _tags(q: Question) -> list[str]:
    tags = []
    if len({a.text.strip() for name, a in q.responses.items() if name != "base"}) > 1:
        tags.append("t-differ")
    sft = q.responses.get("sft")
    gains = _gains(q)
    if any(g > TIE for g in gains):
        tags.append("t-better")
    if any(g < -TIE for g in gains):
        tags.append("t-worse")
    if any(a.voice == "rude" for a in q.responses.values()):
        tags.append("t-rude")
    if sft and all(a.gold is not None and a.gold < 0 for a in q.responses.values()):
        tags.append("t-failed")
    return tags


def _gains(q: Question) -> list[float]:
    sft = q.responses.get("sft")
    if sft is None or sft.gold is None:
        return []
    others = [a for name, a in q.responses.items() if name not in ("base", "sft")]
    return [a.gold - sft.gold for a in others if a.gold is not None]


def filters(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices above the samples, each with how many cards it shows."""
    asked = [
        ("t-all", "all"),
        ("t-differ", "where they differ"),
        ("t-better", "something beats SFT"),
        ("t-worse", "something does worse than SFT"),
        ("t-rude", "somebody is rude"),
        ("t-failed", "everything fails"),
    ]
    counts = {tag: sum(tag in r["tags"].split() for r in rows) for tag, _ in asked}
    counts["t-all"] = len(rows)
    return [{"tag": t, "text": text, "count": counts[t]} for t, text in asked if counts[t]]


def example(results: Results) -> dict[str, Any] | None:
    """The prompt shown at the top: the largest gain of the opening's model over SFT.

    It is picked because it shows the difference, and the page says so.
    """
    name, gain, best = words.hero(results), 0.0, None
    for q in results.samples:
        before, after = q.responses.get("sft"), q.responses.get(name or "")
        if before and after and before.gold is not None and after.gold is not None:
            short = len(q.prompt) < 120 and all(len(a.text) < 160 for a in (before, after))
            if short and after.gold - before.gold > gain:
                gain, best = after.gold - before.gold, q
    if best is None or name is None:
        return None
    shown = [s for s in ("base", "sft", name) if s in best.responses]
    return {"prompt": best.prompt, "rows": [_row(best, s) for s in shown]}


def costs(results: Results) -> list[dict[str, str]]:
    """One bar a stage, as a share of the longest."""
    parts = {k: v for k, v in results.seconds.items() if k != "total"}
    longest = max(parts.values(), default=0.0) or 1.0
    colours = {"sample": "s-people", "judge": "s-people"}
    return [
        {
            "name": words.label(k),
            "css": colours.get(k, words.css(k)),
            "seconds": words.duration(v),
            "width": f"{100 * v / longest:.1f}",
        }
        for k, v in parts.items()
    ]
