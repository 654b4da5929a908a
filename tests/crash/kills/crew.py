"""
The processes that send: each forked for one attempt, each reporting over a pipe, each mortal at any moment.

A process dies (SIGKILL) or freezes (SIGSTOP) at a random moment that its parent chooses, or by its own hand at a named
boundary, which no timing could hit as surely. What is hooked is hooked in the forked process only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
import urllib3.connection
from tests import proofs

from manual_payout import transfer
from manual_payout.approval import books
from manual_payout.database import engines
from manual_payout.database.store import Store
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ClaimError, ManualPayoutError, MovedBeforeError, UsageError
from manual_payout.domain.parameters import Parameters
from manual_payout.gateway import Accepted, Gateway, Refused
from manual_payout.ledger import Ledger
from payout_rehearsal.demo import automation

from .world import die_with_parent

# Calls of the library between whose lines a process may die: before the call, or after it.
BOUNDARIES = {
    "claim": (Ledger, "claim"),
    "intent": (Store, "record_intent"),
    "takeover": (Store, "take_over"),
    "look": (Gateway, "transfers_in_group"),
    "fence": (Store, "mark_sent"),
    "post": (Gateway, "create_transfer"),
    "outcome": (Store, "record_outcome"),
}
# And two inside of calls: the request has left and its answer has not been read; a transaction is about to be committed.
INSIDE = ("bytes", "commit")

# No process of a sound library runs this long; one that does is a violation by itself.
DEADLINE_S = 120.0

# What the exit code says of the money.
ENDS = {2: "refused", 3: "refused", 4: "unknown", 5: "database", 6: "unfinished", 7: "astray"}


@dataclass(frozen=True)
class Strike:
    """A signal that a process sends to itself when it reaches a boundary for the *nth* time."""

    boundary: str
    when: str
    nth: int = 1
    signum: int = signal.SIGKILL

    def __str__(self) -> str:
        return f"{signal.Signals(self.signum).name} {self.when} {self.boundary} {self.nth}"


@dataclass(frozen=True)
class Order:
    """
    What one process is to do, and what is to befall it.

    Attributes:
        action: ``send``, ``reconcile``, ``decide``, or ``automation``.

        desk: What the process works with; it makes connections of its own.

        start_s: Real seconds to wait first.

        kill_s: Real seconds after its start at which it is killed from outside.

        defect: Name of a planted defect of `DEFECTS`, to show that the harness finds one.
    """

    action: str
    desk: Desk
    typed: Parameters
    operator: str = ""
    start_s: float = 0.0
    kill_s: float | None = None
    strike: Strike | None = None
    defect: str = ""

    def __str__(self) -> str:
        fate = f", {self.strike}" if self.strike else f", SIGKILL after {self.kill_s:.3f} s" if self.kill_s else ""
        return f"{self.action} by {self.operator or 'the automation'}{fate}"


@dataclass
class Run:
    """
    One process and what is known of it.

    Attributes:
        end: Its own last report; None where it was killed before.

        answers: What Stripe's answers to its own attempts to pay were taken for, in order.

        made_before: The transfers that were in Stripe's books when it began.
    """

    order: Order
    pid: int
    pipe: int
    started_s: float
    end: dict[str, Any] | None = None
    answers: list[str] = field(default_factory=list)
    killed: bool = False
    frozen: bool = False
    ended: bool = False
    late: bool = False
    rest: bytes = b""
    made_before: frozenset[str] = frozenset()

    @property
    def how(self) -> str:
        """In one word how it ended."""
        if self.end is not None:
            return self.end["end"]
        return "killed" if self.killed else "frozen" if self.frozen else "vanished"

    def __str__(self) -> str:
        told = f": {self.end['message']}" if self.end and self.end.get("message") else ""
        return f"{self.order} → {self.how} {self.answers or ''}{told}"


def start(orders: Sequence[Order]) -> list[Run]:
    """Fork one process for each order."""
    return [_fork(order) for order in orders]


def watch(runs: Sequence[Run]) -> None:
    """Wait until every process has ended or is frozen, killing those whose time has come."""
    while waiting := [run for run in runs if not run.ended and not run.frozen]:
        due = [run.started_s + _limit_s(run) - time.monotonic() for run in waiting]
        # A frozen process closes no pipe, so there is a look at each now and then.
        readable, _, _ = select.select([run.pipe for run in waiting], [], [], max(0.0, min(*due, 0.01)))
        for run in waiting:
            # A closed pipe is the end of the process; so is the signal that nothing survives.
            ending = run.pipe in readable and not _read(run)
            if time.monotonic() >= run.started_s + _limit_s(run):
                run.late = run.order.kill_s is None
                run.killed = ending = True
                os.kill(run.pid, signal.SIGKILL)
            _look(run, wait=ending)


def thaw(run: Run) -> None:
    """Let a frozen process go on, until its end."""
    run.frozen, run.started_s = False, time.monotonic()
    os.kill(run.pid, signal.SIGCONT)
    watch([run])


def end_all(runs: Sequence[Run]) -> None:
    """Leave nothing running."""
    for run in runs:
        if not run.ended:
            os.kill(run.pid, signal.SIGKILL)
            run.frozen = False
            watch([run])


def _limit_s(run: Run) -> float:
    return DEADLINE_S if run.order.kill_s is None else run.order.kill_s


def _look(run: Run, *, wait: bool) -> None:
    pid, status = os.waitpid(run.pid, os.WUNTRACED | (0 if wait else os.WNOHANG))
    if not pid:
        return
    if os.WIFSTOPPED(status):
        run.frozen = True
        return
    while _read(run):
        pass
    run.ended = True
    run.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and run.end is None
    os.close(run.pipe)


def _read(run: Run) -> bool:
    data = os.read(run.pipe, 65_536)
    *lines, run.rest = (run.rest + data).split(b"\n")
    for line in lines:
        told = json.loads(line)
        if "end" in told:
            run.end = told
        else:
            run.answers.append(told["answer"])
    return bool(data)


def _fork(order: Order) -> Run:
    pipe, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        return Run(order, pid, pipe, time.monotonic())
    # From here on this is another process: it must never return into the code of its parent.
    try:
        os.close(pipe)
        die_with_parent()
        time.sleep(order.start_s)
        _tell(told, _work(order, lambda report: _tell(told, report)))
    finally:
        os._exit(0)


def _tell(pipe: int, report: dict[str, Any]) -> None:
    os.write(pipe, json.dumps(report).encode() + b"\n")


def _work(order: Order, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    try:
        if order.action == "automation":
            return _automation(order)
        _hook(order, tell)
        return _operate(order)
    except ManualPayoutError as error:
        return {
            "end": "refused" if isinstance(error, MovedBeforeError) else ENDS[error.exit_code], "code": error.exit_code, "error": type(error).__name__,
            "message": error.message, "remedy": error.remedy, "usage": isinstance(error, UsageError),
        }  # fmt: skip
    except BaseException:  # noqa: BLE001  # whatever it is, it is reported: the library promises documented ends only
        return {"end": "bug", "message": traceback.format_exc()[-1500:]}


def _automation(order: Order) -> dict[str, Any]:
    engine = engines.connect(order.desk.settings.database_text(), name="LEDGER_DATABASE_URL")
    with engines.database_errors(engine):
        paid = automation.attempt(engine, order.typed.ledger_payout_id, order.desk.now())
    return {"end": "paid" if paid else "skipped", "message": ""}


def _operate(order: Order) -> dict[str, Any]:
    desk = order.desk
    operator = desk.registry.find(order.operator)
    if order.action == "send":
        record = transfer.send(desk, live(desk, order.typed, order.operator), operator)
        return _ended(record)
    record = newest(desk, order.typed.ledger_payout_id)
    if order.action == "decide":
        return _ended(transfer.decide_not_moved(desk, record, operator, "the Dashboard shows none").record)
    return _ended(transfer.reconcile(desk, record, operator).record)


def live(desk: Desk, typed: Parameters, handle: str) -> Parameters:
    """The parameters of the live run, with the code that this operator's dry run printed."""
    request = desk.store.find_request(typed.incident_id, typed.ledger_payout_id)
    code = proofs.code(desk, request, handle) if request else ""
    return replace(typed, operator=handle, dry_run=False, confirm=code)


