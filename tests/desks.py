"""Scenes for the tests of the money core: the demo incident on the real local Stripe and a real database."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

import local_stripe
import payout_rehearsal
import proofs
from manual_payout import transfer
from manual_payout.approval.approvals import approve
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.requesting import file_request
from manual_payout.database import engines
from manual_payout.database.schema import APPEND_ONLY
from manual_payout.desk.signing import sandbox_key
from manual_payout.desk.wiring import open_desk
from manual_payout.domain.models import Mode, stream_of
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.settings import demo_settings
from proofs import leave_dry_run

STREAM = stream_of(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
LAST4 = incident.DESTINATION_ACCOUNT[-4:]


class Scene:
    """
    The demo incident: two people have approved, the operator has made a dry run; nothing was sent.

    Attributes:
        stripe: The sandbox.

        settings: Of every desk at this scene.

        desk: The operator's; `new_desk` opens another, as another machine would.
    """

    def __init__(self, root: Path, url: str, stripe: local_stripe.Sandbox) -> None:
        self.stripe = stripe
        self.url = url
        # Named, as outside of the sandbox it must be: some desks are of another mode.
        ledger = {"ledger_database_url": SecretStr(url)}
        self.settings = demo_settings(root, stripe.base_url, url).model_copy(update=ledger)
        self._desks = []
        self.desk = self.new_desk()
        self.operator = self.desk.registry.find(incident.OPERATOR)
        # Statements of the tests name no schema.
        self.engine = engines.connect(url, name="DATABASE_URL").execution_options(own_schema=True)
        self.request = None

    def new_desk(self, *, request=None, ledger=None, **policy):
        """Open another desk; *policy* replaces entries of the policy's section ``stripe``, the others of theirs."""
        settings = self.settings_with(stripe=policy, request=request or {}, ledger=ledger or {})
        files = {"approvers_file": self.settings.approvers_path()}
        if settings.mode is not Mode.SANDBOX:
            files["allowed_signers_file"] = self._nobodys_keys()
        desk = open_desk(settings.model_copy(update=files))
        self._desks.append(desk)
        return desk

    def _nobodys_keys(self):
        """The demo's keys are refused outside the sandbox."""
        folder = self.settings.outputs_dir.parent / "nobody"
        folder.mkdir(exist_ok=True)
        for name in ("allowed_signers", "revoked_keys"):
            (folder / name).touch()
        return folder / "allowed_signers"

    def close(self):
        """Close every connection to the database."""
        self.engine.dispose()
        for desk in self._desks:
            desk.store._engine.dispose()
            desk.ledger._engine.dispose()

    def settings_with(self, **sections):
        policy = self.settings.policy
        changed = {name: getattr(policy, name).model_copy(update=values) for name, values in sections.items()}
        return self.settings.model_copy(update={"policy": policy.model_copy(update=changed)})

    def file(self, *, replace=False, requester=incident.REQUESTER, **changes):
        """File a request with the demo's values, some of them changed."""
        person = self.desk.registry.find(requester)
        key = self.request_key(requester)
        return file_request(self.desk, self.typed(**changes), person, replace=replace, key=key)[0]

    def request_key(self, _handle):
        """The key with which a request is signed; in the sandbox it may be unsigned."""
        return

    def approve(self, approver, request=None, *, lifetime_s=None, key=None):
        """Have somebody approve, having typed what the request says, with their sandbox key."""
        request = request or self.request
        rules = self.settings.policy.request
        if lifetime_s is not None:
            rules = rules.model_copy(update={"approval_lifetime_s": lifetime_s})
        return approve(
            self.desk.store, self.desk.registry, request, approver=approver, amount=request.line_for().amount.text,
            destination_last4=request.line_for().destination_account[-4:],
            shown=shown_to_approver(self.desk, request), rules=rules, key=key or sandbox_key(approver),
        )  # fmt: skip

    def dry_run(self, request=None, operator=None):
        """Leave the trace of a dry run, as notebook and seal do."""
        request, operator = request or self.request, operator or self.operator
        leave_dry_run(self.desk, request, operator.handle, key=self.seal_key(operator.handle))

    def seal_key(self, handle):
        """The key with which an operator seals; who may not operate has none, and takes another's."""
        person = self.desk.registry.find(handle)
        return sandbox_key(handle if person is not None and "operate" in person.may else incident.OPERATOR)

    def prepare(self):
        """Request, two approvals, dry run."""
        self.request = self.file()
        for approver in payout_rehearsal.APPROVERS:
            self.approve(approver)
        self.dry_run()
        return self

    def typed(self, **changes):
        """The demo's parameters, some of them changed."""
        return replace(payout_rehearsal.demo_parameters(), **changes)

    def live(self, operator=None, request=None, **changes):
        """The parameters of the live run."""
        request, operator = request or self.request, operator or self.operator
        code = proofs.code(self.desk, request, operator.handle)
        given = {"incident_id": request.incident_id, "dry_run": False, "confirm": code, "operator": operator.handle}
        return self.typed(**(given | changes))

    def send(self, desk=None, operator=None, **changes):
        """Send as the operator does."""
        operator = operator or self.operator
        return transfer.send(desk or self.desk, self.live(operator, **changes), operator)

    def reconcile(self, desk=None, operator=None):
        """Reconcile the record on file."""
        return transfer.reconcile(desk or self.desk, self.record, operator or self.operator)

    def decide(self, because="the Dashboard shows no transfer"):
        """Record a person's decision."""
        return transfer.decide_not_moved(self.desk, self.record, self.operator, because)

    @property
    def record(self):
        """The payout record on file, or None."""
        return self.desk.store.find_payout(self.request.line_for().line_id)

    @property
    def due(self):
        """The ledger's payout."""
        return self.desk.ledger.find_payout_due(incident.LEDGER_PAYOUT_ID)

    @property
    def posts(self):
        """Every POST that reached Stripe."""
        return [request for request in self.stripe.requests if request.method == "POST"]

    @property
    def transfers(self):
        """The transfers in Stripe's own books."""
        return self.stripe.books.transfers

    def events(self, kind):
        """The events of one kind, in order."""
        return [event for event in self.desk.store.events_of(STREAM) if event.kind == kind]

    def attempts(self):
        """(key, outcome) of every attempt on record."""
        return self.rows("SELECT idempotency_key, outcome FROM attempts ORDER BY attempt_no")

    def rows(self, query):
        """Read from another connection."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def tamper(self, statement, **values):
        """Do what a database administrator could: take the triggers away and write."""
        with self.engine.connect().execution_options(write=True) as connection, connection.begin():
            for table in APPEND_ONLY:
                if connection.dialect.name == "sqlite":
                    for verb in ("update", "delete"):
                        connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {table}_no_{verb}"))
                else:
                    connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}"))
            connection.execute(sa.text(statement), values)

    def pass_time(self, **span):
        """Let time pass on the clock that judges."""
        self.stripe.advance(timedelta(**span).total_seconds())


@pytest.fixture(scope="session", name="demo_file")
def _demo_file(tmp_path_factory):
    """A SQLite file with our tables and the demo's ledger, to be copied."""
    root = tmp_path_factory.mktemp("demo")
    payout_rehearsal.set_up_database(root)
    return root / "demo.sqlite"


