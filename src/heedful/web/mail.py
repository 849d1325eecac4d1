"""Mail by SMTP, with the standard library: for invitations, where `heedful serve --smtp` names a server."""

from __future__ import annotations

import os
import smtplib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from heedful.errors import UserError, one_line

SECRET = "HEEDFUL_SMTP_PASSWORD"
SECONDS = 20.0
PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class Letter:
    """A mail in plain text."""

    to: str
    subject: str
    text: str


@dataclass(frozen=True)
class Mailer:
    """A server that takes mail, and whom it is from."""

    host: str
    port: int
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False  # from the first byte; otherwise STARTTLS where the server offers it

    def send(self, letters: Sequence[Letter]) -> list[str | None]:
        """Send them by one connection; for each why it was not sent, in a sentence, or None."""
        problems: list[str | None] = []
        try:
            with self._connected() as server:
                for letter in letters:
                    try:
                        server.send_message(self._message(letter))
                        problems.append(None)
                    except (smtplib.SMTPException, ValueError) as error:
                        problems.append(one_line(error)[:300])
                        with suppress(smtplib.SMTPException):
                            server.rset()
        except (OSError, smtplib.SMTPException) as error:
            reason = f"the mail server cannot be used: {one_line(error)[:300]}"
            problems += [reason] * (len(letters) - len(problems))
        return problems

    def _connected(self) -> smtplib.SMTP:
        if self.tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=SECONDS)
            server.ehlo()
            if server.has_extn("starttls"):
                import ssl

                server.starttls(context=ssl.create_default_context())
                server.ehlo()
            elif self.user:
                server.close()
                raise smtplib.SMTPException("it offers no TLS, and a password travels only with it")
        if self.user:
            server.login(self.user, self.password or "")
        return server

    def _message(self, letter: Letter) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, letter.to, letter.subject
        message.set_content(letter.text)
        return message


def mailer_of(address: str | None, sender: str | None) -> Mailer | None:
    """Of `smtp://USER@HOST:PORT` or `smtps://…`, with the password out of the environment; None without an address."""
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname:
        raise UserError("--smtp must be an address such as smtp://USER@mail.example.org:587")
    if parts.password is not None:
        raise UserError(f"--smtp holds a password, which others could see; set {SECRET} instead")
    if not sender or "@" not in sender:
        raise UserError("--smtp needs --mail-from, the address that mails are from")
    user = unquote(parts.username) if parts.username else None
    if user and not os.environ.get(SECRET):
        raise UserError(f"--smtp names the user {user}; set {SECRET} in the environment")
    tls = parts.scheme == "smtps"
    return Mailer(
        parts.hostname, port or PORTS[parts.scheme], sender, user, os.environ.get(SECRET), tls
    )
