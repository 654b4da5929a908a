"""Where the scenarios happen: a sandbox in a process of its own, and a database with failed payouts, ready to be sent."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from manual_payout.database import engines
from manual_payout.database.store import Store
from manual_payout.desk.settings import Settings
from manual_payout.desk.wiring import Desk, open_desk
from manual_payout.domain.errors import DatabaseError
from manual_payout.domain.models import Reason
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import Parameters
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import balances_table, payouts_table, tables
from payout_rehearsal.demo.settings import demo_settings

from .clock import SharedClock
from .filing import make_ready

# How many failed payouts the ledger has; each scenario is about one of them, the others are there.
PAYOUTS = 40

# The studios of the ledger share one connected account: what it holds is not what is asked here.
ACCOUNT = "acct_1Kills"
AVAILABLE_MINOR = 500_000_000_000

# The lifetimes of a request and of an approval: the policy's own, or a month for stories that last for days.
HOUR_S = 3600
MONTH_S = 30 * 24 * HOUR_S
Lifetimes = tuple[int, int] | None
LIFETIMES_S: tuple[Lifetimes, ...] = (None, (MONTH_S, MONTH_S))

# For how long a database that was shot may take to come back.
PATIENCE_S = 60.0

_NIGHT = datetime.fromisoformat(incident.NOW)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone, so that nothing is left running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# A container may have a small one; a few databases need this many bytes.
MEMORY_MIN = 1_000_000_000


def memory_folder() -> str | None:
    """Where files are kept in memory, if this machine has such a place: no process that is killed there loses more."""
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MEMORY_MIN else None


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


def studios(count: int = PAYOUTS, seed: int = 7) -> list[Studio]:
    """The failed payouts of the ledger; the same for an equal seed."""
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
        command = [sys.executable, "-m", "local_stripe", "--start", incident.NOW, "--seed-file", str(seed)]
        # The process is ended by `close`, or with this one.
        # A request cut off in its middle, which is what killing a client does, is logged with a traceback.
        with (root / "sandbox.log").open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=die_with_parent  # noqa: PLW1509  # no threads of ours
            )  # fmt: skip
        self.base_url = self._process.stdout.readline().strip()
        self._connection = http.client.HTTPConnection(self.base_url.removeprefix("http://"), timeout=30)

    def books(self) -> dict[str, Any]:
        """Everything that the sandbox holds: the oracle of every claim about money."""
        return self._ask("GET", "books")

    def transfers(self, ledger_payout_id: str) -> list[dict[str, Any]]:
        """The transfers that were made for one ledger payout, whoever made them."""
        made = self.books()["transfers"]
        return [one for one in made if one["metadata"].get("ledger_payout_id") == ledger_payout_id]

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
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        self._connection.request(method, f"/_sandbox/{path}", data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        told: dict[str, Any] = json.load(answer)
        assert answer.status == 200, told
        return told


class SqliteFiles:
    """One SQLite file, made afresh from a template for each scenario."""

    kind = "sqlite"

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = f"sqlite:///{root / 'state.sqlite'}"

    def template(self, name: str) -> str:
        """Return the URL of a template that is yet to be filled."""
        return f"sqlite:///{self._root / name}.sqlite"

    def restore(self, name: str) -> None:
        """Make the database what the template is."""
        path = self._root / "state.sqlite"
        # What a killed process has left of its transaction must not be taken for one of the new file's.
        for old in (path, path.with_name(f"{path.name}-journal")):
            old.unlink(missing_ok=True)
        shutil.copyfile(self._root / f"{name}.sqlite", path)

    def close(self) -> None:
        """Nothing is open."""


class PostgresDatabases:
    """One database on a PostgreSQL server, made afresh from a template for each scenario."""

    kind = "postgresql"

    def __init__(self, server: str) -> None:
        self._server, self._prefix = server, f"kills_{os.getpid()}_{time.monotonic_ns() % 10**9}"
        self._templates: list[str] = []
        self.url = self._url("state")

    def template(self, name: str) -> str:
        """Return the URL of a template that is yet to be filled."""
        self._templates.append(name)
        self._create(name, "template1")
        return self._url(name)

    def restore(self, name: str) -> None:
        """Make the database what the template is."""
        self._create("state", f"{self._prefix}_{name}")

    def close(self) -> None:
        """Drop what is left."""
        for name in ("state", *self._templates):
            self._run(f"DROP DATABASE IF EXISTS {self._prefix}_{name} WITH (FORCE)")

    def _create(self, name: str, template: str) -> None:
        mine = f"{self._prefix}_{name}"
        self._run(f"DROP DATABASE IF EXISTS {mine} WITH (FORCE)", f"CREATE DATABASE {mine} TEMPLATE {template}")

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
        return self._server.replace("/postgres?", f"/{self._prefix}_{name}?")


class World:
    """
    One sandbox and one database, both begun anew for every scenario.

    Every process works with the desk that is opened here, through connections of its own: what is forked from a warm
    process is ready to send after a few milliseconds.

    Attributes:
        send_s: How long a send takes here from fork to end, once that has been measured.
    """

    def __init__(self, root: Path, databases: SqliteFiles | PostgresDatabases) -> None:
        self._databases = databases
        self.kind = databases.kind
        self.sandbox = Sandbox(root, [{"id": ACCOUNT}], {"usd": AVAILABLE_MINOR})
        self.clock = SharedClock(self.sandbox.base_url)
        self.send_s: float | None = None
        self._settings = demo_settings(root, self.sandbox.base_url, databases.url)
        self._studios = itertools.cycle(studios())
        for lives in LIFETIMES_S:
            self._make_template(root, lives)
        databases.restore(_name(None))
        self._desk = self._open(self._settings)
        close_desk(self._desk)

    def begin(self, lifetimes_s: Lifetimes = None) -> tuple[Studio, Desk]:
        """
        Begin anew: what has happened so far is forgotten, by Stripe and by the database.

        Args:
            lifetimes_s: Of requests and approvals, where they are not to be the usual ones; one of `LIFETIMES_S`.

        Returns:
            A failed payout whose request is filed, approved and read; and a desk without connections.
        """
        self.sandbox.reset()
        self.clock.sync()
        self._databases.restore(_name(lifetimes_s))
        # Another studio than the last one's, so that what may still be under way cannot be taken for this one's.
        return next(self._studios), replace(self._desk, settings=_with_lifetimes(self._settings, lifetimes_s))

    def close(self) -> None:
        """Leave nothing behind."""
        self.sandbox.close()
        self.clock.close()
        self._databases.close()

    def _make_template(self, root: Path, lifetimes_s: Lifetimes) -> None:
        url = self._databases.template(_name(lifetimes_s))
        fill(url)
        settings = _with_lifetimes(demo_settings(root, self.sandbox.base_url, url), lifetimes_s)
        with at(self._open(settings)) as desk:
            for studio in studios():
                refused = make_ready(desk, studio.parameters())
                assert not refused, refused

    def _open(self, settings: Settings) -> Desk:
        desk = open_desk(settings)
        return replace(desk, clock=self.clock, store=Store(desk.store._engine, self.clock))


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
    engine = engines.connect(url, name="DATABASE_URL")
    engines.upgrade_database(engine)
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


def _name(lifetimes_s: Lifetimes) -> str:
    return "usual" if lifetimes_s is None else "long"


def _with_lifetimes(settings: Settings, lifetimes_s: Lifetimes) -> Settings:
    if lifetimes_s is None:
        return settings
    request, approval = lifetimes_s
    rules = settings.policy.request.model_copy(
        update={"request_lifetime_s": request, "approval_lifetime_s": approval}
    )  # fmt: skip
    # Nobody computes balances anew in these stories, of which some sleep for a day and a half.
    ledger = settings.policy.ledger.model_copy(update={"balance_age_max_s": 30 * 86_400})
    policy = settings.policy.model_copy(update={"request": rules, "ledger": ledger})
    return settings.model_copy(update={"policy": policy})
