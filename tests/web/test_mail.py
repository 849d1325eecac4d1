"""Invitations by mail, to a small SMTP server of our own: what arrives, what is said when it does not."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest

from heedful.errors import UserError
from heedful.web.app import create_app
from heedful.web.mail import SECRET, Letter, Mailer, mailer_of
from web.conftest import browser


class Sink(socketserver.StreamRequestHandler):
    """Takes every mail but those to `full@`; offers no TLS."""

    def handle(self) -> None:
        self._say(220)
        for line in iter(self.rfile.readline, b""):
            word = line.decode().split()[0].upper()
            if word == "DATA":
                self._say(354)
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.letters.append(message_from_bytes(body, policy=policy.default))  # type: ignore[attr-defined]
            self._say(550 if b"full@" in line.lower() else 221 if word == "QUIT" else 250)
            if word == "QUIT":
                return

    def _say(self, code: int) -> None:
        self.wfile.write(f"{code} well\r\n".encode())


@pytest.fixture
def server() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink) as sink:
        sink.letters = []  # type: ignore[attr-defined]
        threading.Thread(target=sink.serve_forever, args=(0.01,), daemon=True).start()
        yield sink
        sink.shutdown()


def test_sent_and_told(server: Any, store, person, tmp_path):
    """Each gets their own link, from the address that was set; who cannot be reached is told, others get theirs.
    Mutations caught: one link for all, a mailbox that is full stops the rest, the state not kept."""
    owner = person("owner")
    mailer = Mailer("127.0.0.1", server.server_address[1], "heedful@lab.org")
    app = create_app(store, workspace=tmp_path, mailer=mailer, base_url="http://heedful.test")
    client = browser(app, owner.login)
    people = "Zoë <zoe@e.org>\nfull@e.org\nbao@e.org\nNo Mail"
    reply = client.post("/api/invitations", json={"people": people, "mail": True})
    assert reply.status_code == 201, reply.text
    made = {m["email"] or m["name"]: m["url"] for m in reply.json()["invitations"]}
    got = {letter["To"]: letter for letter in server.letters}
    assert set(got) == {"zoe@e.org", "bao@e.org"}
    text = got["zoe@e.org"].get_content()
    assert made["zoe@e.org"] in text and made["bao@e.org"] not in text and "Hello Zoë," in text
    assert made["zoe@e.org"].startswith("http://heedful.test/join?token=")
    assert got["bao@e.org"]["From"] == "heedful@lab.org"
    listed = {i["email"] or i["name"]: i for i in client.get("/api/invitations").json()}
    assert listed["zoe@e.org"]["sent_at"] and not listed["zoe@e.org"]["problem"]
    assert "550" in listed["full@e.org"]["problem"] and not listed["full@e.org"]["sent_at"]
    assert not listed["No Mail"]["sent_at"] and not listed["No Mail"]["problem"]


def test_no_server(server: Any):
    """Nobody listens: a reason for each, nothing raised. A password never goes over a plain line."""
    port = server.server_address[1]
    letters = [Letter("a@e.org", "s", "t"), Letter("b@e.org", "s", "t")]
    plain = Mailer("127.0.0.1", port, "x@e.org", "user", "secret")
    assert all("only with it" in str(problem) for problem in plain.send(letters))
    gone = Mailer("127.0.0.1", 1, "x@e.org")
    assert [str(p)[:35] for p in gone.send(letters)] == ["the mail server cannot be used: [Er"] * 2
    (bad,) = Mailer("127.0.0.1", port, "x@e.org").send(
        [Letter("a@e.org\nBcc: all@e.org", "s", "t")]
    )
    assert bad and server.letters == []


@pytest.mark.parametrize(
    "address, sender, words",
    [
        ("mail.e.org", "a@e.org", "must be an address such as"),
        ("smtp://u:secret@mail.e.org", "a@e.org", "holds a password"),
        ("smtp://mail.e.org", None, "needs --mail-from"),
        ("smtp://u@mail.e.org", "a@e.org", f"set {SECRET}"),
        ("smtp://mail.e.org:x", "a@e.org", "must be an address such as"),
    ],
)
def test_what_serve_refuses(address: str, sender: str | None, words: str, monkeypatch):
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(UserError, match=words) as refused:
        mailer_of(address, sender)
    assert "secret" not in str(refused.value)


def test_what_serve_takes(monkeypatch):
    monkeypatch.setenv(SECRET, "p")
    assert mailer_of(None, None) is None
    assert mailer_of("smtps://a%40b@mail.e.org", "x@e.org") == Mailer(
        "mail.e.org", 465, "x@e.org", "a@b", "p", True
    )
    assert "p'" not in repr(mailer_of("smtp://u@mail.e.org:25", "x@e.org"))


def test_many_at_once(person):
    """So many links for anybody; a lead for raters only; without a server no mail is promised."""
    lead = person("lead").browser
    reply = lead.post("/api/invitations", json={"number": 3}).json()
    assert (
        len({m["url"] for m in reply["invitations"]}) == 3
        and reply["url"] == reply["invitations"][0]["url"]
    )
    assert (
        lead.post("/api/invitations", json={"people": "a@e.org", "mail": True}).status_code == 400
    )
    assert lead.post("/api/invitations", json={"people": "name,email"}).status_code == 400
    assert lead.post("/api/invitations", json={"role": "lead", "people": "a"}).status_code == 403
    assert lead.post("/api/invitations", json={"groups": ["x"]}).status_code == 403
    assert len(lead.get("/api/invitations").json()) == 1 + 3  # the lead's own, too
