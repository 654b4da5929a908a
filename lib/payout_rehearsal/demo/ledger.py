"""
The demo's ledger: two hundred studios and a year of biweekly payouts, the same for every equal seed.

The night: at 01:00 UTC the automation starts, pays most studios, and at 01:04:11 the scheduler dies. What it had not
paid by then is failed or still scheduled.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from math import log
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Date,
    Engine,
    Index,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from manual_payout.domain.errors import DatabaseError
from manual_payout.domain.models import Reason
from manual_payout.domain.money import STEP_MINOR, exponent, parse
from manual_payout.ledger import BALANCE_COLUMNS, DUE_COLUMNS, PayoutDue, StudioBalance, UtcDateTime, explain_fault
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.names import MARKETS, Market

# What the demo's automation fails with: the SOP's reasons that name one.
FAILURE_REASONS = tuple(reason.value for reason in Reason if reason is not Reason.OTHER)

PAYOUTS_PER_STUDIO = 26
_PERIOD = timedelta(days=14)
_NOW = datetime.fromisoformat(incident.NOW)
_OUTAGE_AT = datetime.fromisoformat(incident.FAILED_AT)
_LAST_PERIOD_END = date(2026, 3, 1)
_RUN_STARTS = timedelta(hours=1)

# How the last run of a hundred studios ended; the rest was paid before the outage.
_FAILED_BY_OUTAGE_PCT = 12
_SCHEDULED_PCT = 10
# After the run of the dice: one failed payout of every reason, and three claims, so that each can be rehearsed.
_CLAIMS = 3
_SHORT_OF_RESERVE = 4


@dataclass(frozen=True, slots=True)
class DemoStudio:
    """
    One studio; amounts in minor units of its currency.

    Attributes:
        transfers, bank: Whether its connected account accepts transfers, and its bank accepts payouts, in the sandbox.
    """

    studio_id: str
    name: str
    email: str | None
    locale: str | None
    country: str
    currency: str
    account: str
    account_changed_at: datetime | None
    bank_last4: str
    typical_minor: int
    reserve_minimum_minor: int
    transfers: str = "active"
    bank: str = "ok"


@dataclass(frozen=True, slots=True)
class DemoLedger:
    """Everything that the demo's ledger holds."""

    seed: int
    studios: tuple[DemoStudio, ...]
    payouts: tuple[PayoutDue, ...]
    balances: tuple[StudioBalance, ...]


tables = MetaData()

