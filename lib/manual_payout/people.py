"""
Who is who: the reviewed registry of people who may request, operate and approve.

A typed name is looked up here and becomes one person id; all comparisons of people are made on that id, so that a
handle and an email of the same person are the same person.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manual_payout.errors import ApprovalError, ParameterError, SettingsError
from manual_payout.models import Team

_MAY = frozenset({"request", "operate", "approve"})


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

    def approving_team(self) -> Team | None:
        """The team for which this person approves, if any."""
        return next((team for team in Team if team.value in self.teams), None)


class Registry:
    """
    The people, by id, handle and email.

    Args:
        people: The entries.

        source: Where they came from, for messages.
    """

    def __init__(self, people: tuple[Person, ...], source: str) -> None:
        self.people = people
        self.source = source
        self._index: dict[str, Person] = {}
        for person in people:
            for name in {person.person_id, person.handle.lower(), person.email.lower()}:
                if name in self._index:
                    raise SettingsError(
                        f"{name!r} names two people in {source}.", "Make every id, handle and email unique."
                    )
                self._index[name] = person

    def find(self, name: str) -> Person | None:
        """Return the person of that id, handle or email, or None."""
        return self._index.get(name.lower())

    def get_allowed(self, name: str, action: str, at: datetime, *, field: str) -> Person:
        """
        Return the person who may do *action* at *at*.

        Raises:
            ParameterError: Nobody is called that.

            ApprovalError: The person may not do it, or not at that time.
        """
        person = self.find(name)
        if person is None:
            known = ", ".join(sorted(p.handle for p in self.people if action in p.may))
            raise ParameterError(field, name, f"a registered person who may {action}", f"Those are: {known}.")
        if action not in person.may:
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


def load_registry(path: Path) -> Registry:
    """
    Read the registry.

    Args:
        path: A TOML file with ``[[person]]`` tables: id, handle, name, email, teams, may, valid_from, valid_until.

    Raises:
        SettingsError: It cannot be read, or an entry is incomplete or contradicts another.
    """
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("person", [])
        people = tuple(_person(entry) for entry in entries)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"The registry of people {path} cannot be read: {error}.", "Correct MANUAL_PAYOUT_APPROVERS."
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"The registry of people {path} has an entry that is wrong: {error}.",
            "Each [[person]] needs id, handle, name, email, teams, may and valid_from.",
        ) from None
    return Registry(people, path.name)


def _person(entry: dict[str, Any]) -> Person:
    may = frozenset(entry["may"])
    if unknown := may - _MAY:
        raise ValueError(f"{entry['handle']} may {min(unknown)!r}, which is none of {sorted(_MAY)}")
    teams = tuple(entry["teams"])
    # Speaking for both teams would make one person two approvals.
    if sum(team in {t.value for t in Team} for team in teams) > 1:
        raise ValueError(f"{entry['handle']} is in both approving teams")
    return Person(
        person_id=str(entry["id"]),
        handle=entry["handle"],
        name=entry["name"],
        email=entry["email"],
        teams=teams,
        may=may,
        valid_from=_instant(entry["valid_from"]),
        valid_until=_instant(entry["valid_until"]) if entry.get("valid_until") else None,
    )


def _instant(value: Any) -> datetime:
    at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return at if at.tzinfo else at.replace(tzinfo=UTC)
