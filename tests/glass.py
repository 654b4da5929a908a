"""Break-glass on a scene with one approval: declared as the command does, or put into the journal past the command."""

from __future__ import annotations

from dataclasses import replace

from desks import LAST4
from manual_payout.breakglass import declare, page_key, statement_of
from manual_payout.canonical import canonical_json
from manual_payout.demo import incident
from manual_payout.models import Channel, Declaration, Message, MessageState, Team, stream_of
from manual_payout.settings import BreakGlassPolicy
from manual_payout.signatures import APPROVAL
from manual_payout.signing import sandbox_key
from manual_payout.store import message_id

AMOUNT_MINOR = 125_075
OWNER = "jonas"
HOLD_S = 1800
POLICY = BreakGlassPolicy(enabled=True, amount_minor_max={"usd": 200_000}, hold_s=HOLD_S, owner=OWNER)
BECAUSE = "both of Finance are on one flight"


def allow(desk, **changes):
    """Turn break-glass on at *desk*, with some entries of its policy changed."""
    policy = desk.settings.policy.model_copy(update={"break_glass": POLICY.model_copy(update=changes)})
    desk.settings = desk.settings.model_copy(update={"policy": policy})


def page_of(declaration, request):
    """The page as it is put into the outbox."""
    key = page_key(declaration.declaration_id)
    return Message(
        message_id=message_id(key), stream=stream_of(request.incident_id, request.line.ledger_payout_id), payout_id=None,
        kind="page_break_glass", audience="rehearsal on-call", dedup_key=key, subject="", body_text="", body_html="",
        state=MessageState.WAITING, created_at=declaration.declared_at, mode=request.mode, channel=Channel.PAGERDUTY,
    )  # fmt: skip


def declared(scene, who="priya", **typed):
    """Declare as the command does; nobody is paged yet."""
    given = {"amount": incident.AMOUNT, "destination_last4": LAST4, "because": BECAUSE} | typed
    glass, _ = declare(
        scene.desk, scene.request, declarer=who, key=sandbox_key(who), **given,
        page=lambda declaration: [page_of(declaration, scene.request)],
    )  # fmt: skip
    return glass


def paged(scene, glass):
    """Have PagerDuty take the page."""
    message = scene.desk.store.get_message(message_id(page_key(glass.declaration.declaration_id)))
    scene.desk.store.record_delivered(message, {"dedup_key": message.dedup_key}, actor="priya")


def opened(scene, **changes):
    """Everything that the one allowed combination takes: declared, paged, and the hold is over."""
    allow(scene.desk, **changes)
    glass = declared(scene)
    paged(scene, glass)
    scene.pass_time(seconds=HOLD_S)
    return glass


def forged(desk, request, approval, at, *, signer=None, signed_for=None, **changes):
    """A declaration as `declare` would not make it, properly signed unless told otherwise."""
    made = Declaration(
        declaration_id="d0000000-0000-4000-8000-000000000001", request_id=request.request_id,
        request_digest=request.digest, declarer_id=approval.approver_id, approval_id=approval.approval_id,
        missing=approval.team.other, because=BECAUSE, owner_id=desk.registry.find(OWNER).person_id,
        limit_minor=200_000, hold_s=HOLD_S, nonce="0" * 32, declared_at=at, expires_at=approval.expires_at,
    )  # fmt: skip
    made = replace(made, **changes)
    text = canonical_json(statement_of(signed_for or request, made))
    who = signer or desk.registry.find(made.declarer_id).handle
    return replace(made, signed_text=text, signature=sandbox_key(who).sign(APPROVAL, text.encode()))


def team_of(name):
    """The team for which somebody of the demo approves."""
    return Team.FINANCE if name in ("amara", "lucia") else Team.PAYMENTS_OPS