@pytest.fixture(scope="session", name="demo_template")
def _demo_template(new_database, tmp_path_factory):
    """The name of a PostgreSQL database with the same, to be copied."""
    with new_database() as url:
        payout_rehearsal.set_up_database(tmp_path_factory.mktemp("demo-pg"), url)
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session", name="shared_stripe")
def _shared_stripe():
    """One sandbox for all scenes of this process; each scene begins with its reset."""
    accounts, available = payout_rehearsal.sandbox_books()
    with local_stripe.running(start=incident.NOW, accounts=accounts, available=available) as stripe:
        yield stripe


def _scene(root, url, stripe):
    stripe.reset()
    scene = Scene(root, url, stripe)
    yield scene.prepare()
    scene.close()


@pytest.fixture(name="scene")
def _sqlite_scene(tmp_path, demo_file, shared_stripe):
    """The scene on SQLite."""
    shutil.copy(demo_file, tmp_path / "state.sqlite")
    yield from _scene(tmp_path, f"sqlite:///{tmp_path / 'state.sqlite'}", shared_stripe)


@pytest.fixture(params=["sqlite", "postgresql"], name="any_demo_url")
def _any_demo_url(request, tmp_path):
    """A database of the demo's, once of each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("demo_file"), tmp_path / "state.sqlite")
        yield f"sqlite:///{tmp_path / 'state.sqlite'}"
        return
    with request.getfixturevalue("new_database")(request.getfixturevalue("demo_template")) as url:
        yield url


@pytest.fixture(name="any_scene")
def _any_scene(any_demo_url, tmp_path, shared_stripe):
    """The scene, once on each kind of database."""
    yield from _scene(tmp_path, any_demo_url, shared_stripe)
