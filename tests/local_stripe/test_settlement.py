"""What becomes of the money as the sandbox's clock advances: usable, paid out, arrived, or returned."""

from __future__ import annotations

import pytest
import stripe

from local_stripe import FULL_KEY, READ_KEY, SandboxAccount, running
from sdk import ON_BEHALF, ORDER, STUDIO, client_of

HOUR_S, DAY_S = 3_600, 86_400
START_S = 1_772_420_400


@pytest.fixture(name="bank")
def _bank():
    return "ok"


@pytest.fixture(name="schedule")
def _schedule():
    return "daily"


@pytest.fixture(name="sandbox")
def _sandbox(bank, schedule):
    account = SandboxAccount(STUDIO, bank=bank, payout_schedule=schedule)
    with running(accounts=[account], available={"usd": 500_000}) as sandbox:
        yield sandbox


@pytest.fixture(name="full")
def _full(sandbox):
    return client_of(sandbox, FULL_KEY)


@pytest.fixture(name="reader")
def _reader(sandbox):
    return client_of(sandbox, READ_KEY)


def connected(client):
    balance = client.v1.balance.retrieve({}, ON_BEHALF)
    return balance.available[0].amount, balance.pending[0].amount


def payouts(client, **query):
    return client.v1.payouts.list(query, ON_BEHALF).data


def test_destination_payment_is_pending_for_a_day(sandbox, full, reader):
    """Level B: pending until available_on, available from then on."""
    transfer = full.v1.transfers.create(ORDER)
    path = {"expand": ["destination_payment.balance_transaction"]}
    before = reader.v1.transfers.retrieve(transfer.id, path).destination_payment.balance_transaction
    sandbox.advance(DAY_S - 1)
    still = reader.v1.transfers.retrieve(transfer.id, path).destination_payment.balance_transaction
    sandbox.advance(1)
    after = reader.v1.transfers.retrieve(transfer.id, path).destination_payment.balance_transaction

    assert ("pending", "pending", "available") == (before.status, still.status, after.status)
    assert START_S + DAY_S == before.available_on


def test_daily_payout_goes_from_pending_to_paid(sandbox, full, reader):
    """Level C: made when the money is available, submitted after an hour, paid on its arrival date."""
    full.v1.transfers.create(ORDER)
    seen = []
    for seconds in (DAY_S - 1, 1, HOUR_S - 1, 1, DAY_S - HOUR_S - 1, 1, 30 * DAY_S):
        sandbox.advance(seconds)
        seen.append([item.status for item in payouts(reader)])
    payout = payouts(reader)[0]

    assert [[], ["pending"], ["pending"], ["in_transit"], ["in_transit"], ["paid"], ["paid"]] == seen
    assert (125_075, START_S + DAY_S, START_S + 2 * DAY_S, True) == (
        payout.amount,
        payout.created,
        payout.arrival_date,
        payout.automatic,
    )
    assert ("supported", True) == (payout.trace_id.status, payout.trace_id.value.startswith("SANDBOX"))
    assert (0, 0) == connected(reader)


def test_one_long_step_of_the_clock_does_what_many_short_ones_do(sandbox, full):
    """The books do not depend on how often somebody looks."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(3 * DAY_S)
    long = [repr(item) for item in sandbox.books.payouts]
    sandbox.reset()
    full.v1.transfers.create(ORDER)
    for _ in range(3 * 24):
        sandbox.advance(HOUR_S)

    assert [repr(item) for item in sandbox.books.payouts] == long


def test_automatic_payout_can_be_itemised_once_reconciled(sandbox, full, reader):
    """The payment is found by the payout filter once the payout has left, not before."""
    transfer = full.v1.transfers.create(ORDER)
    sandbox.advance(DAY_S)
    payout = payouts(reader)[0]
    early = reader.v1.balance_transactions.list({"payout": payout.id}, ON_BEHALF)
    sandbox.advance(HOUR_S)
    late = reader.v1.balance_transactions.list({"payout": payout.id}, ON_BEHALF)

    assert ("in_progress", []) == (payout.reconciliation_status, early.data)
    assert "completed" == payouts(reader)[0].reconciliation_status
    assert {transfer.destination_payment, payout.id} == {line.source for line in late.data}
    assert 0 == sum(line.net for line in late.data)


def test_payouts_of_several_transfers_hold_each_payment_once(sandbox, full, reader):
    """Transfers of the same instant share a payout, later ones have their own; none is paid out twice."""
    for _ in range(2):
        full.v1.transfers.create({**ORDER, "amount": 100})
    sandbox.advance(HOUR_S)
    full.v1.transfers.create({**ORDER, "amount": 7})
    sandbox.advance(5 * DAY_S)
    lines = [line for line in sandbox.books.balance_transactions if line.type == "payment"]

    assert [7, 200] == [item.amount for item in payouts(reader)]
    assert [200, 200, 7] == [sandbox.books.find(line.payout).amount for line in lines]


@pytest.mark.parametrize("bank", ["fails"])
def test_failed_payout_brings_the_money_back_and_disables_the_bank(sandbox, full, reader):
    """Never paid: failed on arrival, with reason and balance transaction, and no payout after it until the bank is new."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(2 * DAY_S)
    payout = payouts(reader)[0]
    line = reader.v1.balance_transactions.retrieve(payout.failure_balance_transaction, {}, ON_BEHALF)
    account = reader.v1.accounts.retrieve(STUDIO)
    sandbox.advance(10 * DAY_S)

    assert ("failed", "account_closed", "The bank account has been closed.") == (
        payout.status,
        payout.failure_code,
        payout.failure_message,
    )
    assert ("payout_failure", 125_075, payout.id) == (line.type, line.amount, line.source)
    assert (False, "errored") == (account.payouts_enabled, account.external_accounts.data[0].status)
    assert ((125_075, 0), 1) == (connected(reader), len(payouts(reader)))


