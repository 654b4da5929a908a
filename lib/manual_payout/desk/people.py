"""
Who is who: the reviewed registry of people who may request, operate and approve.

A typed name is looked up here and becomes one person id; all comparisons of people are made on that id, so that a
handle and an email of the same person are the same person.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from manual_payout.desk.signatures import (
    APPROVAL,
    NO_PASSKEYS,
    REQUEST,
    SEAL,
    WITHDRAWAL,
    AllowedSigners,
    PasskeyRules,
    load_signers,
)
from manual_payout.domain.addresses import is_address
from manual_payout.domain.canonical import digest_of
from manual_payout.domain.errors import ApprovalError, ParameterError, SettingsError
from manual_payout.domain.models import Team
from truthful_papermill.plain_text import find_invisible

_MAY = frozenset({"request", "operate", "approve"})
_NEEDED = ("id", "handle", "name", "email", "teams", "may", "valid_from")
_KNOWN = frozenset({*_NEEDED, "valid_until"})

# Of a registry without keys: nobody in it can sign.
NO_SIGNERS = AllowedSigners((), frozenset(), "no allowed_signers")

_HANDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Person:
    """
    One entry of the registry.

    Attributes:
        person_id: A UUID; what ``manual_payouts`` records.

        may: Any of ``request``, ``operate``, ``approve``.

        valid_from: Before this instant, and from `valid_until` on, the person may do nothing.
    """

    person_id: str
    handle: str
    name: str
    email: str
    teams: tuple[str, ...]
    may: frozenset[str]
    valid_from: datetime
    valid_until: datetime | None

    def valid_at(self, at: datetime) -> bool:
        """Whether the entry is in force at *at*."""
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)

    def purposes(self) -> tuple[str, ...]:
        """What a key of this person's signs for (namespaces of signatures)."""
        rights = {APPROVAL: {"approve"}, SEAL: {"operate"}, REQUEST: {"request"}, WITHDRAWAL: {"approve", "request"}}
        return tuple(namespace for namespace, any_of in rights.items() if any_of & self.may)

    def approving_team(self) -> Team | None:
        """The team for which this person approves, if any."""
        return next((team for team in Team if team.value in self.teams), None)


class Registry:
    """
    The people, by id, handle and email, and the keys that they sign with.

    Args:
        people: The entries.

        source: Where they came from, for messages.

        signers: Whose key is whose; each principal is the email of one of *people*.

        files: The three files as they were read, by name; the digest of a registry is taken over them.

    Raises:
        SettingsError: A name is two people's, or a key is nobody's.
    """

    def __init__(
        self,
        people: tuple[Person, ...],
        source: str,
        signers: AllowedSigners = NO_SIGNERS,
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.people = people
        self.files = files
        self.digest = digest_of(dict(files))
        self.source = source
        self.signers = signers
        self._index: dict[str, Person] = {}
        for person in people:
            for name in {person.person_id, person.handle.lower(), person.email.lower()}:
                if name in self._index:
                    raise SettingsError(
                        f"{name!r} names two people in {source}.", "Make every id, handle and email unique."
                    )
                self._index[name] = person
        emails = {person.email for person in people}
        for entry in signers.entries:
            if entry.principal not in emails:
                raise SettingsError(
                    f"{signers.source}, line {entry.line_no}: {entry.principal} is not the email of anybody in {source}.",
                    "Write the email exactly as in the registry, or take the line out.",
                )

    def find(self, name: str) -> Person | None:
        """Return the person of that id, handle or email, or None."""
        return self._index.get(name.lower())

    def get_allowed(self, name: str, action: str | None, at: datetime, *, field: str) -> Person:
        """
        Return the person who may do *action* at *at*; whatever they may do where it is None.

        Raises:
            ParameterError: Nobody is called that.

            ApprovalError: The person may not do it, or not at that time.
        """
        person = self.find(name)
        if person is None:
            known = ", ".join(sorted(p.handle for p in self.people if action is None or action in p.may))
            wanted = f"a registered person who may {action}" if action else "a registered person"
            raise ParameterError(field, name, wanted, f"Use one of: {known}.")
        if action is not None and action not in person.may:
            raise ApprovalError(
                f"{person.name} may not {action}.", f"Ask somebody whom {self.source} allows to {action}."
            )
        if not person.valid_at(at):
            raise ApprovalError(
                f"{person.name} is not in force at {at:%Y-%m-%d %H:%M} UTC.",
                f"Correct the dates in {self.source}, reviewed.",
            )
        return person

    def name_of(self, person_id: str) -> str:
        """Return the person's name for people to read; the id where the registry no longer knows it."""
        person = self._index.get(person_id)
        return person.name if person else person_id


def load_registry(path: Path, signers_path: Path | None = None, passkeys: PasskeyRules = NO_PASSKEYS) -> Registry:
    """
    Read the registry.

    Args:
        path: A TOML file with ``[[person]]`` tables: id, handle, name, email, teams, may, valid_from, valid_until.

        signers_path: Whose key is whose; ``allowed_signers`` beside *path* unless given. ``revoked_keys`` stands beside it.

        passkeys: What the reviewed policy says of passkeys.

    Raises:
        SettingsError: One of the three cannot be read, an entry is incomplete or contradicts another, or one key is two
            people's or nobody's.
    """
    text = _text(path)
    people = _people(path, text)
    signers_path = signers_path or path.with_name("allowed_signers")
    signers = load_signers(signers_path, signers_path.with_name("revoked_keys"), passkeys)
    return Registry(people, path.name, signers, {"approvers.toml": text, **signers.files})


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error.strerror if isinstance(error, OSError) else error) from None


