"""A payout and a reversal that are ready to be made, asked the same things in the same words."""

from __future__ import annotations

from dataclasses import replace

import pytest

import local_stripe
import payout_rehearsal
import proofs
from local_stripe.transfers import reverse_transfer
from manual_payout import transfer
from manual_payout.approval.reversal import ReversalAsked, file_reversal, verify_reversal
from manual_payout.domain.models import ReversalReason, State
from manual_payout.domain.parameters import ReversalParameters
from mishaps import CrashError, refusal
from payout_rehearsal.demo import incident

PAID = 125_075
THIRD = "416.91"
THIRD_MINOR = 41_691
STUDIO_HAS = 200_000


class Out:
    """The payout of a scene: requested, approved by two people, seen in a dry run; nothing was sent."""

    done, cut_short = State.PAID, "the transfer was not on record"
    rows, tries, create, look, looks = "manual_payouts", "attempts", "create_transfer", "transfers_in_group", 4

    def __init__(self, scene):
        self.scene, self.request = scene, scene.request
        self.run, self.file, self.approve = scene.send, scene.file, scene.approve
        self.reconcile, self.decide = scene.reconcile, scene.decide

    @property
    def record(self):
        return self.scene.record

    @property
    def posts(self):
        return self.scene.posts

    @property
    def moved(self):
        return [one.amount for one in self.scene.transfers]

    @property
    def standing(self):
        """What the row, the ledger and Stripe's books say."""
        return self.record and self.record.state, self.scene.due.standing, self.moved

    def stands(self, state):
        """Say what they show where the row is in that state."""
        return state, "claimed", [PAID] * (state is State.PAID)

    def dry_run(self, operator):
        self.scene.dry_run(operator=operator)

    def fault(self, kind, **options):
        self.scene.stripe.fault(kind, **options)


class Mistake:
    """
    A reversal at a scene whose payout was made: requested, approved by two people, seen in a dry run; nothing was taken.

    Attributes:
        request: The reversal's; the scene's own is that of the payout.
    """

    done, cut_short = State.REVERSED, "the reversal was not on record"
    rows, tries, create, look, looks = "manual_reversals", "reversal_attempts", "create_reversal", "reversals_of", 2

    def __init__(self, scene, request=None):
        self.scene = scene
        self.request = request

    def file(self, *, replace=False, requester=incident.REQUESTER, desk=None, **changes):
        """File a request for a reversal of all that is left, with some values changed."""
        desk = desk or self.scene.desk
        asked = {
            "incident_id": incident.INCIDENT_ID, "ledger_payout_id": incident.LEDGER_PAYOUT_ID,
            "reason": ReversalReason.PAID_TWICE, "notes": "The automation had paid it",
        }  # fmt: skip
        person = desk.registry.find(requester)
        key = self.scene.request_key(person.handle)
        return file_reversal(desk, ReversalAsked(**asked | changes), person, replace=replace, key=key)[0]

    def prepare(self, **changes):
        """Request, two approvals, dry run."""
        self.request = self.file(**changes)
        for approver in payout_rehearsal.APPROVERS:
            self.approve(approver)
        self.scene.dry_run(self.request)
        return self

    def approve(self, approver):
        return self.scene.approve(approver, self.request)

    def live(self, operator=None, **changes):
        operator = operator or self.scene.operator
        code = proofs.code(self.scene.desk, self.request, operator.handle)
        given_ = ReversalParameters(self.request.incident_id, self.request.request_id, operator.handle, False, code)
        return replace(given_, **changes)

    def reverse(self, desk=None, operator=None, **changes):
        """Take the money back as the operator does."""
        operator = operator or self.scene.operator
        return transfer.reverse(desk or self.scene.desk, self.live(operator, **changes), operator)

    def reconcile(self, desk=None):
        return transfer.reconcile(desk or self.scene.desk, self.record, self.scene.operator)

    def decide(self, because="the Dashboard shows no reversal"):
        return transfer.decide_not_moved(self.scene.desk, self.record, self.scene.operator, because)

    def checks(self, desk=None):
        """The verification's answers by name."""
        found = verify_reversal(
            desk or self.scene.desk, self.request, self.request.line_for(), self.scene.operator.person_id
        )
        return {check.name: check for check in found.checks}

    @property
    def record(self):
        """The reversal record on file, or None."""
        return self.scene.desk.store.find_reversal(self.request.line_for().line_id)

    @property
    def transfer(self):
        """The transfer in Stripe's own books."""
        return self.scene.stripe.books.records[self.request.line_for().stripe_transfer_id]

    @property
    def taken(self):
        """What each reversal in Stripe's own books took back of this transfer, in minor units."""
        return [one.amount for one in self.scene.stripe.books.reversals if one.transfer == self.transfer.id]

    @property
    def posts(self):
        """Every request for a reversal that reached Stripe."""
        return [post for post in self.scene.posts if post.path.endswith("/reversals")]

    @property
    def standing(self):
        """What the reversal's row, the payout's row and Stripe's books say."""
        return self.record and self.record.state, self.scene.record.state, self.taken

    def attempts(self):
        return self.scene.rows("SELECT attempt_no, outcome FROM reversal_attempts ORDER BY attempt_no")

    def fault(self, kind, **options):
        """Plant a fault for requests to this transfer's reversals."""
        self.scene.stripe.fault(
            kind, path=f"/v1/transfers/{self.request.line_for().stripe_transfer_id}/reversals", **options
        )

    def in_dashboard(self, amount):
        """Somebody takes part of it back in the Dashboard."""
        with self.scene.stripe.books.lock:
            return reverse_transfer(self.scene.stripe.books, self.transfer, amount, {}, None)

    # What a payout and a reversal are both asked.
    run, moved = reverse, taken

    def stands(self, state):
        """Say what row, payout's row and Stripe's books show where the reversal's row is in that state."""
        done = state is State.REVERSED
        return (
            state,
            State.PARTLY_REVERSED if done else State.PAID,
            [self.request.line_for().amount.amount_minor] * done,
        )

    def dry_run(self, operator):
        self.scene.dry_run(self.request, operator=operator)


