"""The demo: the same for everybody, believable, and the SOP's example inside."""

from __future__ import annotations

import time
import tomllib
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from manual_payout.database import engines
from manual_payout.desk.people import load_registry
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.domain.errors import DatabaseError
from manual_payout.domain.money import Money, check_payable, parse
from manual_payout.ledger import Ledger
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.automation import attempt, pay_next_failed
from payout_rehearsal.demo.ledger import (
    FAILURE_REASONS,
    create_demo_ledger,
    demo_ledger,
    platform_available,
    sandbox_accounts,
)

NIGHT = datetime.fromisoformat(incident.NOW)
REGISTRY = SANDBOX_APPROVERS.parent / "approvers.toml"


@pytest.fixture(scope="module", name="whole")
def _whole():
    return demo_ledger()


@pytest.fixture(name="ledger_engine")
def _ledger_engine(database_url):
    engine = engines.connect(database_url, name="LEDGER_DATABASE_URL")
    yield engine
    engine.dispose()


def last_run(ledger):
    return [payout for payout in ledger.payouts if payout.period_end == date(2026, 3, 1)]


def test_same_seed_makes_the_same_ledger_and_another_another(whole):
    """Two people who rehearse see the same rows."""
    assert whole == demo_ledger(2026)
    assert whole.payouts != demo_ledger(7).payouts


@pytest.mark.parametrize("seed", [1, 7, 2026])
def test_example_of_the_sop_is_in_every_demo(seed):
    """1,250.75 failed with scheduler_outage; 1,560.75 on balance leaves 310.00 above the minimum of 300.00."""
    ledger = demo_ledger(seed)
    (due,) = [one for one in ledger.payouts if one.ledger_payout_id == incident.LEDGER_PAYOUT_ID]
    (balance,) = [one for one in ledger.balances if one.studio_id == incident.STUDIO_ID]

    assert (incident.STUDIO_ID, incident.STUDIO_NAME) == (due.studio_id, due.studio_name)
    assert ("acct_123", incident.REASON, "failed") == (due.destination_account, due.failure_reason, due.standing)
    assert parse(incident.AMOUNT, "usd") == due.amount
    assert (Money(156_075, "usd"), Money(30_000, "usd")) == (balance.balance, balance.reserve_minimum)
    assert incident.RESERVE_AFTER == balance.reserve_after(due.amount).text


@pytest.mark.parametrize("seed", range(5))
def test_ledger_is_of_one_piece(seed):
    """Ids are unique, every amount can be paid out, and nothing happened after the demo's night."""
    ledger = demo_ledger(seed)

    assert (200, 5200, 200) == (len(ledger.studios), len(ledger.payouts), len(ledger.balances))
    assert 5200 == len({one.ledger_payout_id for one in ledger.payouts})
    assert 200 == len({one.account for one in ledger.studios}) == len({one.name for one in ledger.studios})
    assert all(check_payable(one.amount) for one in ledger.payouts)
    assert all(one.due_at < NIGHT and (one.paid_at is None or one.paid_at < NIGHT) for one in ledger.payouts)
    assert {"usd", "eur", "gbp", "cad", "jpy", "kwd"} == {one.currency for one in ledger.studios}
    assert all(one.email is None or one.email.endswith(".example") for one in ledger.studios)


def test_last_run_has_something_to_rehearse_of_every_kind(whole):
    """Paid, scheduled and claimed payouts, and a failed one for every reason."""
    last = last_run(whole)
    statuses = Counter(one.standing for one in last)
    failed = [one for one in last if one.standing == "failed"]

    assert set(FAILURE_REASONS) == {one.failure_reason for one in failed}
    assert 3 == statuses["claimed"]
    assert statuses["paid"] > 100 > statuses["other"] > 5
    assert {"failed"} == {one.status for one in failed}


def test_balances_fit_and_a_few_are_short_of_their_reserve(whole):
    """What is owed plus the reserve makes the balance; four studios fall below their minimum on purpose."""
    owed = {one.studio_id: one.amount_minor for one in last_run(whole) if one.standing != "paid"}
    short = [
        one.studio_id
        for one in whole.balances
        if one.balance_minor - owed.get(one.studio_id, 0) < one.reserve_minimum_minor
    ]

    assert 4 == len(short)
    assert set(short) <= set(owed)


def test_amount_of_the_example_is_not_unusual(whole):
    """The verification's comparison with the past finds nothing to remark."""
    past = [one.amount_minor for one in whole.payouts if one.studio_id == incident.STUDIO_ID and one.standing == "paid"]

    assert min(past) < 125_075 < max(past)


def test_accounts_for_the_sandbox_cover_every_destination(whole):
    """Every destination exists in the sandbox; a few accounts are in the trouble that their row speaks of."""
    accounts = sandbox_accounts(whole)

    assert {one.destination_account for one in whole.payouts} == {one["id"] for one in accounts}
    assert {"active", "inactive"} == {one["transfers"] for one in accounts}
    assert {"ok", "fails"} == {one["bank"] for one in accounts}
    assert 190 < sum(one["transfers"] == "active" and one["bank"] == "ok" for one in accounts) < 200
    assert all(len(one["bank_last4"]) == 4 for one in accounts)
    assert ("active", "ok", "US", "usd") == tuple(
        accounts[0][key] for key in ("transfers", "bank", "country", "currency")
    )


