"""Where the scenarios happen: a sandbox in a process of its own, and fresh databases with failed payouts in them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from manual_payout import database, rehearsal
from manual_payout.demo import incident
from manual_payout.demo.ledger import balances_table, payouts_table, tables
from manual_payout.desk import Desk, open_desk
from manual_payout.errors import DatabaseError
from manual_payout.models import Reason
from manual_payout.money import Money
from manual_payout.parameters import Parameters

# One chapter is one fresh database and one fresh sandbox; the books stay small enough to be read after every scenario.
CHAPTER = 40

# The studios of the ledger share one connected account: what it holds is not what is asked here.
ACCOUNT = "acct_1Kills"
AVAILABLE_MINOR = 500_000_000_000

# For how long a database that was shot may take to come back.
PATIENCE_S = 60.0

_NIGHT = datetime.fromisoformat(incident.NOW)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone, so that nothing is left running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Studio:
    """One failed payout of the ledger, and the request that would be filed for it."""

    number: int
    studio_id: str
    ledger_payout_id: str
    amount_minor: int
    reserve_minor: int

    @property
    def incident_id(self) -> str:
        return f"INC-{self.number + 1}"

    def parameters(self, **changes: Any) -> Parameters:
        """What a person would type."""
        typed = Parameters(
            incident_id=self.incident_id,
            studio_id=self.studio_id,
            studio_name=f"Studio {self.number}",
            ledger_payout_id=self.ledger_payout_id,
            amount=Money(self.amount_minor, "usd").text,
            reserve_after=Money(self.reserve_minor, "usd").text,
            reason=Reason.SCHEDULER_OUTAGE,
            destination_account=ACCOUNT,
            notes="",
            operator=incident.OPERATOR,
            dry_run=True,
            confirm="",
        )
        return replace(typed, **changes)


def studios(count: int = CHAPTER, seed: int = 7) -> list[Studio]:
    """The failed payouts of one chapter; the same for an equal seed."""
    rng = random.Random(seed)
    return [
        Studio(
            number,
            str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            rng.randrange(100, 900_000),
            rng.randrange(30_000, 90_000),
        )
        for number in range(count)
    ]


class Sandbox:
    """The sandbox in its own process, seen over HTTP only."""

    def __init__(self, root: Path, accounts: list[dict[str, Any]], available: dict[str, int]) -> None:
        seed = root / "sandbox.json"
        seed.write_text(json.dumps({"accounts": accounts, "available": available}), "utf-8")
        command = [sys.executable, "-m", "manual_payout.sandbox", "--start", incident.NOW, "--seed-file", str(seed)]
        # The process is ended by `close`, or with this one.
        # A request cut off in its middle, which is what killing a client does, is logged with a traceback.
        with (root / "sandbox.log").open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=die_with_parent  # noqa: PLW1509  # no threads of ours
            )  # fmt: skip
        self.base_url = self._process.stdout.readline().strip()

    def books(self) -> dict[str, Any]:
        """Everything that the sandbox holds: the oracle of every claim about money."""
        return self._ask("GET", "books")

    def transfers(self, ledger_payout_id: str) -> list[dict[str, Any]]:
        """The transfers that were made for one ledger payout, whoever made them."""
        made = self.books()["transfers"]
        return [one for one in made if one["metadata"].get("ledger_payout_id") == ledger_payout_id]

    def now(self) -> datetime:
        """The instant on its clock."""
        return datetime.fromisoformat(self._ask("GET", "clock")["now"])

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ask("POST", "clock/advance", {"seconds": seconds})

    def fault(self, **fault: Any) -> None:
        """Plant a fault."""
        self._ask("POST", "faults", fault)

    def clear_faults(self) -> None:
        """Take back the faults that nothing met."""
        self._ask("DELETE", "faults")

    def reset(self) -> None:
        """Begin again."""
        self._ask("POST", "reset", {})

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.base_url}/_sandbox/{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class SqliteFiles:
    """Fresh SQLite databases, copied from one that is made once."""

    kind = "sqlite"

    def __init__(self, root: Path) -> None:
        self._root, self._count = root, 0
        self._template = root / "template.sqlite"
        fill(f"sqlite:///{self._template}")

    def new(self) -> str:
        """Make another, and forget the last one."""
        (self._root / f"state-{self._count}.sqlite").unlink(missing_ok=True)
        self._count += 1
        path = self._root / f"state-{self._count}.sqlite"
        shutil.copy(self._template, path)
        return f"sqlite:///{path}"

    def close(self) -> None:
        """Nothing is open."""


class PostgresDatabases:
    """Fresh databases on one PostgreSQL server, copied from one that is made once."""

    kind = "postgresql"

    def __init__(self, server: str) -> None:
        self._server, self._prefix, self._count = server, f"kills_{os.getpid()}_{time.monotonic_ns() % 10**9}", 0
        self._template = self._create(f"{self._prefix}_template")
        fill(self._url(self._template))

    def new(self) -> str:
        """Make another, and drop the last one."""
        if self._count:
            self._run(f"DROP DATABASE {self._prefix}_{self._count} WITH (FORCE)")
        self._count += 1
        return self._url(self._create(f"{self._prefix}_{self._count}", self._template))

    def close(self) -> None:
        """Drop what is left."""
        for name in (f"{self._prefix}_{self._count}", self._template):
            self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _create(self, name: str, template: str = "template1") -> str:
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _run(self, *statements: str) -> None:
        def run() -> None:
            try:
                with psycopg.connect(self._server, autocommit=True) as connection:
                    for statement in statements:
                        connection.execute(statement)
            except psycopg.OperationalError as error:
                raise DatabaseError(str(error), "") from None

        patiently(run)

    def _url(self, name: str) -> str:
        return self._server.replace("/postgres?", f"/{name}?")


class World:
    """
    One sandbox and one database at a time.

    Every process of a chapter works with the desk that is opened here, through connections of its own: what is forked
    from a warm process is ready to send after a few milliseconds.

    Attributes:
        send_s: How long a send takes here from fork to end, once that has been measured.
    """

    def __init__(self, root: Path, databases: SqliteFiles | PostgresDatabases) -> None:
        self.root, self._databases = root, databases
        self.kind = databases.kind
        self.sandbox = Sandbox(root, [{"id": ACCOUNT}], {"usd": AVAILABLE_MINOR})
        self._studios: list[Studio] = []
        self._desk: Desk | None = None
        self.send_s: float | None = None

    def next_studio(self) -> Studio:
        """Return a failed payout that nobody has touched, in a new chapter where the last one is used up."""
        if not self._studios:
            settings = rehearsal.demo_settings(self.root, self.sandbox.base_url, self._databases.new())
            self.sandbox.reset()
            self._studios = studios()
            self._desk = patiently(lambda: open_desk(settings))
            close_desk(self._desk)
        return self._studios.pop(0)

    def desk(self, *, lifetimes_s: tuple[int, int] | None = None) -> Desk:
        """
        Return a desk of this chapter, without connections.

        Args:
            lifetimes_s: Of requests and approvals, where they are not to be the usual ones.
        """
        settings = self._desk.settings
        if lifetimes_s is None:
            return replace(self._desk)
        request, approval = lifetimes_s
        rules = settings.policy.request.model_copy(
            update={"request_lifetime_s": request, "approval_lifetime_s": approval}
        )
        policy = settings.policy.model_copy(update={"request": rules})
        return replace(self._desk, settings=settings.model_copy(update={"policy": policy}))

    def close(self) -> None:
        """Leave nothing behind."""
        self.sandbox.close()
        self._databases.close()


@contextlib.contextmanager
def at(desk: Desk) -> Iterator[Desk]:
    """Work at a desk, and close its connections afterwards: whoever is forked later must not share them."""
    try:
        yield desk
    finally:
        close_desk(desk)


def close_desk(desk: Desk) -> None:
    """Close every connection to the databases."""
    desk.store._engine.dispose()
    desk.ledger._engine.dispose()


def patiently(act: Callable[[], Any]) -> Any:
    """Do it again until the database answers; it may have been shot a moment ago."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return act()
        except DatabaseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def fill(url: str) -> None:
    """Make our tables, and a ledger of failed payouts."""
    engine = database.connect(url, name="DATABASE_URL")
    database.upgrade(engine)
    with engine.execution_options(write=True).begin() as connection:
        tables.create_all(connection)
        connection.execute(sa.insert(payouts_table), [_payout(one) for one in studios()])
        connection.execute(sa.insert(balances_table), [_balance(one) for one in studios()])
    engine.dispose()


def _payout(studio: Studio) -> dict[str, Any]:
    typed = studio.parameters()
    return {
        "ledger_payout_id": studio.ledger_payout_id,
        "studio_id": studio.studio_id,
        "studio_name": typed.studio_name,
        "amount_minor": studio.amount_minor,
        "currency": "usd",
        "destination_account": ACCOUNT,
        "period_start": date(2026, 2, 16),
        "period_end": date(2026, 3, 1),
        "due_at": _NIGHT,
        "status": "failed",
        "failure_reason": Reason.SCHEDULER_OUTAGE.value,
        "failed_at": _NIGHT,
    }


def _balance(studio: Studio) -> dict[str, Any]:
    return {
        "studio_id": studio.studio_id,
        "currency": "usd",
        "balance_minor": studio.amount_minor + studio.reserve_minor,
        "reserve_minimum_minor": studio.reserve_minor,
        "as_of": _NIGHT,
    }
