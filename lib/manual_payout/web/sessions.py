"""What the server remembers for minutes: who is signed in, and what somebody is about to sign. None of it outlives the process."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from manual_payout.approval.approvals import Shown
from manual_payout.desk.signatures import PublicKey, challenge_of
from manual_payout.domain.errors import ApprovalError

SESSION_S = 30 * 60
PENDING_S = 5 * 60

# Facts that were shown longer ago are fetched again before anybody signs.
FACTS_S = 10 * 60

# What one address, or one session, may have begun and not ended; the oldest goes first.
_BEGUN_MAX = 200
# Wrong sign-ins of one address within a minute; a right one is always taken.
_WRONG_MAX = 20


# Before a session there is only an address, of which a token never is one.
_ADDRESS = "at "


@dataclass
class WebSession:
    """
    One signed-in browser.

    Attributes:
        seen: When the facts of a request were last shown, and what, by its id.
    """

    token: str
    person_id: str
    key: PublicKey
    ends: float
    seen: dict[str, tuple[float, Shown]] = field(default_factory=dict)


@dataclass(frozen=True)
class Unsigned:
    """
    A statement that waits for its ceremony.

    Attributes:
        holder: The token of the session that began it, or the address where nobody is signed in yet.

        finish: What is done with the person's key and armored signature; returns what the page shows next.

        key: The only key that may sign it, where that is known.
    """

    number: str
    holder: str
    namespace: str
    data: bytes
    ends: float
    finish: Callable[[PublicKey, str], dict[str, str]]
    key: PublicKey | None = None

    @property
    def challenge(self) -> bytes:
        """What the authenticator signs."""
        return challenge_of(self.namespace, self.data)


class Memory:
    """Sessions and pending statements, for all threads of the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, WebSession] = {}
        self._pending: dict[str, Unsigned] = {}
        self._wrong: dict[str, deque[float]] = {}

    def begin_session(self, person_id: str, key: PublicKey, before: str) -> WebSession:
        """Sign somebody in under a new token, whatever token the browser had before."""
        now = time.monotonic()
        session = WebSession(secrets.token_urlsafe(32), person_id, key, now + SESSION_S)
        with self._lock:
            self._sessions.pop(before, None)
            self._sessions = {token: one for token, one in self._sessions.items() if one.ends > now}
            self._sessions[session.token] = session
        return session

    def end_session(self, token: str) -> None:
        """Sign a browser out; what it had begun ends with it."""
        with self._lock:
            self._sessions.pop(token, None)
            self._pending = {number: one for number, one in self._pending.items() if one.holder != token}

    def find_session(self, token: str) -> WebSession | None:
        """Return the session of a token that has not ended."""
        session = self._sessions.get(token)
        return session if session is not None and time.monotonic() < session.ends else None

    def begin(
        self,
        holder: str,
        namespace: str,
        data: bytes,
        finish: Callable[[PublicKey, str], dict[str, str]],
        key: PublicKey | None = None,
    ) -> Unsigned:
        """Keep a statement until its ceremony, once, for five minutes."""
        now = time.monotonic()
        made = Unsigned(secrets.token_urlsafe(24), holder, namespace, data, now + PENDING_S, finish, key)
        with self._lock:
            self._pending = {number: one for number, one in self._pending.items() if one.ends > now}
            own = [number for number, one in self._pending.items() if one.holder == holder]
            for number in own[: max(0, len(own) + 1 - _BEGUN_MAX)]:
                del self._pending[number]
            self._pending[made.number] = made
        return made

    def take(self, number: str, token: str | None) -> Unsigned:
        """
        Take a statement out, so that it is used once.

        Args:
            token: Of the session that began it; None for what is begun before there is one.

        Raises:
            ApprovalError: There is none, it is too old, or somebody else began it.
        """
        with self._lock:
            found = self._pending.get(number)
            own = found is not None and (found.holder == token or (token is None and found.holder.startswith(_ADDRESS)))
            if own:
                del self._pending[number]
        if found is None or not own or time.monotonic() >= found.ends:
            raise ApprovalError(
                "What was to be signed is no longer waiting: it was used, is older than five minutes, or is not yours.",
                "Open the page again and begin anew.",
            )
        return found

    def count_wrong(self, address: str) -> int:
        """Note a wrong sign-in; returns for how many seconds that address is asked to wait, nothing below the limit."""
        now = time.monotonic()
        with self._lock:
            if len(self._wrong) > 10_000:
                self._wrong.clear()
            times = self._wrong.setdefault(address, deque(maxlen=_WRONG_MAX + 1))
            times.append(now)
            return max(1, int(60 - (now - times[0]))) if len(times) > _WRONG_MAX and now - times[0] < 60 else 0