def newest(desk: Desk, ledger_payout_id: str) -> Any:
    """The live row of the ledger payout, else the newest, or None."""
    live_row = desk.store.find_live_payout(ledger_payout_id, desk.settings.mode)
    rows = desk.store.payouts_of(ledger_payout_id=ledger_payout_id)
    return live_row or (rows[0] if rows else None)


def _ended(record: Any) -> dict[str, Any]:
    # What a row is recorded as is not what the run was told: only an error says "refused".
    end = "paid" if record.stripe_transfer_id else f"recorded {record.state}"
    return {"end": end, "code": 0, "transfer": record.stripe_transfer_id, "state": str(record.state), "message": ""}


def _hook(order: Order, tell: Callable[[dict[str, Any]], None]) -> None:
    for plant in DEFECTS[order.defect] if order.defect else ():
        plant()
    met = {"count": 0}

    def reach(boundary: str, when: str) -> None:
        strike = order.strike
        if strike is not None and (strike.boundary, strike.when) == (boundary, when):
            met["count"] += 1
            if met["count"] == strike.nth:
                os.kill(os.getpid(), strike.signum)

    for boundary, (owner, name) in BOUNDARIES.items():
        _wrap(owner, name, lambda when, boundary=boundary: reach(boundary, when))
    posting = {"now": False}
    _tell_answers(posting, tell)
    _reach_inside_a_post(posting, reach)
    sa.event.listen(sa.Engine, "commit", lambda _connection: reach("commit", "before"))