def _unreadable(path: Path, why: object) -> SettingsError:
    return SettingsError(
        f"The registry of people {path} cannot be read: {str(why).rstrip('.')}.",
        "Correct MANUAL_PAYOUT_APPROVERS or the file.",
    )


def _people(path: Path, text: str) -> tuple[Person, ...]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(path, error) from None
    entries = content.get("person")
    if set(content) != {"person"} or not isinstance(entries, list) or not entries:
        raise SettingsError(
            f"The registry of people {path} holds {sorted(content)}, expected [[person]] tables and nothing else.",
            "Write each person as a table [[person]] (see docs/configuration.md).",
        )
    return tuple(_person(entry, f"person {at} in {path}") for at, entry in enumerate(entries, 1))


def _person(entry: Any, where: str) -> Person:
    def wrong(what: str) -> SettingsError:
        return SettingsError(f"{where} {what}.", "Correct the entry (see docs/configuration.md, People).")

    if not isinstance(entry, dict):
        raise wrong("is not a table")
    where = f"{where} ({entry['handle']!r})" if isinstance(entry.get("handle"), str) else where
    if missing := [name for name in _NEEDED if name not in entry]:
        raise wrong(f"has no {missing[0]}")
    if unknown := sorted(set(entry) - _KNOWN):
        # A misspelt valid_until would leave somebody in force who has gone.
        raise wrong(f"has {unknown[0]!r}, expected one of {', '.join(_NEEDED)}, valid_until")
    person = Person(
        person_id=_id(entry["id"], wrong),
        handle=_matching("handle", entry["handle"], _HANDLE, wrong),
        name=_name(entry["name"], wrong),
        email=_email(entry["email"], wrong),
        teams=tuple(_words("teams", entry["teams"], wrong)),
        may=frozenset(_words("may", entry["may"], wrong)),
        valid_from=_instant("valid_from", entry["valid_from"], wrong),
        valid_until=_instant("valid_until", entry["valid_until"], wrong) if "valid_until" in entry else None,
    )
    _check_person(person, wrong)
    return person


_Wrong = Callable[[str], SettingsError]


def _check_person(person: Person, wrong: _Wrong) -> None:
    if unknown := person.may - _MAY:
        raise wrong(f"may {min(unknown)!r}, expected one of {', '.join(sorted(_MAY))}")
    # Speaking for both teams would make one person two approvals.
    if all(team.value in person.teams for team in Team):
        raise wrong("is in both approving teams")
    if "approve" in person.may and person.approving_team() is None:
        raise wrong(f"may approve, but is in neither {' nor '.join(team.value for team in Team)}")
    if person.valid_until is not None and person.valid_until <= person.valid_from:
        raise wrong("is valid until before it is valid from")


def _id(value: Any, wrong: _Wrong) -> str:
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise wrong(f"has the id {value!r}, expected a UUID") from None


def _matching(field: str, value: Any, pattern: re.Pattern[str], wrong: _Wrong) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise wrong(f"has the {field} {value!r}, which is not a valid {field}")
    return value


def _email(value: Any, wrong: _Wrong) -> str:
    if not isinstance(value, str) or not is_address(value):
        raise wrong(f"has the email {value!r}, which is not a valid email")
    return value


def _name(value: Any, wrong: _Wrong) -> str:
    if not isinstance(value, str) or value != value.strip() or not value or find_invisible(value):
        raise wrong(f"has the name {value!r}, expected one line of text")
    return value


def _words(field: str, value: Any, wrong: _Wrong) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise wrong(f'has {field} {value!r}, expected a list such as ["finance"]')
    return value


def _instant(field: str, value: Any, wrong: _Wrong) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise wrong(f"has {field} {value!r}, expected an instant such as 2026-01-01T00:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
