"""The review afterwards: somebody of the missing team looks at what was sent without them, and signs what they found."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from manual_payout.approvals import STATEMENT_TYPE
from manual_payout.breakglass.standing import Glass, glass_named
from manual_payout.breakglass.statement import REVIEW_TYPE, check_signed
from manual_payout.canonical import canonical_json, digest_of, instant_text
from manual_payout.desk import Desk
from manual_payout.errors import ApprovalError, PolicyRefusedError, SignatureError
from manual_payout.models import Event, Mode, PayoutRecord, Request, State, stream_of
from manual_payout.parameters import NOTES_LENGTH_MAX, check_text
from manual_payout.people import Person, Registry
from manual_payout.signatures import APPROVAL, SigningKey

# datetime.weekday() of Saturday and Sunday.
_WEEKEND = (5, 6)

# Whoever did one of these, from an intent to the next, sent it or helped to.
_SENDING = frozenset({"intent_recorded", "sending_taken_over", "resend_allowed", "sending"})


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody of the missing team found, and when."""

    person: Person
    at: datetime
    because: str


def review(desk: Desk, record: PayoutRecord, *, reviewer: str, because: str, key: SigningKey) -> Review:
    """
    Sign and record the review of a payout that was sent under break-glass.

    Args:
        reviewer: Id, handle or email of somebody of the missing team.

        because: What they found: one line.

        key: The reviewer's own.

    Raises:
        PolicyRefusedError: It was not sent under break-glass, nothing moved as far as is known, or it is reviewed already.

        ApprovalError: This person may not review it.

        SignatureError: The key did not sign, or may not.
    """
    because = check_text("because", because, NOTES_LENGTH_MAX)
    request = desk.store.get_request(record.request_id)
    events = desk.store.events_of(stream_of(record.incident_id, record.ledger_payout_id))
    glass = used_glass(record, request, events)
    if glass is None or record.state is State.REFUSED:
        raise PolicyRefusedError(
            f"{record.incident_id} has no payout that was sent under break-glass.", "There is nothing to review."
        )
    if record.stripe_transfer_id is None:
        # What moves later would pass for looked at.
        raise PolicyRefusedError(
            f"What was begun under break-glass in {record.incident_id} is {record.state}: no transfer is on record to review.",
            f"Run `manual-payout reconcile {record.incident_id} --ledger-payout-id {record.ledger_payout_id}`, and review "
            "what it finds.",
        )
    if (found := find_review(glass, events, desk.registry)) is not None:
        raise PolicyRefusedError(f"{found.person.name} reviewed it at {found.at:%Y-%m-%d %H:%M} UTC.", "It is done.")
    now = desk.now()
    person = desk.registry.get_allowed(reviewer, "approve", now, field="as")
    if why := _unfit(person, glass, events):
        raise ApprovalError(
            f"{person.name} {why}.", f"Ask somebody of {glass.declaration.missing.label} who had no part in it."
        )
    statement = _statement(record, glass, person, because, now)
    text = canonical_json(statement)
    signature = key.sign(APPROVAL, text.encode())
    check_signed(text, signature, person, desk.registry, now)
    data = {
        "declaration_id": glass.declaration.declaration_id,
        "statement": statement,
        "digest": digest_of(statement),
        "signature": signature,
    }
    desk.store.record_event(
        stream_of(record.incident_id, record.ledger_payout_id), "break_glass_reviewed", person.person_id, data
    )
    return Review(person, now, because)


def used_glass(record: PayoutRecord, request: Request, events: Sequence[Event]) -> Glass | None:
    """Return the declaration under which the newest attempt of *record* was begun, or None for an ordinary payout."""
    begun = [e for e in events if e.kind == "intent_recorded" and e.data.get("payout_id") == record.payout_id]
    used = str(begun[-1].data.get("break_glass", "")) if begun else ""
    return glass_named(used, request, events) if used else None


def find_review(glass: Glass, events: Sequence[Event], registry: Registry) -> Review | None:
    """
    Return the review of what was sent under *glass*.

    One that is not signed by who may review it is none, and neither is one that names no transfer.
    """
    for number, event in enumerate(events):
        if event.kind != "break_glass_reviewed" or event.data.get("declaration_id") != glass.declaration.declaration_id:
            continue
        try:
            said = event.data["statement"]["predicate"]
            person, at = registry.find(str(said["reviewer_id"])), datetime.fromisoformat(said["reviewed_at"])
            bound = (event.data["statement"]["predicateType"], said["declaration_id"], said["declaration_sha256"])
            wanted = (REVIEW_TYPE, glass.declaration.declaration_id, _digest(glass))
            if person is None or bound != wanted or not said["stripe_transfer_id"]:
                continue
            # What the reviewer does afterwards, such as taking the money back, is no part of the sending.
            if _unfit(person, glass, events[:number]):
                continue
            check_signed(canonical_json(event.data["statement"]), event.data["signature"], person, registry, at)
        except (KeyError, TypeError, ValueError, SignatureError):
            continue
        return Review(person, at, str(said["because"]))
    return None


def review_due(sent_at: datetime) -> datetime:
    """
    Say until when a payout under break-glass is to be reviewed: one business day later.

    A business day is 24 hours of Monday to Friday in UTC; holidays are nobody's here.
    """
    at = sent_at
    while at.weekday() in _WEEKEND:
        at = at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    at += timedelta(days=1)
    while at.weekday() in _WEEKEND:
        at += timedelta(days=1)
    return at


def _unfit(person: Person, glass: Glass, events: Sequence[Event]) -> str:
    """Say why *person* may not review what was sent under *glass*; nothing where they may."""
    declared = glass.declaration
    if person.approving_team() is not declared.missing or "approve" not in person.may:
        return f"may not review for {declared.missing.label}, whose approval was missing"
    asked = json.loads(declared.signed_text)["predicate"]["request"]["requested_by"]
    had_part = {declared.declarer_id, asked, *_senders(events, declared.declaration_id)}
    return "had a part in it and cannot review it" if person.person_id in had_part else ""


def _senders(events: Sequence[Event], declaration_id: str) -> set[str]:
    """Return who began an attempt under the declaration, took it over, allowed its key again or sent it."""
    found, under = set(), False
    for event in events:
        if event.kind == "intent_recorded":
            under = event.data.get("break_glass") == declaration_id
        if under and event.kind in _SENDING:
            found.add(event.actor)
    return found


def _statement(record: PayoutRecord, glass: Glass, person: Person, because: str, now: datetime) -> dict[str, Any]:
    declared = glass.declaration
    told = {"declaration": declared.declaration_id, "reviewer": person.person_id}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"break-glass {declared.declaration_id}", "digest": {"sha256": _digest(glass)}}],
        "predicateType": REVIEW_TYPE,
        "predicate": {
            "declaration_id": declared.declaration_id,
            "declaration_sha256": _digest(glass),
            "request_digest": declared.request_digest,
            "stripe_transfer_id": record.stripe_transfer_id or "",
            "reviewer_id": person.person_id,
            "team": declared.missing.value,
            "because": because,
            "nonce": digest_of(told)[:32] if record.mode is Mode.SANDBOX else secrets.token_hex(16),
            "reviewed_at": instant_text(now),
        },
    }


def _digest(glass: Glass) -> str:
    return digest_of(json.loads(glass.declaration.signed_text))
