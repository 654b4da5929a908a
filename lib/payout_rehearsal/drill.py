"""
The drill: each fault on an incident of its own, with what is expected said beforehand and what was found put beside it.

Every scene is played with the real runner and the reviewed notebooks. None asks on which ground it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from manual_payout import transfer
from manual_payout.desk.people import Person
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import PayoutRecord, Request, Stage, State
from manual_payout.domain.parameters import Parameters
from manual_payout.steps.endings import StageResult
from manual_payout.steps.runner import DRY_RUN, run_stages
from payout_rehearsal.ground import Ground, SceneName
from payout_rehearsal.incident import file_and_approve, live_parameters
from payout_rehearsal.killing import killed_when
from truthful_papermill.warm.starting import ForkServer

_SEND = (Stage.VERIFY, Stage.EXECUTE)
NOT_REACHED = "not reached"
UNSEEN = "could not be seen with this key"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was expected of a scene, and what was found."""

    what: str
    expected: str
    found: str

    @property
    def fine(self) -> bool:
        """Whether it was found as expected."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class Played:
    """
    A scene that was played.

    Attributes:
        findings: Everything that was expected, whether the scene came to it or not.

        trouble: What cut the scene short, or kept from being seen what it comes to; empty where nothing did.

        folder: Its evidence, below the rehearsal's folder.
    """

    name: SceneName
    title: str
    findings: tuple[Finding, ...]
    trouble: str
    folder: str

    @property
    def as_expected(self) -> bool:
        """Whether everything was found as it was expected."""
        return not self.trouble and all(finding.fine for finding in self.findings)


@dataclass
class Act:
    """
    One scene while it is played.

    Attributes:
        found: What was found by now, by the names of what is expected.

        last: How the notebook that was run last has ended.

        unseen: Why something of this scene could not be seen, and what would show it.
    """

    ground: Ground
    kernels: ForkServer
    typed: Parameters
    found: dict[str, str] = field(default_factory=dict)
    request: Request | None = None
    last: StageResult | None = None
    unseen: str = ""

    def approve(self, *, lifetime_s: int | None = None) -> None:
        """File the request and have it approved twice."""
        ground = self.ground
        self.request = file_and_approve(
            ground.desk, self.typed, ground.cast, pause_s=ground.pause_s, lifetime_s=lifetime_s
        )

    def wait_until_stale(self) -> None:
        """Let the approvals run out; where waiting is real, what was done since they were given counts."""
        assert self.request is not None, "Bug: nothing was approved"
        desk = self.ground.desk
        given, rules = desk.store.approvals_of(self.request.request_id), desk.settings.policy.request
        ends = max(rules.approval_ends(one, self.request) for one in given)
        # The database keeps milliseconds on one side and microseconds on the other.
        desk.clock.wait(max(0.0, (ends - desk.now()).total_seconds()) + 1)

    def dry_run(self) -> str:
        """Verify and show the payload."""
        return self._run(DRY_RUN, self.typed)

    def live(self, stages: Sequence[Stage] = _SEND, *, account: str = "") -> str:
        """Run *stages* live, another *account* typed where one is given; say where it ended."""
        assert self.request is not None, "Bug: a live run needs a request"
        typed = live_parameters(self.ground.desk, self.typed, self.request)
        return self._run(stages, replace(typed, destination_account=account or typed.destination_account))

    def refuse(self, *, account: str = "") -> None:
        """Find that a live run is refused, the sending notebook alone too, and that nothing was sent."""
        self.found["live run"] = self.live(account=account)
        self.found["2-execute run alone"] = self.live((Stage.EXECUTE,), account=account)
        self.found["transfers at Stripe"] = self.transfers()
        self.found["ledger"] = self.ledger()

    def transfers(self) -> str:
        """Count the transfers in Stripe's own books."""
        return str(self.ground.transfers(self.typed.ledger_payout_id))

    def ledger(self) -> str:
        """Say whether the ledger's payout is failed and free, claimed, or paid."""
        due = self.ground.desk.ledger.get_payout_due(self.typed.ledger_payout_id)
        return due.standing

    def record(self) -> PayoutRecord | None:
        """Return our row, or None while nothing was begun."""
        assert self.request is not None, "Bug: a row needs a request"
        return self.ground.desk.store.find_payout(self.request.line_for().line_id)

    def row(self) -> str:
        """Say what our row says."""
        record = self.record()
        return record.state.value if record else "no row"

    def operator(self) -> Person:
        """Return who runs it."""
        desk = self.ground.desk
        return desk.registry.get_allowed(self.ground.cast.operator, "operate", desk.now(), field="operator")

    def _run(self, stages: Sequence[Stage], parameters: Parameters) -> str:
        self.last = run_stages(self.ground.desk, stages, parameters, kernels=self.kernels)[-1]
        return f"exit {self.last.exit_code} at {self.last.stage}" if self.last.exit_code else "exit 0"