payouts_table = Table(
    "manual_payout_due",
    tables,
    Column("ledger_payout_id", String(36), primary_key=True),
    Column("studio_id", String(36), nullable=False),
    Column("studio_name", Text, nullable=False),
    Column("studio_email", Text),
    Column("studio_locale", String(35)),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("destination_account", String(80), nullable=False),
    Column("destination_changed_at", UtcDateTime),
    Column("period_start", Date, nullable=False),
    Column("period_end", Date, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("status", String(40), nullable=False),
    Column("failure_reason", Text),
    Column("failed_at", UtcDateTime),
    Column("paid_at", UtcDateTime),
    Column("claimed_by", Text),
    Column("claimed_at", UtcDateTime),
    CheckConstraint("amount_minor > 0", name="amount_is_positive"),
    CheckConstraint("length(currency) = 3 AND currency = lower(currency)", name="currency_is_iso"),
    CheckConstraint("period_start <= period_end", name="period_runs_forward"),
    CheckConstraint("status IN ('scheduled', 'failed', 'claimed_by_fallback', 'paid')", name="status_is_known"),
    CheckConstraint("(status = 'paid') = (paid_at IS NOT NULL)", name="paid_has_a_time"),
    CheckConstraint(
        "status <> 'claimed_by_fallback' OR (claimed_by IS NOT NULL AND claimed_at IS NOT NULL)",
        name="claim_has_a_holder",
    ),
    Index("manual_payout_due_by_studio", "studio_id", "status", "paid_at"),
    Index("manual_payout_due_by_status", "status", "due_at"),
)

balances_table = Table(
    "manual_payout_balance",
    tables,
    Column("studio_id", String(36), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("balance_minor", BigInteger, nullable=False),
    Column("reserve_minimum_minor", BigInteger, nullable=False),
    Column("as_of", UtcDateTime, nullable=False),
    CheckConstraint("reserve_minimum_minor >= 0", name="reserve_is_not_negative"),
)


def demo_ledger(seed: int = 2026) -> DemoLedger:
    """Make the ledger from *seed* alone; its first studio is the SOP's example, whatever the seed."""
    rng = random.Random(seed)  # noqa: S311  # believable data, not secrets
    studios = [_example_studio(), *_studios(rng)]
    payouts = [payout for studio in studios for payout in _payouts(rng, studio)]
    payouts = _arrange_drills(payouts)
    studios = _with_troubles(studios, payouts)
    balances = _balances(rng, studios, payouts)
    return DemoLedger(seed, tuple(studios), tuple(payouts), tuple(balances))


def create_demo_ledger(engine: Engine, ledger: DemoLedger | None = None) -> bool:
    """
    Create the two relations as tables and fill them; say whether anything was written.

    Asking again changes nothing, and what happened to the demo's payouts since then stays.

    Raises:
        DatabaseError: The relations hold other data, which is never mixed with a demo; or the database failed.
    """
    ledger = ledger or demo_ledger()
    try:
        with engine.execution_options(write=True).begin() as connection:
            tables.create_all(connection)
            if _already_holds(connection, ledger):
                return False
            connection.execute(insert(payouts_table), [_row(payout, DUE_COLUMNS) for payout in ledger.payouts])
            connection.execute(insert(balances_table), [_row(balance, BALANCE_COLUMNS) for balance in ledger.balances])
    except SQLAlchemyError as error:
        raise explain_fault(error, engine) from None
    return True


# Countries of demo studios to which a US platform cannot transfer under the full agreement.
_OUTSIDE_REGION = frozenset({"JP", "KW"})


def sandbox_accounts(ledger: DemoLedger) -> list[dict[str, str]]:
    """
    Return the connected account of every studio, for the sandbox to seed.

    Returns:
        id, country, currency, display_name, transfers (``active``, ``inactive``), service_agreement, payout_schedule, bank (``ok``,
        ``fails``), bank_last4.
    """
    return [
        {
            "id": studio.account,
            "country": studio.country,
            "currency": studio.currency,
            "display_name": studio.name,
            "transfers": studio.transfers,
            # Stripe pays across its regions only under the recipient agreement (*Cross-border payouts*).
            "service_agreement": "recipient" if studio.country in _OUTSIDE_REGION else "full",
            "payout_schedule": "daily",
            "bank": studio.bank,
            "bank_last4": studio.bank_last4,
        }
        for studio in ledger.studios
    ]


def platform_available(ledger: DemoLedger) -> dict[str, int]:
    """Return the platform's balance by currency in minor units: twice all that is still owed in it."""
    owed: dict[str, int] = dict.fromkeys(sorted({studio.currency for studio in ledger.studios}), 0)
    for payout in ledger.payouts:
        if payout.standing != "paid":
            owed[payout.currency] += payout.amount_minor
    return {currency: 2 * minor + 10_000 * 10 ** exponent(currency) for currency, minor in owed.items()}


def _example_studio() -> DemoStudio:
    return DemoStudio(
        studio_id=incident.STUDIO_ID,
        name=incident.STUDIO_NAME,
        email="payouts@harbor-light-pottery.example",
        locale="en_US",
        country="US",
        currency=incident.CURRENCY,
        account=incident.DESTINATION_ACCOUNT,
        account_changed_at=datetime(2024, 5, 14, 16, 20, 5, tzinfo=UTC),
        bank_last4="6789",
        typical_minor=121_000,
        reserve_minimum_minor=parse(incident.RESERVE_MINIMUM, incident.CURRENCY).amount_minor,
    )


def _studios(rng: random.Random) -> Iterator[DemoStudio]:
    taken = {incident.STUDIO_NAME}
    for market in MARKETS:
        # The example is one of the first market's studios.
        for _ in range(market.studios - (market is MARKETS[0])):
            yield _studio(rng, market, _fresh_name(rng, market, taken))


def _fresh_name(rng: random.Random, market: Market, taken: set[str]) -> str:
    free = [
        name
        for first in market.first
        for second in market.second
        if (name := market.pattern.format(first, second)) not in taken
    ]
    name = rng.choice(free)
    taken.add(name)
    return name


def _studio(rng: random.Random, market: Market, name: str) -> DemoStudio:
    studio_id = _uuid(rng)
    typical = rng.lognormvariate(log(900), 0.6) * market.rate
    return DemoStudio(
        studio_id=studio_id,
        name=name,
        email=None if rng.random() < 0.03 else f"payouts@{_slug(name, studio_id)}.example",
        locale=rng.choice(market.locales),
        country=market.country,
        currency=market.currency,
        account="acct_1" + "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789", k=15)),
        account_changed_at=_changed_at(rng),
        bank_last4=f"{rng.randrange(10_000):04}",
        typical_minor=_minor(typical, market.currency),
        reserve_minimum_minor=_minor(rng.choice((100, 200, 300, 300, 500)) * market.rate, market.currency),
    )