def test_platform_has_enough_for_all_that_is_owed(whole):
    """In every currency, all open payouts can be paid."""
    available = platform_available(whole)
    for currency, minor in available.items():
        owed = sum(one.amount_minor for one in whole.payouts if one.standing != "paid" and one.currency == currency)

        assert minor > owed


def test_database_holds_exactly_the_ledger(ledger_engine, whole):
    """What is written reads back as it was made, in under a second and on both databases."""
    before = time.perf_counter()
    assert create_demo_ledger(ledger_engine, whole)
    elapsed_s = time.perf_counter() - before
    reader = Ledger(ledger_engine)

    assert list(last_run(whole)[:40]) == [reader.get_payout_due(one.ledger_payout_id) for one in last_run(whole)[:40]]
    assert list(whole.balances[:40]) == [
        reader.find_balance(one.studio_id, one.currency) for one in whole.balances[:40]
    ]
    # Measured at 0.2 to 0.4 s; the limit leaves room for a busy machine.
    assert elapsed_s < 3


def test_creating_again_keeps_what_happened_since(ledger_engine, whole):
    """A rehearsal that was interrupted goes on where it was."""
    create_demo_ledger(ledger_engine, whole)
    Ledger(ledger_engine).claim(incident.LEDGER_PAYOUT_ID, "line-1", at=NIGHT)

    assert not create_demo_ledger(ledger_engine, whole)
    assert Ledger(ledger_engine).get_payout_due(incident.LEDGER_PAYOUT_ID).is_claimed_by("line-1")


def test_demo_is_never_mixed_into_other_data(ledger_engine, whole):
    """One foreign row is enough to refuse, and it stays as it was."""
    create_demo_ledger(ledger_engine, replace(whole, payouts=whole.payouts[:1], balances=whole.balances[:1]))
    with pytest.raises(DatabaseError, match=r"other data \(1 payouts, 1 balances\)"):
        create_demo_ledger(ledger_engine, whole)

    with ledger_engine.connect() as connection:
        assert 1 == connection.scalar(sa.text("SELECT count(*) FROM manual_payout_due"))


@pytest.mark.parametrize(
    "change",
    [
        "amount_minor = 0",
        "currency = 'USD'",
        "status = 'lost'",
        "status = 'paid', paid_at = NULL",
        "status = 'claimed_by_fallback', claimed_by = NULL",
        "period_start = '2027-01-01'",
    ],
)
def test_tables_refuse_rows_that_cannot_be_true(ledger_engine, whole, change):
    """The demo's tables are as strict as a real ledger's should be."""
    create_demo_ledger(ledger_engine, replace(whole, payouts=whole.payouts[:26], balances=whole.balances[:1]))

    with pytest.raises(sa.exc.IntegrityError), ledger_engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE manual_payout_due SET {change}"))


def test_automation_pays_the_oldest_failed_first_and_then_stops(ledger_engine, whole):
    """It empties the list of failed payouts, leaves claimed ones alone, and says when nothing is left."""
    create_demo_ledger(ledger_engine, whole)
    Ledger(ledger_engine).claim(incident.LEDGER_PAYOUT_ID, "line-1", at=NIGHT)
    failed = {one.ledger_payout_id for one in whole.payouts if one.standing == "failed"} - {incident.LEDGER_PAYOUT_ID}
    paid = list(iter(lambda: pay_next_failed(ledger_engine, NIGHT), None))

    assert sorted(failed) == sorted(paid)
    assert not attempt(ledger_engine, paid[0], NIGHT)
    assert NIGHT == Ledger(ledger_engine).get_payout_due(paid[0]).paid_at


def test_registry_has_everybody_that_a_rehearsal_needs():
    """A requester, operators, two approvers of each team, and one whose time is over."""
    registry = load_registry(REGISTRY)
    in_force = [person for person in registry.people if person.valid_at(NIGHT)]
    approving = Counter(str(one.approving_team()) for one in in_force if "approve" in one.may)

    assert Counter(payments_ops=2, finance=2) == approving
    assert registry.get_allowed(incident.REQUESTER, "request", NIGHT, field="requester").teams == ("support",)
    assert registry.get_allowed(incident.OPERATOR, "operate", NIGHT, field="operator").teams == ("payments_ops",)
    assert ["greta"] == [person.handle for person in registry.people if person not in in_force]


def test_registry_uses_addresses_that_cannot_exist():
    """Nobody real is ever written to."""
    people = tomllib.loads(REGISTRY.read_text("utf-8"))["person"]

    assert all(person["email"].endswith("@marketplace.example") for person in people)
    assert all(
        person["valid_from"].tzinfo is UTC or person["valid_from"].utcoffset().total_seconds() == 0 for person in people
    )