def _answer_lost(act: Act) -> None:
    act.approve()
    act.found["dry run"] = act.dry_run()
    act.ground.lose_answer()
    act.found["live run"] = act.live()
    act.found["row"] = act.row()
    record = act.record()
    assert record is not None, "the live run left no row to reconcile"
    act.found["reconcile"] = transfer.reconcile(act.ground.desk, record, act.operator()).record.state.value
    act.found["same command again"] = act.live()
    act.found["transfers at Stripe"] = act.transfers()


def _killed_kernel(act: Act) -> None:
    act.approve()
    act.found["dry run"] = act.dry_run()
    act.ground.hold_answer()

    def sending() -> bool:
        record = act.record()
        return record is not None and record.state is State.SUBMITTING and record.sent

    with killed_when(act.kernels, sending) as shot:
        act.found["live run"] = act.live()
    act.found["kernel killed while sending"] = "yes" if shot.fired else "no, it was too fast"
    act.found["notebook"] = act.last.verdict if act.last else ""
    act.found["row"] = act.row()
    act.found["same command again"] = act.live()
    act.found["row afterwards"] = act.row()
    act.found["transfers at Stripe"] = act.transfers()


def _stale_approval(act: Act) -> None:
    act.approve(lifetime_s=act.ground.short_approval_s)
    act.found["dry run"] = act.dry_run()
    act.wait_until_stale()
    act.refuse()


def _wrong_account(act: Act) -> None:
    act.approve()
    act.found["dry run"] = act.dry_run()
    # Connected, and somebody else's: Stripe would take it.
    act.refuse(account=act.ground.case(SceneName.INCIDENT).destination_account)


def _not_connected(act: Act) -> None:
    act.approve()
    act.found["dry run"] = act.dry_run()
    act.found["live run"] = act.live()
    act.found["row"] = act.row()
    act.found["transfers at Stripe"] = act.transfers()
    # Kept from the automation until the cause is mended.
    act.found["ledger"] = act.ledger()


def _insufficient_balance(act: Act) -> None:
    act.approve()
    act.found["dry run"] = act.dry_run()
    act.refuse()


def _failing_later(act: Act) -> None:
    act.approve()
    act.found["dry run"] = act.dry_run()
    act.found["live run"] = act.live((*_SEND, Stage.LOG, Stage.NOTIFY))
    record = act.record()
    assert record is not None, "the live run left no row"
    assert record.stripe_transfer_id is not None, f"the row is {record.state} and names no transfer"
    if act.ground.unseen(SceneName.FAILING_LATER):
        # Nothing is made to fail that nobody could notice; it is no answer to say what was not looked at.
        act.unseen = act.ground.unseen(SceneName.FAILING_LATER)
        act.found |= {"settlement": UNSEEN, "studio told": UNSEEN}
    else:
        act.ground.fail_bank_payout(act.typed, record.stripe_transfer_id)
        act.found["settlement"] = act.live((Stage.SETTLE,))
        told = [message.kind for message in act.ground.desk.store.messages_of(record.payout_id)]
        act.found["studio told"] = ", ".join(sorted(kind for kind in told if kind.startswith("studio_")))
    act.found["same command again"] = act.live()
    act.found["transfers at Stripe"] = act.transfers()