def _changed_at(rng: random.Random) -> datetime | None:
    if rng.random() < 0.6:
        return None
    return _NOW - timedelta(days=rng.randrange(40, 900), seconds=rng.randrange(86_400))


def _payouts(rng: random.Random, studio: DemoStudio) -> Iterator[PayoutDue]:
    for ago in reversed(range(PAYOUTS_PER_STUDIO)):
        payout = _payout(rng, studio, ago)
        if ago:
            yield _paid_before(rng, payout)
        elif studio.studio_id == incident.STUDIO_ID:
            yield _example_payout(payout)
        else:
            yield _last_run(rng, payout)


def _payout(rng: random.Random, studio: DemoStudio, ago: int) -> PayoutDue:
    end = _LAST_PERIOD_END - ago * _PERIOD
    spread = rng.uniform(0.95, 1.05) if studio.studio_id == incident.STUDIO_ID else rng.uniform(0.7, 1.35)
    return PayoutDue(
        ledger_payout_id=_uuid(rng),
        studio_id=studio.studio_id,
        studio_name=studio.name,
        studio_email=studio.email,
        studio_locale=studio.locale,
        amount_minor=_stepped(int(studio.typical_minor * spread), studio.currency),
        currency=studio.currency,
        destination_account=studio.account,
        destination_changed_at=studio.account_changed_at,
        period_start=end - _PERIOD + timedelta(days=1),
        period_end=end,
        due_at=datetime(end.year, end.month, end.day, tzinfo=UTC) + timedelta(days=1) + _RUN_STARTS,
        status="scheduled",
        failure_reason=None,
        failed_at=None,
        paid_at=None,
        claimed_by=None,
        claimed_at=None,
    )


def _paid_before(rng: random.Random, payout: PayoutDue) -> PayoutDue:
    # One in fifty failed at first and was paid by the automation's next try, a day later.
    if rng.random() < 0.02:
        reason = rng.choice(FAILURE_REASONS)
        failed = _failed(payout, reason, payout.due_at + timedelta(seconds=rng.randrange(5, 250)))
        return _paid(failed, payout.due_at + timedelta(days=1, seconds=rng.randrange(5, 250)))
    return _paid(payout, payout.due_at + timedelta(seconds=rng.randrange(5, 250)))


def _last_run(rng: random.Random, payout: PayoutDue) -> PayoutDue:
    dice = rng.randrange(100)
    if dice < _SCHEDULED_PCT:
        return payout
    if dice < _SCHEDULED_PCT + _FAILED_BY_OUTAGE_PCT:
        return _failed(payout, Reason.SCHEDULER_OUTAGE.value, _OUTAGE_AT)
    return _paid(payout, payout.due_at + timedelta(seconds=rng.randrange(5, 250)))


def _example_payout(payout: PayoutDue) -> PayoutDue:
    amount = parse(incident.AMOUNT, incident.CURRENCY)
    named = replace(payout, ledger_payout_id=incident.LEDGER_PAYOUT_ID, amount_minor=amount.amount_minor)
    return _failed(named, incident.REASON, _OUTAGE_AT)


def _paid(payout: PayoutDue, at: datetime) -> PayoutDue:
    return replace(payout, status="paid", standing="paid", paid_at=at)


def _failed(payout: PayoutDue, reason: str, at: datetime) -> PayoutDue:
    return replace(payout, status="failed", standing="failed", failure_reason=reason, failed_at=at)


def _claimed(payout: PayoutDue, by: str, at: datetime) -> PayoutDue:
    return replace(payout, status="claimed_by_fallback", standing="claimed", claimed_by=by, claimed_at=at)


