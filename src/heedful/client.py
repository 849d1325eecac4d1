"""heedful over HTTP, for programs: one method for each address of the interface.

    client = Client("http://127.0.0.1:8765", token="hf_…")
    while task := client.next(project)["task"]:
        client.answer(task["assignment"], {"value": 3})

What the server refuses is a `ClientError` with its status and its sentence. Reading and answering are tried
again while the network or the server is away; an answer keeps its idempotency key, so it counts once.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

What = Literal["prompts", "demonstrations", "comparisons", "samples"]
Values = dict[str, Any]
AWAY = (502, 503, 504)
MANIFEST = "X-Heedful-Manifest"


class ClientError(Exception):
    """What the server said no to; status 0 where it could not be reached."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Client:
    """A connection to a server; close it, or use it in a `with` statement."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        attempts: int = 5,
        transport: Any = None,
    ):
        import httpx

        self._network_errors = (httpx.TransportError,)
        self._attempts = attempts
        self._keys: dict[str, str] = {}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=timeout, transport=transport
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

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

    def invite(self, role: str = "rater") -> Values:
        """A link for one person."""
        return self._call("POST", "/api/invitations", {"role": role})

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

    def projects(self) -> list[Values]:
        return self._call("GET", "/api/projects")

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

    # ── rating ───────────────────────────────────────────────────────────────────────────────────

    def asking(self) -> list[Values]:
        """The projects that ask for answers."""
        return self._call("GET", "/api/rate/projects")

    def next(self, project: str, holding: Sequence[str] = ()) -> Values:
        """{task, why, progress}; `task` is None where nothing is left, and `why` says so."""
        path = f"/api/projects/{project}/next"
        return self._call("POST", path, {"holding": list(holding)}, again=True)

    def assignment(self, assignment: str) -> Values:
        return self._call("GET", f"/api/assignments/{assignment}")

    def answer(self, assignment: str, answer: Mapping[str, Any], **about: Any) -> Values:
        """Submit an answer in the form of the task's kind; {judgment, revision, disposition}.

        `about`: active_ms, wall_ms, client_at, ui_version.

        A pair's is {"value": 1..8}, {"tie": True} or {"both_bad": True}; docs/people.md has the form of each kind's.
        Lists are by place on the screen. Any task can be answered {"skip": None} or {"flag": "why"}.

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

    def say(self, assignment: str, said: str) -> Iterator[tuple[str, Values]]:
        """A turn of a conversation: events `progress`, then `offer` with both replies, or `error`."""
        path = f"/api/assignments/{assignment}/turns"
        body, headers = _ascii({"said": said}), {"Content-Type": "application/json"}
        with self._http.stream(
            "POST", path, content=body, headers=headers, timeout=None
        ) as response:
            if response.is_error:
                response.read()
                raise _refused(response)
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

    def rater_statistics(self, project: str) -> Any:
        return self._call("GET", f"/api/projects/{project}/raters")

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

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def runs(self) -> list[Values]:
        return self._call("GET", "/api/runs")

    def metrics(self, run: str, after: int = 0) -> Values:
        """{rows, next}: what has been logged since."""
        return self._call("GET", f"/api/runs/{run}/metrics", params={"after": after})

    def report(self, run: str) -> str:
        """A run's report as HTML."""
        return self._send("GET", f"/api/runs/{run}/report").text

    # ── files ────────────────────────────────────────────────────────────────────────────────────

    def import_file(self, project: str, what: What, path: str | Path, **options: Any) -> Values:
        """Import a file, with the manifest beside it if there is one; `options` as of `heedful import`."""
        path = Path(path)
        headers = {"Content-Type": "application/octet-stream"}
        beside = Path(f"{path}.manifest.json")
        if beside.is_file():
            headers[MANIFEST] = json.dumps(json.loads(beside.read_text(encoding="utf-8")))
        given = {"what": what, "name": path.name, **options}
        params = {name: value for name, value in given.items() if value is not None}
        with path.open("rb") as file:
            response = self._send(
                "POST",
                f"/api/projects/{project}/import",
                params=params,
                content=file,
                headers=headers,
                timeout=None,
            )
        return response.json()

    def export(self, project: str, what: str, path: str | Path, **options: Any) -> Values:
        """Export to a file .jsonl, .csv (each also with .gz) or .parquet, and its manifest; returns the manifest."""
        path = Path(path)
        format = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
        params = {"what": what, "format": format.removeprefix("."), **options}
        response = self._send("GET", f"/api/projects/{project}/export", params=params, timeout=None)
        manifest = json.loads(response.headers[MANIFEST]) | {"file": path.name}
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        partial.touch(0o600)  # what people said is for nobody else on the machine
        partial.write_bytes(response.content)
        partial.replace(path)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        Path(f"{path}.manifest.json").write_text(text + "\n", encoding="utf-8")
        return manifest

    # ── webhooks ─────────────────────────────────────────────────────────────────────────────────

    def webhooks(self, project: str) -> list[Values]:
        return self._call("GET", f"/api/projects/{project}/webhooks")

    def add_webhook(self, project: str, url: str) -> Values:
        """{id, url, secret}: the secret that signs what is sent, shown this once."""
        return self._call("POST", f"/api/projects/{project}/webhooks", {"url": url})

    def deliveries(self, project: str, state: str = "failed") -> list[Values]:
        """The newest that are waiting, sent or failed, with what was answered last."""
        return self._call("GET", f"/api/projects/{project}/deliveries", params={"state": state})

    def send_again(self, webhook: str) -> Values:
        return self._call("POST", f"/api/webhooks/{webhook}/again", {})

    def remove_webhook(self, webhook: str) -> Any:
        return self._call("DELETE", f"/api/webhooks/{webhook}")

    # ── how ──────────────────────────────────────────────────────────────────────────────────────

    def _signed_in(self, path: str, body: Values) -> Values:
        found = self._call("POST", path, body)
        if found.get("csrf"):
            self._http.headers["X-CSRF-Token"] = found["csrf"]
        return found

    def _call(
        self,
        method: str,
        path: str,
        body: Values | None = None,
        *,
        again: bool = False,
        **options: Any,
    ) -> Any:
        if body is not None:
            options.setdefault("headers", {})["Content-Type"] = "application/json"
            options["content"] = _ascii(body)
        response = self._send(method, path, again=again or method == "GET", **options)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, *, again: bool = False, **options: Any) -> Any:
        """The response; with `again`, after as many attempts as it takes, waiting longer each time."""
        for attempt in range(1, self._attempts + 1):
            last = not again or attempt == self._attempts
            wait = min(8.0, 0.25 * 2**attempt)
            try:
                response = self._http.request(method, path, **options)
            except self._network_errors as error:
                if last:
                    reason = str(error) or type(error).__name__
                    raise ClientError(0, f"the server cannot be reached: {reason}") from error
            else:
                if response.status_code not in AWAY or last:
                    if response.is_error or response.is_redirect:
                        raise _refused(response)
                    return response
                asked = response.headers.get("Retry-After", "")
                wait = float(asked) if asked.isdigit() else wait
            time.sleep(wait)
        raise AssertionError("unreachable")


def _ascii(body: Values) -> bytes:
    """JSON; texts may hold lone surrogates, which are no UTF-8."""
    return json.dumps(body).encode()


def _account(token: str, login: str, password: str, name: str) -> Values:
    return {"token": token, "login": login, "password": password, "name": name}


def _refused(response: Any) -> ClientError:
    try:
        sentence = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        sentence = f"the server answered with status {response.status_code}"
    return ClientError(response.status_code, str(sentence))
