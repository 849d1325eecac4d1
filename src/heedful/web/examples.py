"""An example of what each operation of the interface is sent, in its OpenAPI description; a test validates them all."""

from __future__ import annotations

from typing import Any

ID = "0199c7f0-7a3b-7c11-9a55-3f2d1e0c9b8a"
P = "/api/projects/{project}"
A = "/api/assignments/{assignment_id}"
ACCOUNT = {
    "token": "the one in the link",
    "login": "ada@example.org",
    "password": "battery staple 8",
    "name": "Ada",
}
EXAMPLES: dict[str, Any] = {
    "POST /api/session": {"login": "ada@example.org", "password": "battery staple 8"},
    "POST /api/setup": ACCOUNT,
    "POST /api/invitations/accept": ACCOUNT,
    "POST /api/me/password": {"old": "battery staple 8", "new": "correct horse 9"},
    "POST /api/password": {"token": "the one in the link", "password": "correct horse 9"},
    "PATCH /api/raters/{rater_id}": {"status": "paused"},
    "POST /api/tokens": {"name": "nightly export", "scopes": ["read"], "days": 90},
    "POST /api/invitations": {"role": "rater"},
    f"PUT {P}/members": {"who": "quiet-otter-12", "role": "rater"},
    f"POST {P}/members/{{rater_id}}/qualification": {"what": "pass"},
    "POST /api/projects/{project_id}/consent": {"version": ID},
    "PUT /api/projects/{project_id}/consent/withdrawn": {"withdrawn": True},
    "PUT /api/projects/{project_id}/profile": {"sentence": "I like answers with examples."},
    f"PUT {P}/disclosure": {"body": "We keep what you choose, under a pseudonym, and train a model with it."},
    f"PUT {P}/members/{{rater_id}}/withdrawn": {"withdrawn": True},
    f"PUT {P}/groups": {"group": ID, "role": "rater"},
    "POST /api/groups": {"name": "night shift"},
    "PATCH /api/groups/{group_id}": {"name": "night shift"},
    "PUT /api/groups/{group_id}/members": {"who": [ID]},
    "POST /api/projects/{project_id}/next": {"holding": []},
    f"POST {A}/judgments": {
        "answer": {"value": 2, "text": "A names its source."}, "active_ms": 21000, "ui_version": "script-1",
    },
    f"POST {A}/turns": {"said": "How do I cook rice?"},
    f"POST {A}/turns/choose": {"place": 0, "strength": 0.5},
    f"POST {A}/play": {"said": "calculate(expression='37 * 48')"},
    f"POST {P}/plays": {"env": "calculator", "tasks": 20, "overlap": 2, "max_turns": 4},
    f"POST {P}/plays/compare": {"overlap": 1},
    f"POST {P}/probes": {
        "rules": [{"code": "polite", "text": "The model is polite."}], "talks": 10, "max_turns": 8,
    },
    "POST /api/projects": {"name": "helpful", "settings": {"gold_rate": 0.1}},
    f"PATCH {P}": {"settings": {"daily_limit": 200}},
    f"POST {P}/delete": {"name": "helpful"},
    f"POST {P}/alerts/dismiss": {"what": "hasty", "rater": ID},
    f"PUT {P}/guidelines": {"body": "# Which helps more?\n\nRight beats wrong, and short beats long."},
    f"POST {P}/aside/take-back": {"rater": ID, "since": 1764403200},
    "POST /api/tasks/{task}/unpark": {"close": False},
    f"POST {P}/questions/act": {"action": "withdraw", "filter": {"text": "refund", "state": "open"}, "expect": 12},
    f"POST {P}/questions/export": {"what": "judgments", "format": "jsonl", "filter": {"differ": True}},
    f"POST {P}/webhooks": {"url": "https://example.org/heedful"},
    f"POST {P}/playground": {
        "model": "runs/sft", "messages": [{"role": "user", "content": "How do I cook rice?"}],
    },
    f"PUT {P}/playground/{{reply}}": {"thumb": 1},
    f"POST {P}/jobs": {"command": "iterate", "name": "first-round", "model": "runs/sft", "method": "dpo"},
    "POST /api/jobs/{job}/stop": {"force": False},
}  # fmt: skip


def into(description: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description with the examples in it."""
    for path, verbs in description["paths"].items():
        for verb, operation in verbs.items():
            example = EXAMPLES.get(f"{verb.upper()} {path}")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None and example is not None:
                body["example"] = example
    return description
