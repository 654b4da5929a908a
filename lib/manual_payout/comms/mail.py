"""
The studio's email, over SMTP from the shared support inbox.

Up to the last line of the text nothing is delivered, whatever breaks (RFC 5321, 4.1.1.4); from there to the server's
answer nobody can know (RFC 1047). The session is therefore driven step by step, and the outbox is told in between. A
repeated email keeps its ``Message-ID``, by which most mailboxes show it once.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as LINES
from email.utils import format_datetime, parseaddr

from manual_payout.comms.courier import (
    Delayed,
    Delivered,
    HandOver,
    Lookup,
    MessageRefused,
    Outcome,
    Unknowable,
    brief,
    obstacle,
)
from manual_payout.domain.models import Message

_LEADING_DOT = re.compile(rb"(?m)^\.")

# Third numbers of RFC 3463's codes (5.1.x), and one of Exchange's (5.2.x), that speak of whoever sends.
_OF_THE_SENDER = frozenset({7, 8})
_SENDERS_MAILBOX = frozenset({252})

# The words of servers that give no such code, or the one for policy (5.7.x), which says nothing of what.
_OF_EVERY_MESSAGE = re.compile(
    r"sender|send as|sendas|quota|limit|too many|rate|daily|hourly|per (day|hour)|relay|client|connection|session|authenti|login"
    r"|(your|from this|this|sending) (ip|network|host|server)|block ?list|blacklist"
)


class Mailbox:
    """
    Send from the shared support inbox.

    Args:
        sender: With or without a name, such as ``Support <support@marketplace.example>``.

        security: ``starttls``, ``tls`` or ``none``.
    """

    def __init__(
        self, sender: str, *, host: str, port: int, security: str, username: str, password: str, timeout_s: float
    ) -> None:
        self._sender = sender
        self._host, self._port, self._security = host, port, security
        self._username, self._password = username, password
        self._timeout_s = timeout_s

    def send(self, message: Message, hand_over: HandOver) -> Outcome:
        """Hand it to the mail server once."""
        handed_over = False

        def tell() -> None:
            nonlocal handed_over
            hand_over()
            handed_over = True

        try:
            with self._session() as session:
                return self._transmit(session, message, tell)
        except smtplib.SMTPResponseException as error:
            return _verdict(error.smtp_code, error.smtp_error, of_the_message=False)
        except (OSError, smtplib.SMTPException) as error:
            # smtplib's own texts quote what the server said and what was sent; its kind is enough.
            reason = f"The mail server did not {'answer' if handed_over else 'get as far as the message'}"
            why = "" if handed_over else obstacle(error, "The mail server")
            return Delayed(why or f"{reason} ({type(error).__name__}).", in_doubt=handed_over)

    def find(self, message: Message) -> Lookup:  # noqa: ARG002  # SMTP can be asked nothing
        """Say that a mail server cannot tell."""
        return Unknowable()

    def reach(self) -> str | None:
        """Open a session, signed in where there is a user, and hand over nothing."""
        try:
            with self._session():
                return ""
        except smtplib.SMTPResponseException as error:
            return brief(f"The mail server refused the session: {error.smtp_code}.")
        except (OSError, smtplib.SMTPException) as error:
            return f"The mail server {self._host}:{self._port} cannot be used ({type(error).__name__})."

    def _transmit(self, session: smtplib.SMTP, message: Message, hand_over: HandOver) -> Outcome:
        sender = parseaddr(self._sender)[1]
        # The envelope is the one address the message was written for, never what a header parser makes of a text.
        commands: tuple[tuple[bool, Callable[[], tuple[int, bytes]]], ...] = (
            (False, lambda: session.mail(sender)),
            (True, lambda: session.rcpt(message.audience)),
            (True, lambda: session.docmd("DATA")),
        )
        for of_the_message, command in commands:
            code, answer = command()
            if code not in (250, 251, 354):
                return _verdict(code, answer, of_the_message=of_the_message)
        text = build_email(self._sender, message).as_bytes(policy=LINES)
        session.send(_LEADING_DOT.sub(b"..", text.removesuffix(b"\r\n") + b"\r\n"))
        hand_over()
        session.send(b".\r\n")
        code, answer = session.getreply()
        if code != 250:
            return _verdict(code, answer, of_the_message=True)
        return Delivered(
            {
                "provider": "smtp",
                "response": brief(f"{code} {answer.decode(errors='replace')}"),
                "message_id": header_id(self._sender, message),
            }
        )

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context()
        if self._security == "tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=context)
        else:
            session = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        try:
            session.ehlo_or_helo_if_needed()
            if self._security == "starttls":
                session.starttls(context=context)
                session.ehlo()
            if self._username:
                session.login(self._username, self._password)
            yield session
        finally:
            # Not `quit`: a server that is slow to say goodbye must not hold up a message that it has taken.
            session.close()


def build_email(sender: str, message: Message) -> EmailMessage:
    """Build the email with its headers; text and HTML in lines that every server takes."""
    email = EmailMessage(policy=LINES)
    name, address = parseaddr(sender)
    local, _, domain = address.partition("@")
    email["From"] = Address(name, local, domain)
    email["To"] = Address("", *message.audience.rsplit("@", 1))
    email["Subject"] = message.subject
    email["Date"] = format_datetime(message.created_at)
    email["Message-ID"] = header_id(sender, message)
    # Out-of-office replies are not for a machine (RFC 3834).
    email["Auto-Submitted"] = "auto-generated"
    # Quoted-printable has only short lines of ASCII, also where a server knows nothing newer.
    email.set_content(message.body_text, cte="quoted-printable")
    email.add_alternative(message.body_html, subtype="html", cte="quoted-printable")
    return email


def header_id(sender: str, message: Message) -> str:
    """Return the ``Message-ID``: the same for every repetition."""
    return f"<{message.message_id}@{parseaddr(sender)[1].partition('@')[2]}>"


def _verdict(code: int, answer: bytes | str, *, of_the_message: bool) -> Outcome:
    """
    Say what an answer means: only what is said of this message or its reader is booked against it.

    What is said of the session, of the sender or of a day's quota is true of every message, and passes or can be mended: it is tried
    again. Source: RFC 3463, *Enhanced Mail System Status Codes*, whose second and third number say of what.
    """
    said = brief(answer.decode(errors="replace") if isinstance(answer, bytes) else answer)
    if of_the_message and 500 <= code < 600 and not 530 <= code <= 538 and _speaks_of_the_message(said):
        return MessageRefused(f"The mail server refuses the message: {code} {said}.")
    return Delayed(f"The mail server answered {code} {said}.")


def _speaks_of_the_message(said: str) -> bool:
    enhanced = re.match(r"5\.(\d{1,3})\.(\d{1,3})\b", said)
    subject, detail = (int(enhanced[1]), int(enhanced[2])) if enhanced else (0, 0)
    if subject == 1:
        return detail not in _OF_THE_SENDER
    if subject == 2:
        return detail not in _SENDERS_MAILBOX
    if subject in (3, 4, 5):
        return (subject, detail) == (3, 4)  # a message that is too large
    return subject == 6 or not _OF_EVERY_MESSAGE.search(said.casefold())