def _arrange_drills(payouts: list[PayoutDue]) -> list[PayoutDue]:
    """Turn some of the last run's failures into one of each other reason, and into claims."""
    failed = [
        index
        for index, payout in enumerate(payouts)
        if payout.standing == "failed" and payout.ledger_payout_id != incident.LEDGER_PAYOUT_ID
    ]
    arranged = list(payouts)
    others = [reason for reason in FAILURE_REASONS if reason != Reason.SCHEDULER_OUTAGE]
    for number, (index, reason) in enumerate(zip(failed, others * 2, strict=False)):
        arranged[index] = _drill(payouts[index], reason, _OUTAGE_AT - timedelta(seconds=20 * number + 7))
    for number, index in enumerate(failed[-_CLAIMS:], start=1):
        arranged[index] = _claimed(payouts[index], f"INC-{118 + number}", _NOW - timedelta(minutes=20 * number))
    return arranged


def _drill(payout: PayoutDue, reason: str, at: datetime) -> PayoutDue:
    failed = _failed(payout, reason, at)
    if reason != Reason.BANK_DETAILS_CHANGED:
        return failed
    # The row that an attacker would make: new bank details, two days before the money.
    return replace(failed, destination_changed_at=at - timedelta(days=2, hours=3))


def _with_troubles(studios: list[DemoStudio], payouts: list[PayoutDue]) -> list[DemoStudio]:
    """Give the accounts behind the drills the trouble that their ledger rows speak of."""
    reasons = {payout.studio_id: payout for payout in payouts if payout.standing == "failed"}
    return [_troubled(studio, reasons.get(studio.studio_id)) for studio in studios]


def _troubled(studio: DemoStudio, failed: PayoutDue | None) -> DemoStudio:
    if failed is None:
        return studio
    changed = replace(studio, account_changed_at=failed.destination_changed_at)
    if failed.failure_reason == Reason.COMPLIANCE_HOLD:
        return replace(changed, transfers="inactive")
    if failed.failure_reason == Reason.PSP_REJECTION:
        return replace(changed, bank="fails")
    return changed


def _balances(rng: random.Random, studios: list[DemoStudio], payouts: list[PayoutDue]) -> list[StudioBalance]:
    last = {payout.studio_id: payout for payout in payouts if payout.period_end == _LAST_PERIOD_END}
    short = [one.studio_id for one in last.values() if one.failure_reason == Reason.RESERVE_LOCK]
    short += [one.studio_id for one in last.values() if one.status == "scheduled"]
    return [_balance(rng, studio, last[studio.studio_id], short[:_SHORT_OF_RESERVE]) for studio in studios]


def _balance(rng: random.Random, studio: DemoStudio, last: PayoutDue, short: list[str]) -> StudioBalance:
    if studio.studio_id == incident.STUDIO_ID:
        reserve_after = parse(incident.RESERVE_AFTER, incident.CURRENCY).amount_minor
    elif studio.studio_id in short:
        reserve_after = _stepped(studio.reserve_minimum_minor // 3, studio.currency)
    else:
        reserve_after = _stepped(int(studio.reserve_minimum_minor * rng.uniform(1.0, 2.5)), studio.currency)
    owed = 0 if last.standing == "paid" else last.amount_minor
    return StudioBalance(studio.studio_id, studio.currency, owed + reserve_after, studio.reserve_minimum_minor, _NOW)


def _minor(major: float, currency: str) -> int:
    return _stepped(int(major * 10 ** exponent(currency)), currency)


def _stepped(minor: int, currency: str) -> int:
    step = STEP_MINOR.get(currency, 1)
    return max(minor // step, 1) * step


def _uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def _slug(name: str, studio_id: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain.replace("'", ""))
    return "-".join(words) or f"studio-{studio_id[:8]}"


def _row(record: PayoutDue | StudioBalance, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in columns}


def _already_holds(connection: Connection, ledger: DemoLedger) -> bool:
    found = set(connection.scalars(select(payouts_table.c.ledger_payout_id)))
    studios = set(connection.scalars(select(balances_table.c.studio_id)))
    if not found and not studios:
        return False
    if found == {one.ledger_payout_id for one in ledger.payouts} and studios == {
        one.studio_id for one in ledger.balances
    }:
        return True
    raise DatabaseError(
        f"The ledger already holds other data ({len(found)} payouts, {len(studios)} balances) than the demo's.",
        "Point LEDGER_DATABASE_URL at an empty database for the demo; a real ledger is never filled by it.",
    )
