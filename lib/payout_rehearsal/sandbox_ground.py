"""The rehearsal's first ground: the local sandbox and the demo's ledger; nothing real is near."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from local_stripe import Sandbox
from manual_payout.database import engines
from manual_payout.desk.signatures import SigningKey
from manual_payout.desk.signing import sandbox_key
from manual_payout.desk.wiring import Desk
from manual_payout.domain.intent import transfer_group
from manual_payout.domain.parameters import Parameters, validate
from manual_payout.ledger import PayoutDue
from payout_rehearsal.demo import automation, incident
from payout_rehearsal.demo.ledger import demo_ledger
from payout_rehearsal.ground import SceneName
from payout_rehearsal.stage import demo_parameters, sandbox_books, stage_set


@dataclass(frozen=True, slots=True)
class DemoCast:
    """
    The demo's people, as `ground.Cast` says.

    Attributes:
        key_of: Returns the sandbox's key of a handle; anybody can make it.
    """

    requester: str
    approvers: tuple[str, ...]
    operator: str
    key_of: Callable[[str], SigningKey]


DEMO_CAST = DemoCast(incident.REQUESTER, ("priya", "amara"), incident.OPERATOR, sandbox_key)

# Between the steps of the demo's night, so that its timeline reads like one.
PAUSE_S = 240.0

# Real seconds; the kernel is killed as soon as its intent is on record, which takes far less.
HELD_S = 5.0

# By the sandbox's clock, which stands at the demo's night.
CLOSING: dict[str, str | bool] = {
    "root_cause": "The payout scheduler lost its database connection at 01:04 UTC and did not reconnect.",
    "follow_ups": "Reconnect on failure, Tomas Lindqvist, 2026-03-13; alert on a missed run, Noor Haddad, 2026-03-20",
    "automation_restored": True,
    "key_rotated_to": "",
    "access_review_on": "2026-04-20",
}

# Studios of the demo whose last payout the outage left unpaid. Names with & and ' show whether messages escape them.
_STUDIOS = {
    SceneName.ANSWER_LOST: "Tide & Timber Dance Loft",
    SceneName.KILLED_KERNEL: "O'Hara's Dance Loft",
    SceneName.STALE_APPROVAL: "Second Story Letterpress",
    SceneName.WRONG_ACCOUNT: "Paper Moon Letterpress",
    SceneName.NOT_CONNECTED: "Driftwood Fiber Arts",
    SceneName.INSUFFICIENT_BALANCE: "Estudio Niña Azul",
    SceneName.FAILING_LATER: "Little Finch Ceramics",
}


class SandboxGround:
    """
    The local sandbox.

    Args:
        desk: The operator's, on the demo's stage.

        stripe: The sandbox with its books.
    """

    name = "sandbox"
    cast = DEMO_CAST
    pause_s = PAUSE_S
    changes: tuple[str, ...] = ()
    left_behind = ""

    def __init__(self, desk: Desk, stripe: Sandbox) -> None:
        self.desk = desk
        # The clock is moved on, so that staleness costs nothing here.
        self.short_approval_s = desk.settings.policy.request.approval_lifetime_s
        self._stripe = stripe

    def case(self, scene: SceneName) -> Parameters:
        """Return the demo incident, or the last payout of the scene's studio."""
        if scene is SceneName.INCIDENT:
            return demo_parameters()
        due = _last_payout(_STUDIOS[scene])
        if scene is SceneName.INSUFFICIENT_BALANCE:
            # Its currency is no other scene's.
            self._stripe.seed(available={due.currency: due.amount_minor - 1})
        balance = self.desk.ledger.find_balance(due.studio_id, due.currency)
        assert balance is not None, "Bug: every studio of the demo has a balance"
        return validate(
            {
                "incident_id": f"INC-{200 + list(SceneName).index(scene)}",
                "studio_id": due.studio_id,
                "studio_name": due.studio_name,
                "ledger_payout_id": due.ledger_payout_id,
                "amount": due.amount.text,
                "reserve_after": (balance.balance - due.amount).text,
                "reason": due.failure_reason,
                "destination_account": due.destination_account,
                "notes": f"Drill: {scene}",
                "operator": self.cast.operator,
                "dry_run": True,
                "confirm": "",
            }
        )

    def closing(self) -> dict[str, str | bool]:
        """Return the demo's closing."""
        return CLOSING

    def unseen(self, scene: SceneName) -> str:
        """Say nothing: the sandbox's read key sees everything."""
        del scene
        return ""

    def lose_answer(self) -> None:
        """Close the connection after the transfer was made, and on the listing that follows."""
        self._stripe.fault("drop_after", then_silent=1)

    def hold_answer(self) -> None:
        """Hold the answer back after the transfer was made."""
        self._stripe.fault("slow", seconds=HELD_S)

    def fail_bank_payout(self, parameters: Parameters, transfer_id: str) -> None:
        """Give the studio a bank account that sends the money back."""
        del transfer_id  # every payout of this account will fail
        known = next(account for account in sandbox_books()[0] if account.id == parameters.destination_account)
        self._stripe.seed([replace(known, bank="fails")])

    def transfers(self, ledger_payout_id: str) -> int:
        """Count in the sandbox's own books, not through the gateway that is being rehearsed."""
        with self._stripe.books.lock:
            made = list(self._stripe.books.transfers)
        return sum(transfer.transfer_group == transfer_group(ledger_payout_id) for transfer in made)

    def automation_pays(self, ledger_payout_id: str) -> bool:
        """Let the demo's automation try this payout."""
        engine = engines.connect(self.desk.settings.ledger_database_text(), name="LEDGER_DATABASE_URL")
        try:
            return automation.attempt(engine, ledger_payout_id, self.desk.now())
        finally:
            engine.dispose()


@contextmanager
def sandbox_ground(root: Path) -> Iterator[SandboxGround]:
    """
    Set the demo's stage for the incident and the drill.

    Args:
        root: Where the database and the evidence are made.
    """
    stranger = _last_payout(_STUDIOS[SceneName.NOT_CONNECTED]).destination_account
    with stage_set(root, without=frozenset({stranger})) as (desk, stripe):
        yield SandboxGround(desk, stripe)


def _last_payout(studio_name: str) -> PayoutDue:
    return [payout for payout in demo_ledger().payouts if payout.studio_name == studio_name][-1]
