"""What every courier has in common: it is given one message, tries once, and says what became of it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from manual_payout.domain.connections import explain_connection, tunnel_refused
from manual_payout.domain.models import Message

# Called at the last moment before the provider can have the message; raises ClaimError where that may not happen.
HandOver = Callable[[], None]

# The provider never saw the message when the connection failed like this.
_NEVER_REACHED = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ECONNREFUSED})

_REASON_MAX = 300


@dataclass(frozen=True, slots=True)
class Delivered:
    """The provider took it; *receipt* is what it answered."""

    receipt: dict[str, str]


@dataclass(frozen=True, slots=True)
class Delayed:
    """
    It was not delivered by this try, as far as is known.

    Attributes:
        retry_after_s: How long the provider asked to be left alone, or None.

        in_doubt: Whether it may have arrived all the same.
    """

    reason: str
    retry_after_s: float | None = None
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The provider will never take this message as it is; a person has to act."""

    reason: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider was asked, and does not have it."""


@dataclass(frozen=True, slots=True)
class Unknowable:
    """The provider has no way of telling whether it has the message."""


Outcome = Delivered | Delayed | MessageRefused
Lookup = Delivered | Delayed | Absent | Unknowable


class Courier(Protocol):
    """One way out. It makes one attempt a call and raises nothing but what *hand_over* raises."""

    def send(self, message: Message, hand_over: HandOver) -> Outcome:
        """Try once; *hand_over* is called before the provider can have the message, and not at all before a safe failure."""
        ...

    def find(self, message: Message) -> Lookup:
        """Ask the provider whether it has a message that was handed over without an answer."""
        ...

    def reach(self) -> str | None:
        """Try without a message whether one could be handed over: say what is wrong, nothing where it is not, None where that cannot be tried."""
        ...


def never_reached(error: BaseException) -> bool:
    """Whether *error* shows that not a byte of the message can have reached the provider."""
    cause: BaseException | None = error
    for _ in range(8):  # libraries wrap what the socket said several times over
        if cause is None:
            return False
        if isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError):
            return True
        if tunnel_refused(cause):
            return True
        if isinstance(cause, OSError) and cause.errno in _NEVER_REACHED:
            return True
        inner = getattr(cause, "reason", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
    return False


def unanswered(error: BaseException, service: str, *, proxied: bool) -> Delayed:
    """Say of a try that brought no answer what stood in its way; arguments as of `obstacle`."""
    in_doubt = not never_reached(error)
    said = f"{service} {'did not answer' if in_doubt else 'cannot be reached'} ({type(error.__cause__ or error).__name__})."
    return Delayed(obstacle(error, service, proxied=proxied) or said, in_doubt=in_doubt)


def obstacle(error: BaseException, service: str, *, proxied: bool = False) -> str:
    """
    Say why *service* cannot be reached and what to do; nothing where *error* shows no particular cause.

    Args:
        proxied: Whether the client goes by the machine's proxy.
    """
    why, remedy = explain_connection(error, service, proxied=proxied, by_system=True) or ("", "")
    return why and f"{service} cannot be reached: {why}. {remedy}"


def whole_seconds(timeout_s: float) -> int:
    """Return a timeout as the clients want it: whole seconds, at least one."""
    return max(1, round(timeout_s))


def brief(text: str) -> str:
    """Put what a provider said on one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _REASON_MAX else f"{line[:_REASON_MAX]}…"