@dataclass(frozen=True, slots=True)
class Scene:
    """
    A fault, and what is expected of the software when it happens.

    Attributes:
        expected: By the names under which `play` puts what it finds.

        teaches: For the report: the one sentence that the scene shows.
    """

    name: SceneName
    title: str
    teaches: str
    expected: Mapping[str, str]
    play: Callable[[Act], None]


_SENT_ONCE = {"same command again": "exit 0", "transfers at Stripe": "1"}
_REFUSED = {
    "live run": "exit 3 at 1-verify",
    "2-execute run alone": "exit 3 at 2-execute",
    "transfers at Stripe": "0",
    "ledger": "failed",
}

DRILL = (
    Scene(
        SceneName.ANSWER_LOST, "the answer is lost after the send", "An unknown outcome is reconciled, never sent again.",
        {"dry run": "exit 0", "live run": "exit 4 at 2-execute", "row": "unknown", "reconcile": "paid", **_SENT_ONCE},
        _answer_lost,
    ),
    Scene(
        SceneName.KILLED_KERNEL, "the kernel is killed while it sends", "The same command continues; money moves once.",
        {"dry run": "exit 0", "live run": "exit 4 at 2-execute", "kernel killed while sending": "yes", "notebook": "unknown",
         "row": "submitting", "row afterwards": "paid", **_SENT_ONCE},
        _killed_kernel,
    ),
    Scene(
        SceneName.STALE_APPROVAL, "the approvals are stale", "An approval has an end, inside the send too.",
        {"dry run": "exit 0", **_REFUSED}, _stale_approval,
    ),
    Scene(
        SceneName.WRONG_ACCOUNT, "another studio's account is typed", "What was approved is what is sent, or nothing is.",
        {"dry run": "exit 0", **_REFUSED, "live run": "exit 2 at 1-verify", "2-execute run alone": "exit 2 at 2-execute"},
        _wrong_account,
    ),
    Scene(
        SceneName.NOT_CONNECTED, "the account is not connected", "A refusal by Stripe is final for its key, and moves nothing.",
        {"dry run": "exit 0", "live run": "exit 3 at 2-execute", "row": "refused", "transfers at Stripe": "0",
         "ledger": "claimed"},
        _not_connected,
    ),
    Scene(
        SceneName.INSUFFICIENT_BALANCE, "the platform's balance is too low", "It is noticed before anything is claimed.",
        {"dry run": "exit 3 at 1-verify", **_REFUSED}, _insufficient_balance,
    ),
    Scene(
        SceneName.FAILING_LATER, "the payout to the bank fails later", "The studio is told again, and nothing is sent again.",
        {"dry run": "exit 0", "live run": "exit 0", "settlement": "exit 7 at 5-settle",
         "studio told": "studio_email, studio_failed", **_SENT_ONCE, "same command again": "exit 7 at 2-execute"},
        _failing_later,
    ),
)  # fmt: skip


def play(scene: Scene, ground: Ground, kernels: ForkServer) -> Played:
    """
    Play one scene to its end or to where it breaks; nothing it comes to is an exception, so that the others follow.
    """
    typed = ground.case(scene.name)
    act, trouble = Act(ground, kernels, typed), ""
    try:
        scene.play(act)
    except ManualPayoutError as error:
        trouble = error.message
    except Exception as error:  # noqa: BLE001  # whatever broke is what this scene has found; the next one is played all the same
        trouble = f"{type(error).__name__}: {error}"
    findings = (Finding(what, wanted, act.found.get(what, NOT_REACHED)) for what, wanted in scene.expected.items())
    return Played(
        scene.name, scene.title, tuple(findings), trouble or act.unseen, f"{typed.incident_id}/{typed.ledger_payout_id}"
    )
