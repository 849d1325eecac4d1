"""heedful over HTTP, for programs: one method for each address of the interface.

    client = Client("http://127.0.0.1:8765", token="hf_…")
    while task := client.next(project)["task"]:
        client.answer(task["assignment"], {"value": 3})

What the server refuses is a `ClientError` with its status and its sentence. Reading and answering are tried
again while the network or the server is away; an answer keeps its idempotency key, so it counts once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heedful.client.calls import ClientError, Values, ascii_json, refused
from heedful.client.members import Members

__all__ = ["Client", "ClientError"]


class Client(Members):
    """A connection to a server; close it, or use it in a `with` statement."""

    # ── people ───────────────────────────────────────────────────────────────────────────────────

    def login(self, login: str, password: str) -> Values:
        """Sign in with a password, where there is no token; lasts until `logout` or the client's end."""
        return self._signed_in("/api/session", {"login": login, "password": password})

    def logout(self) -> None:
        self._call("DELETE", "/api/session")
        self._http.headers.pop("X-CSRF-Token", None)

    def me(self) -> Values:
        return self._call("GET", "/api/me")

    def setup(self, token: str, login: str, password: str, name: str) -> Values:
        """Make the first owner's account, with the token that the server printed."""
        return self._signed_in("/api/setup", _account(token, login, password, name))

    def invite(self, role: str = "rater", **options: Any) -> Values:
        """{url, invitations}; options: people (names, addresses or CSV, one a line), number, groups, projects, mail."""
        return self._call("POST", "/api/invitations", {"role": role, **options})

    def invitations(self) -> list[Values]:
        return self._call("GET", "/api/invitations")

    def withdraw_invitation(self, invitation: str) -> Any:
        return self._call("DELETE", f"/api/invitations/{invitation}")

    def accept_invitation(self, token: str, login: str, password: str, name: str) -> Values:
        path = "/api/invitations/accept"
        return self._signed_in(path, _account(token, login, password, name))

    def change_password(self, old: str, new: str) -> Any:
        return self._call("POST", "/api/me/password", {"old": old, "new": new})

    def tokens(self) -> list[Values]:
        return self._call("GET", "/api/tokens")

    def make_token(self, name: str, scopes: Sequence[str], **options: Any) -> Values:
        """An API token; scopes are read, rate and lead. It is shown this once."""
        return self._call("POST", "/api/tokens", {"name": name, "scopes": list(scopes), **options})

    def revoke_token(self, token: str) -> Any:
        return self._call("DELETE", f"/api/tokens/{token}")

    def sessions(self) -> list[Values]:
        return self._call("GET", "/api/sessions")

    def end_session(self, session: str) -> Any:
        return self._call("DELETE", f"/api/sessions/{session}")

    def end_other_sessions(self) -> Any:
        return self._call("DELETE", "/api/sessions")

    def access(self, rater: str) -> Values:
        """{sessions, tokens} of a person, for owners."""
        return self._call("GET", f"/api/raters/{rater}/access")

    def end_access(self, rater: str) -> Values:
        """Sign a person out everywhere and end their tokens, for owners."""
        return self._call("DELETE", f"/api/raters/{rater}/access")

    def reset_password(self, rater: str) -> Values:
        """{url}: where this person sets a new password, once and within a day."""
        return self._call("POST", f"/api/raters/{rater}/reset", {})

    def set_password(self, token: str, password: str) -> Any:
        return self._call("POST", "/api/password", {"token": token, "password": password})

    def raters(self) -> list[Values]:
        return self._call("GET", "/api/raters")

    def change_rater(self, rater: str, **values: Any) -> Values:
        """status, role or settings."""
        return self._call("PATCH", f"/api/raters/{rater}", values)

    def erase_person(self, rater: str) -> Any:
        """Forget who a rater is; what they judged stays."""
        return self._call("DELETE", f"/api/raters/{rater}/personal")

    def audit(self, after: int = 0) -> Any:
        return self._call("GET", "/api/audit", params={"after": after})

    # ── projects ─────────────────────────────────────────────────────────────────────────────────

    def projects(self, which: str = "active") -> list[Values]:
        """Those that are active, archived or deleted."""
        return self._call("GET", "/api/projects", params={"which": which})

    def make_project(self, name: str, **settings: Any) -> Values:
        return self._call("POST", "/api/projects", {"name": name, "settings": settings})

    def project(self, project: str) -> Values:
        return self._call("GET", f"/api/projects/{project}")

    def change_project(self, project: str, **settings: Any) -> Values:
        return self._call("PATCH", f"/api/projects/{project}", {"settings": settings})

    def models(self) -> list[str]:
        return self._call("GET", "/api/models")

    def write_guidelines(self, project: str, body: str) -> Any:
        return self._call("PUT", f"/api/projects/{project}/guidelines", {"body": body})

    def write_disclosure(self, project: str, body: str) -> Any:
        """What raters agree to before they are asked anything; everybody is asked anew."""
        return self._call("PUT", f"/api/projects/{project}/disclosure", {"body": body})

    # ── rating ───────────────────────────────────────────────────────────────────────────────────

    def asking(self) -> list[Values]:
        """The projects that ask for answers."""
        return self._call("GET", "/api/rate/projects")

    def next(self, project: str, holding: Sequence[str] = ()) -> Values:
        """{task, why, progress}; `task` is None where nothing is left, and `why` says so."""
        path = f"/api/projects/{project}/next"
        return self._call("POST", path, {"holding": list(holding)}, again=True)

    def consent(self, project: str) -> Values:
        """What one is told there, when one agreed, and whether one's answers are withdrawn."""
        return self._call("GET", f"/api/projects/{project}/consent")

    def agree(self, project: str, version: str) -> Values:
        return self._call("POST", f"/api/projects/{project}/consent", {"version": version})

    def withdraw(self, project: str, withdrawn: bool = True) -> Values:
        """Nothing that one has said there is exported any more, and one is not asked; False: again."""
        path = f"/api/projects/{project}/consent/withdrawn"
        return self._call("PUT", path, {"withdrawn": withdrawn})

    def profile(self, project: str) -> Values:
        """What one seems to like there, {sentence, theirs, made_at}, whether it is out of date or switched off, and how
        many answers are missing until one is made."""
        return self._call("GET", f"/api/projects/{project}/profile")

    def make_profile(self, project: str) -> Values:
        """Have it made from one's answers, also where one has written it or switched it off."""
        return self._call("POST", f"/api/projects/{project}/profile")

    def write_profile(self, project: str, sentence: str) -> Values:
        return self._call("PUT", f"/api/projects/{project}/profile", {"sentence": sentence})

    def delete_profile(self, project: str) -> Values:
        """None any more, and none is made from one's answers until one wants it again."""
        return self._call("DELETE", f"/api/projects/{project}/profile")

    def assignment(self, assignment: str) -> Values:
        return self._call("GET", f"/api/assignments/{assignment}")

    def critique(self, assignment: str, place: int) -> Values:
        """{text}: what a model says against the response there, where task["critiques"][place]["there"]."""
        return self._call("POST", f"/api/assignments/{assignment}/critiques/{place}", again=True)

    def answer(self, assignment: str, answer: Mapping[str, Any], **about: Any) -> Values:
        """Submit an answer in the form of the task's kind; {judgment, revision, disposition}.

        `about`: active_ms, wall_ms, client_at, ui_version.

        A pair's is {"value": 1..8}, {"tie": True} or {"both_bad": True}; docs/people.md has the form of each kind's.
        Lists are by place on the screen. A screen of several questions takes {name: answer, …} for those of
        task["questions"] that are answered. Any task can be answered {"skip": None} or {"flag": "why"}.

        Until the server has acknowledged it, the same answer has the same key, also in a later call.
        """
        said = json.dumps([assignment, answer], sort_keys=True)
        key = self._keys.setdefault(said, str(uuid.uuid4()))
        try:
            receipt = self._call(
                "POST",
                f"/api/assignments/{assignment}/judgments",
                {"answer": dict(answer), "ui_version": "client", **about},
                headers={"Idempotency-Key": key},
                again=True,
            )
        except ClientError as error:
            if 400 <= error.status < 500:
                del self._keys[said]
            raise
        del self._keys[said]
        return receipt

    def progress(self, project: str) -> Values:
        return self._call("GET", f"/api/projects/{project}/progress")

    def my_answers(self, project: str, after: str | None = None, limit: int = 50) -> Values:
        """{answers, next}: one's own, the newest first."""
        params = {"limit": limit, **({"after": after} if after else {})}
        return self._call("GET", f"/api/projects/{project}/mine", params=params)

    def say(self, assignment: str, said: str) -> Iterator[tuple[str, Values]]:
        """A turn of a conversation: events `progress`, then `offer` with both replies, or `error`."""
        path = f"/api/assignments/{assignment}/turns"
        body, headers = ascii_json({"said": said}), {"Content-Type": "application/json"}
        with self._http.stream(
            "POST", path, content=body, headers=headers, timeout=None
        ) as response:
            if response.is_error:
                response.read()
                raise refused(response)
            name, data = "message", []
            for line in response.iter_lines():
                if not line and data:
                    yield name, json.loads("\n".join(data))
                    name, data = "message", []
                elif line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))

    def choose(self, assignment: str, place: int, strength: float | None = None) -> Any:
        path = f"/api/assignments/{assignment}/turns/choose"
        return self._call("POST", path, {"place": place, "strength": strength})

    # ── leading ──────────────────────────────────────────────────────────────────────────────────

    def overview(self, project: str) -> Values:
        return self._call("GET", f"/api/projects/{project}/overview")

    def agreement(self, project: str) -> Values:
        return self._call("GET", f"/api/projects/{project}/agreement")

    def rated_alike(self, project: str) -> Values:
        """{axes, used, most}: ratings beside comparisons of the same responses, axis by axis."""
        return self._call("GET", f"/api/projects/{project}/rated-alike")

    def rater_statistics(self, project: str) -> Any:
        return self._call("GET", f"/api/projects/{project}/raters")

    def profiles(self, project: str) -> Values:
        """{sources, running, said}: folders that profiles can be made from, and whether they are being made."""
        return self._call("GET", f"/api/projects/{project}/profiles")

    def reliability(self, project: str) -> Values:
        """Of each rater, as the newest fit has it; `running` while a newer one is being made."""
        return self._call("GET", f"/api/projects/{project}/reliability")

    def fit_reliability(self, project: str) -> Values:
        """Have it fitted to what has been said until now."""
        return self._call("POST", f"/api/projects/{project}/reliability", {})

    def suggestions(self, project: str) -> Values:
        """Who has suggested something, and what it does to raters: `sources` and `effects`."""
        return self._call("GET", f"/api/projects/{project}/suggestions")

    def critiques(self, project: str) -> Values:
        """Which models have criticised responses, and what being able to ask does to raters."""
        return self._call("GET", f"/api/projects/{project}/critiques")

    def disagreements(self, project: str) -> Any:
        return self._call("GET", f"/api/projects/{project}/disagreements")

    def labels(self, project: str, **filters: Any) -> Any:
        return self._call("GET", f"/api/projects/{project}/labels", params=filters)

    def win_rates(self, project: str) -> Any:
        return self._call("GET", f"/api/projects/{project}/win-rates")

    def aside(self, project: str) -> Any:
        """Tasks that were skipped or flagged."""
        return self._call("GET", f"/api/projects/{project}/aside")

    def take_back(self, project: str, rater: str, since: float = 0.0) -> Values:
        """Ask again what a rater's flags and skips since a time have set aside."""
        body = {"rater": rater, "since": since}
        return self._call("POST", f"/api/projects/{project}/aside/take-back", body)

    def review(self, task: str) -> Values:
        """Judge a task oneself: {assignment}."""
        return self._call("POST", f"/api/tasks/{task}/review", {})

    def unpark(self, task: str, *, close: bool = False) -> Any:
        return self._call("POST", f"/api/tasks/{task}/unpark", {"close": close})


def _account(token: str, login: str, password: str, name: str) -> Values:
    return {"token": token, "login": login, "password": password, "name": name}