def give_studio(scene, minor=STUDIO_HAS):
    """Make the studio's available balance what is said here."""
    account = local_stripe.SandboxAccount(incident.DESTINATION_ACCOUNT, available=(("usd", minor),))
    scene.stripe.seed([account])


def paid_by_mistake(scene):
    scene.send()
    give_studio(scene)
    return Mistake(scene)


WAYS = {"out": Out, "back": lambda scene: paid_by_mistake(scene).prepare(amount=THIRD)}


BOUNDARIES = {
    "before the intent": ("store", "record_intent", False),
    "after the intent": ("store", "record_intent", True),
    "before the fence": ("store", "mark_sent", False),
    "after the fence": ("store", "mark_sent", True),
    "before the call": ("gateway", "create", False),
    "after the call": ("gateway", "create", True),
    "before the outcome": ("store", "record_outcome", False),
    "after the outcome": ("store", "record_outcome", True),
    "before the claim": ("ledger", "claim", False),
    "after the claim": ("ledger", "claim", True),
    "in the outcome": ("store", "_mark_reversed", True),
}


def crash_at(moving, boundary, monkeypatch):
    """Let the process die there."""
    room, method, after = BOUNDARIES[boundary]
    target, name = getattr(moving.scene.desk, room), moving.create if method == "create" else method
    real = getattr(target, name)

    def dies(*args, **kwargs):
        if after:
            real(*args, **kwargs)
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(target, name, dies)
        with pytest.raises(CrashError):
            moving.run()


def lose_the_answer(moving, *, moved):
    """Leave an unknown outcome behind, with or without money moved in Stripe's books."""
    plant_lost_answer(moving, moved=moved)
    return refusal(moving.run)


def plant_lost_answer(moving, *, moved):
    """Plant the faults by which the next run loses the answer."""
    if moved:
        moving.fault("drop_after")
        moving.fault("drop_before", method="GET", skip=moving.looks)
    else:
        moving.fault("drop_before", times=3)