def _wrap(owner: type, name: str, reach: Callable[[str], None]) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        reach("before")
        result = original(self, *args, **kwargs)
        reach("after")
        return result

    setattr(owner, name, wrapped)


def _tell_answers(posting: dict[str, bool], tell: Callable[[dict[str, Any]], None]) -> None:
    original = Gateway.create_transfer

    def told(self: Gateway, *args: Any, **kwargs: Any) -> Any:
        posting["now"] = True
        answer = original(self, *args, **kwargs)
        posting["now"] = False
        tell({"answer": f"{type(answer).__name__} {getattr(answer, 'code', '')}".strip()})
        return answer

    Gateway.create_transfer = told


def _reach_inside_a_post(posting: dict[str, bool], reach: Callable[[str, str], None]) -> None:
    original = urllib3.connection.HTTPConnection.getresponse

    def getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
        if posting["now"]:
            reach("bytes", "before")
        return original(self, *args, **kwargs)

    urllib3.connection.HTTPConnection.getresponse = getresponse


def _random_key() -> None:
    original = Gateway.create_transfer

    def create_transfer(self: Gateway, payload: Any, *, idempotency_key: str) -> Any:
        return original(self, payload, idempotency_key=f"{idempotency_key}-{uuid.uuid4()}")

    Gateway.create_transfer = create_transfer


def _no_lookup() -> None:
    Gateway.transfers_in_group = lambda _self, _group: []


def _every_error_is_terminal() -> None:
    original = Gateway.create_transfer

    def create_transfer(self: Gateway, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        return answer if isinstance(answer, Accepted) else Refused("error", answer.message, "", same_key=False)

    Gateway.create_transfer = create_transfer


def _no_fence() -> None:
    original = Store.mark_sent

    def mark_sent(self: Store, record: Any, **options: Any) -> Any:
        try:
            return original(self, record, **options)
        except ClaimError:
            return replace(record, sent=True)

    Store.mark_sent = mark_sent


def _no_claim() -> None:
    Ledger.claim = lambda *_args, **_options: None


def _refused_after_the_money() -> None:
    books.as_it_is = lambda error, _account, **_: error


# What the harness must find: the designs that lost money or paid twice when they were measured.
DEFECTS: dict[str, tuple[Callable[[], None], ...]] = {
    "random_key": (_random_key, _no_lookup),
    "no_lookup": (_no_lookup,),
    "every_error_is_terminal": (_every_error_is_terminal,),
    "no_fence": (_no_fence,),
    "no_claim": (_no_claim,),
    "refused_after_the_money": (_refused_after_the_money,),
}