@pytest.mark.parametrize("bank", ["fails"])
def test_new_bank_account_gets_the_returned_money(sandbox, full, reader):
    """After the bank is replaced, the next payout carries what came back; no second transfer is needed."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(3 * DAY_S)
    sandbox.seed([SandboxAccount(STUDIO, bank="ok", bank_last4="4242")])
    sandbox.advance(2 * DAY_S)

    assert [("paid", 125_075), ("failed", 125_075)] == [(item.status, item.amount) for item in payouts(reader)]
    assert (0, 0) == connected(reader)
    assert 1 == len(sandbox.books.transfers)


@pytest.mark.parametrize("bank", ["paid_then_fails"])
def test_paid_payout_can_flip_to_failed(sandbox, full, reader):
    """Paid is not the end: two days after arrival the bank sends the money back."""
    full.v1.transfers.create(ORDER)
    seen = []
    for seconds in (2 * DAY_S, 2 * DAY_S - 1, 1):
        sandbox.advance(seconds)
        seen.append(payouts(reader)[0].status)

    assert ["paid", "paid", "failed"] == seen
    assert (125_075, 0) == connected(reader)


@pytest.mark.parametrize("schedule", ["manual"])
def test_manual_schedule_never_pays_out_by_itself(sandbox, full, reader):
    """The money waits until somebody makes a payout, which cannot be itemised."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(30 * DAY_S)
    before = payouts(reader)
    payout = full.v1.payouts.create({"amount": 100_000, "currency": "usd"}, ON_BEHALF)
    with pytest.raises(stripe.InvalidRequestError, match="automatic"):
        reader.v1.balance_transactions.list({"payout": payout.id}, ON_BEHALF)

    assert [] == before
    assert (False, "not_applicable") == (payout.automatic, payout.reconciliation_status)
    assert (25_075, 0) == connected(reader)


@pytest.mark.parametrize("schedule", ["manual"])
def test_payout_above_the_available_balance_is_refused(sandbox, full):
    """A payout draws on available balance only."""
    full.v1.transfers.create(ORDER)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        full.v1.payouts.create({"amount": 1, "currency": "usd"}, ON_BEHALF)

    assert ("balance_insufficient", []) == (caught.value.code, sandbox.books.payouts)


@pytest.mark.parametrize("schedule", ["manual"])
def test_pending_manual_payout_can_be_canceled(sandbox, full, reader):
    """Cancelling brings the money back; a submitted payout cannot be canceled any more."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(DAY_S)
    first = full.v1.payouts.create({"amount": 1_000, "currency": "usd"}, ON_BEHALF)
    canceled = full.v1.payouts.cancel(first.id, {}, ON_BEHALF)
    second = full.v1.payouts.create({"amount": 1_000, "currency": "usd"}, ON_BEHALF)
    sandbox.advance(HOUR_S)
    with pytest.raises(stripe.InvalidRequestError, match="in_transit"):
        full.v1.payouts.cancel(second.id, {}, ON_BEHALF)

    assert ("canceled", True) == (canceled.status, canceled.failure_balance_transaction is not None)
    assert (124_075, 0) == connected(reader)


def test_automatic_payout_cannot_be_canceled(sandbox, full):
    """Not even while it is pending."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(DAY_S)
    with pytest.raises(stripe.InvalidRequestError, match="Automatic"):
        full.v1.payouts.cancel(sandbox.books.payouts[0].id, {}, ON_BEHALF)


def test_payouts_are_listed_by_status_arrival_and_destination(sandbox, full, reader):
    """Every documented filter of payouts."""
    full.v1.transfers.create(ORDER)
    sandbox.advance(HOUR_S)
    full.v1.transfers.create({**ORDER, "amount": 7})
    sandbox.advance(2 * DAY_S - HOUR_S)
    bank = sandbox.books.payouts[0].bank.id

    assert [125_075] == [item.amount for item in payouts(reader, status="paid")]
    assert [7] == [item.amount for item in payouts(reader, arrival_date={"gt": START_S + 2 * DAY_S})]
    assert [7, 125_075] == [item.amount for item in payouts(reader, destination=bank)]
    assert [] == payouts(reader, created={"lt": START_S})


def test_balance_transactions_are_listed_by_source_and_type(sandbox, full, reader):
    """The direction from a payment to its line, for which no permission on payouts is needed."""
    transfer = full.v1.transfers.create(ORDER)
    mine = reader.v1.balance_transactions.list({"source": transfer.id})
    theirs = reader.v1.balance_transactions.list({"source": transfer.destination_payment}, ON_BEHALF)
    typed = reader.v1.balance_transactions.list({"type": "transfer", "currency": "usd"})

    assert [[-125_075], [125_075], [-125_075]] == [[line.net for line in page.data] for page in (mine, theirs, typed)]
    assert 500_000 - 125_075 == sum(line.net for line in sandbox.books.balance_transactions if line.type != "payment")


def test_every_minor_unit_is_somewhere(sandbox, full):
    """Platform, studio and bank together always hold what was seeded."""
    full.v1.transfers.create(ORDER)
    for _ in range(8):
        sandbox.advance(DAY_S // 2)
        balances = [
            sum(side["usd"] for side in sandbox.books.balance(account))
            for account in (STUDIO, "acct_1SandboxPlatform00")
        ]
        out = sum(item.amount for item in sandbox.books.payouts if item.status != "failed")

        assert 500_000 == sum(balances) + out
