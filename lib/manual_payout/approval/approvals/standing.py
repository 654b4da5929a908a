"""Which approvals stand: asked before a run, and again inside the send."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from manual_payout.approval.approvals.filed import check_filed
from manual_payout.approval.approvals.statement import check_statement
from manual_payout.database.store import Store
from manual_payout.desk.people import Person, Registry
from manual_payout.desk.settings import RequestPolicy
from manual_payout.desk.signatures import APPROVAL, PublicKey, check_signature, is_passkey, signer_of
from manual_payout.domain.errors import ApprovalError, SignatureError
from manual_payout.domain.models import Approval, Kind, Request, Team, stream_of

_ASK = "Ask {team} to run `manual-payout {approve} {incident} --as …`."


@dataclass(frozen=True, slots=True)
class Approved:
    """
    The two approvals that stand, and who gave them.

    Attributes:
        stand_until: When the first of the two, or of the keys they are signed with, expires.
    """

    payments_ops: Approval
    finance: Approval
    payments_ops_person: Person
    finance_person: Person
    stand_until: datetime

    @property
    def shown(self) -> tuple[dict[str, Any], ...]:
        """What is kept of what each of the two was shown: Payments Ops, Finance."""
        return json.loads(self.payments_ops.facts), json.loads(self.finance.facts)

    @property
    def approval_ids(self) -> tuple[str, str]:
        """Of Payments Ops and of Finance."""
        return self.payments_ops.approval_id, self.finance.approval_id

    def __str__(self) -> str:
        return f"{self.payments_ops_person.name} (Payments Ops), {self.finance_person.name} (Finance)"


def given_approvals(store: Store, request: Request) -> list[Approval]:
    """
    Return the approvals of *request* that the journal tells of, oldest first.

    Raises:
        ApprovalError: One stands in the table that was never given: the journal has no event of it.

        EvidenceError: The journal is broken.
    """
    told = [
        (event.actor, event.data["digest"], event.data.get("signature", ""))
        for event in store.events_of(stream_of(request.incident_id, request.lines[0].ledger_payout_id))
        if event.kind == "approved"
    ]
    given = store.approvals_of(request.request_id)
    for approval in given:
        if (approval.approver_id, approval.statement_digest, approval.signature) not in told:
            raise ApprovalError(
                f"Approval {approval.approval_id} was altered, or was never given through `manual-payout approve`.",
                "Stop, keep the database as it is and call Security.",
            )
    return given


def teams_approved(
    approvals: Iterable[Approval], request: Request, rules: RequestPolicy, at: datetime
) -> frozenset[Team]:
    """Return the teams of which a signed approval has not ended at *at*, for whoever looks; judging one is `check_approvals`."""
    return frozenset(
        one.team for one in approvals if one.signature and one.approved_at <= at < rules.approval_ends(one, request)
    )


def check_approvals(
    request: Request,
    approvals: Iterable[Approval],
    registry: Registry,
    rules: RequestPolicy,
    *,
    operator_id: str,
    at: datetime,
    rules_digest: str = "",
) -> Approved:
    """
    Find the two approvals that allow *request* to be sent by *operator_id* at *at*.

    Args:
        rules: How long they stand: the policy of the moment at which it is judged, not of the one at which they were given.

        rules_digest: Of the rules of money at that moment, which have to be those of the approvals; empty where money that
            has left is looked up, which is recorded under any rules.

    Raises:
        ApprovalError: One is missing, unsigned, expired, altered, over another request, with a key that may not sign, or
            by somebody who may not.
    """
    approvals = list(approvals)
    for approval in approvals:
        if approval.signature:
            check_statement(request, approval)
    found = {team: _newest_of(request, approvals, team, rules, at) for team in Team}
    people = {team: _check_approver(request, approval, registry, operator_id, at) for team, approval in found.items()}
    payments_ops, finance = (people[team] for team in (Team.PAYMENTS_OPS, Team.FINANCE))
    if payments_ops.person_id == finance.person_id:
        raise ApprovalError(f"Both approvals are by {finance.name}.", "A second person has to approve.")
    keys = {check_signed(found[team], people[team], registry, at) for team in Team}
    if len(keys) != len(Team):
        raise ApprovalError(
            f"The approvals by {payments_ops.name} and {finance.name} are signed with one key.",
            "Each person signs with their own key: have the second approver approve again with theirs.",
        )
    check_passkeys(keys, registry)
    check_filed(registry, request)
    _check_rules(found.values(), people, rules_digest)
    lines = (registry.signers.find(key) for key in keys)
    ends = [line.valid_before for line in lines if line is not None and line.valid_before is not None]
    until = min(ends + [rules.approval_ends(approval, request) for approval in found.values()])
    return Approved(found[Team.PAYMENTS_OPS], found[Team.FINANCE], payments_ops, finance, until)


def _check_rules(found: Iterable[Approval], people: dict[Team, Person], rules_digest: str) -> None:
    others = [people[one.team].name for one in found if one.rules_digest != rules_digest]
    if rules_digest and others:
        raise ApprovalError(
            f"The policy's rules of money are not those under which {' and '.join(others)} approved.",
            "Have it approved again under the rules of now, or run it under those of then.",
        )


def by_passkey(approvals: Iterable[Approval]) -> list[Approval]:
    """Return those of *approvals* that were signed in a browser, whether or not their signatures are good."""
    return [one for one in approvals if in_browser(one.signature)]


def in_browser(signature: str) -> bool:
    """Whether a signature was made with a passkey, whether or not it is good."""
    try:
        return is_passkey(signer_of(signature))
    except SignatureError:
        return False


def check_passkeys(keys: Iterable[PublicKey], registry: Registry) -> None:
    """
    Hold the number of approvals by passkey to the policy: an authenticator shows nothing of what it signs.

    Raises:
        ApprovalError: There are more than it allows.
    """
    found, at_most = sum(map(is_passkey, keys)), registry.signers.passkeys.at_most
    if found > at_most:
        raise ApprovalError(
            f"{found} of the approvals would be by passkey, and the policy (approvals.passkeys_max) allows {at_most}.",
            "Have one approver approve at a terminal, with `manual-payout approve` and an SSH key.",
        )


def check_signed(approval: Approval, person: Person, registry: Registry, at: datetime) -> PublicKey:
    """
    Check that *person* signed *approval*, with a key that was theirs when it was given and still is at *at*.

    What the approval says is compared with its request by `check_statement`.

    Returns:
        The key.

    Raises:
        ApprovalError: The signature does not fit, or its key is unknown, another person's, revoked, for another purpose,
            expired or not valid yet.
    """
    try:
        key = signer_of(approval.signature)
        for instant in (approval.approved_at, at):
            registry.signers.judge(key, person.email, APPROVAL, instant)
        check_signature(
            approval.signed_text.encode(), approval.signature, key, APPROVAL, registry.signers.passkeys.origins
        )
    except SignatureError as error:
        raise ApprovalError(f"The approval by {person.name} is not valid. {error.message}", error.remedy) from error
    return key


def _newest_of(request: Request, approvals: list[Approval], team: Team, rules: RequestPolicy, at: datetime) -> Approval:
    # What was approved later than the instant in question says nothing about it.
    of_team = [approval for approval in approvals if approval.team is team and approval.approved_at <= at]
    signed = [approval for approval in of_team if approval.signature]
    approve = "reversal approve" if request.kind is Kind.REVERSAL else "approve"
    ask = _ASK.format(team=team.label, approve=approve, incident=request.incident_id)
    if not signed:
        # Given before approvals were signed, or put there by somebody else: neither counts.
        raise ApprovalError(f"{'No approval' if not of_team else 'No signed approval'} by {team.label}.", ask)
    newest = max(signed, key=lambda approval: approval.approved_at)
    ends = rules.approval_ends(newest, request)
    if at >= ends:
        raise ApprovalError(
            f"The approval by {team.label} expired at {ends:%Y-%m-%d %H:%M} UTC{_why_then(newest, ends)}.", ask
        )
    return newest


def _why_then(approval: Approval, ends: datetime) -> str:
    """Say why it ended earlier than it says, where it did: who reads its paper would wonder."""
    if ends == approval.expires_at:
        return ""
    return f", by the policy as it is now; it says {approval.expires_at:%Y-%m-%d %H:%M}"


def _check_approver(request: Request, approval: Approval, registry: Registry, operator_id: str, at: datetime) -> Person:
    person = registry.find(approval.approver_id)
    if (
        person is None
        or "approve" not in person.may
        or not person.valid_at(at)
        or person.approving_team() is not approval.team
    ):
        name = person.name if person else approval.approver_id
        raise ApprovalError(
            f"{name} may not approve for {approval.team} now.", "Ask somebody whom the registry allows to."
        )
    if person.person_id == request.requested_by:
        raise ApprovalError(f"{person.name} filed this request and approved it.", "Ask somebody else of the team.")
    if person.person_id == operator_id:
        raise ApprovalError(
            f"{person.name} approved this request and cannot also run it.", "Another operator has to run it."
        )
    return person
