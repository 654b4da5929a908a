"""
The inventory: a reviewed TOML file that says which certificates and credentials there are, and what was done when.

Certificates are read from their PEM files, so that a renewed one is noticed by itself.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manual_payout.desk.inventory.entries import Credential, Inventory, Missing, Rehearsed
from manual_payout.domain.errors import SettingsError


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Credential(_Entry):
    name: str = Field(min_length=1, max_length=120)
    file: str = ""
    due: date | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> _Credential:
        if bool(self.file) == (self.due is not None):
            raise ValueError("a credential has either a file or a due date")
        return self


class _Rehearsal(_Entry):
    on: date
    green: bool
    approvers: list[str]
    target: Literal["", "sandbox", "stripe"] = ""
    procedure: str = Field("", pattern="^([0-9a-f]{64})?$")


class _Rotation(_Entry):
    on: date


class _File(_Entry):
    access_reviewed_on: date | None = None
    credential: list[_Credential] = Field(default_factory=list)
    rehearsal: list[_Rehearsal] = Field(default_factory=list)
    key_rotation: list[_Rotation] = Field(default_factory=list)


def find_inventory(path: Path | None) -> Inventory | Missing:
    """Read the inventory where one is configured (`Settings.inventory_path`), or say why there is none to be read."""
    if path is None:
        return Missing("inventory", "MANUAL_PAYOUT_INVENTORY is not set.")
    try:
        return read_inventory(path)
    except SettingsError as error:
        return Missing("inventory", error.message)


def read_inventory(path: Path) -> Inventory:
    """
    Read the inventory; a certificate that cannot be read is missing, with the reason.

    Raises:
        SettingsError: The file cannot be read, is not TOML, or has an entry that is not known.
    """
    try:
        content = _File.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "an entry"
        reason = str(first.get("ctx", {}).get("error") or first["msg"]).rstrip(".")
        raise SettingsError(
            f"{name} in the inventory {path} is wrong: {reason}.", "Correct it (see docs/monitoring.md)."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = str(error.strerror if isinstance(error, OSError) else error).rstrip(".")
        raise SettingsError(
            f"The inventory {path} cannot be read: {why}.", "Correct MANUAL_PAYOUT_INVENTORY or the file."
        ) from None
    reviewed = content.access_reviewed_on
    return Inventory(
        credentials=tuple(_credential(one, path.parent) for one in content.credential),
        rehearsals=tuple(
            Rehearsed(_start(r.on), r.green, frozenset(r.approvers), r.target, r.procedure) for r in content.rehearsal
        ),
        rotations=tuple(_start(rotation.on) for rotation in content.key_rotation),
        access_reviewed_on=_start(reviewed) if reviewed is not None else None,
    )


def certificate_due(path: Path) -> datetime:
    """
    Return the first instant at which a certificate of a PEM file is no longer valid: the earliest of a chain.

    Raises:
        OSError, ValueError: The file cannot be read, or holds no certificate.
    """
    # A tenth of a second to import, and only certificates need it.
    from cryptography import x509

    return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(path.read_bytes()))


def _credential(entry: _Credential, folder: Path) -> Credential:
    if entry.due is not None:
        return Credential(entry.name, _start(entry.due))
    try:
        return Credential(entry.name, certificate_due(folder / entry.file))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no certificate in PEM"
        return Credential(entry.name, Missing(entry.name, f"{entry.file} cannot be read: {why}."))


def _start(day: Any) -> datetime:
    """Take a day as its first instant in UTC; what is an instant already stays one."""
    if isinstance(day, datetime):
        return day.astimezone(UTC) if day.tzinfo else day.replace(tzinfo=UTC)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
