"""
Who plays a rehearsal: the people of the demo, with keys that are made for it and thrown away after it.

One process plays every part without asking anybody, so it must hold the keys of both approvers; a real approver's key
must never lie where that is possible. The sandbox's keys will not do either, since anybody can make those. So each
rehearsal makes its own: their public halves stay beside the evidence, where it can be verified with them, and the private
halves of the approvers are never on disk longer than it takes to read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from manual_payout.desk.people import Person, load_registry
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signatures import (
    AllowedSigner,
    SigningKey,
    key_from_file,
    new_key_file,
    signer_line,
)
from manual_payout.domain.errors import SettingsError
from payout_rehearsal.demo import incident

# A rehearsal takes an hour at most; what it made is worth nothing after two days.
_VALID = timedelta(days=2)
# The database's clock judges, and it may be behind this one by a little.
_EARLIER = timedelta(minutes=10)

_HEADING = "# The keys of one rehearsal in Stripe's test mode, made for it and thrown away after it.\n"


@dataclass(frozen=True, slots=True)
class Cast:
    """
    The people of one rehearsal.

    Attributes:
        requester, operator: Handles of the registry.

        approvers: One of each team, in the order in which they approve.

        approvers_file, allowed_signers_file: As `load_settings` takes them.

        operators_key: The file of the key with which the operator seals.

        keys: By handle.
    """

    approvers_file: Path
    allowed_signers_file: Path
    operators_key: Path
    keys: dict[str, SigningKey] = field(repr=False)
    requester: str = incident.REQUESTER
    approvers: tuple[str, ...] = ("priya", "amara")
    operator: str = incident.OPERATOR

    def key_of(self, handle: str) -> SigningKey:
        """
        Return the key with which *handle* signs in this rehearsal.

        Raises:
            SettingsError: Nobody who signs is called that.
        """
        if handle not in self.keys:
            raise SettingsError(
                f"Nobody called {handle!r} signs in this rehearsal.", f"Use one of: {', '.join(sorted(self.keys))}."
            )
        return self.keys[handle]


def make_cast(folder: Path, private: Path, at: datetime) -> Cast:
    """
    Write the registry of the demo's people into *folder*, with keys made now.

    Args:
        private: A folder that only its owner may read; the operator's private key stays in it, for the runner.
    """
    approvers = folder / "approvers.toml"
    approvers.write_text(SANDBOX_APPROVERS.read_text("utf-8"), "utf-8")
    keys, lines = {}, []
    for person in load_registry(SANDBOX_APPROVERS).people:
        if not person.valid_at(at):
            continue
        keys[person.handle] = _new_key(private, person, keep=person.handle == incident.OPERATOR)
        public = keys[person.handle].public_key
        lines.append(
            signer_line(
                AllowedSigner(
                    person.email, person.purposes(), public, at - _EARLIER, at + _VALID, "this rehearsal only"
                )
            )
        )
    signers = folder / "allowed_signers"
    signers.write_text(_HEADING + "".join(f"{line}\n" for line in lines), "utf-8")
    signers.with_name("revoked_keys").write_text("", "utf-8")
    return Cast(approvers, signers, private / incident.OPERATOR, keys)


def _new_key(private: Path, person: Person, *, keep: bool) -> SigningKey:
    file = private / person.handle
    new_key_file(file, "", person.email)
    key = key_from_file(file, _nobody_is_asked)
    if not keep:
        file.unlink()
    return key


def _nobody_is_asked(file: Path) -> str:
    raise AssertionError(f"Bug: {file} was made without a passphrase")
