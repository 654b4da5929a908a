"""
What each endpoint of the sandbox does with an admitted call: reads parameters, asks the books, shapes the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from local_stripe import account_shapes, accounts_v2, connect_accounts, funding, payouts, searching, shapes, transfers
from local_stripe.books import Books
from local_stripe.errors import Json, invalid, missing
from local_stripe.listing import envelope, matching, page
from local_stripe.params import merged_metadata
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.records import (
    Account,
    BalanceTransaction,
    Charge,
    PaymentIntent,
    Payout,
    Record,
    Refund,
    Reversal,
    Transfer,
)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Call:
    """
    One admitted call.

    Attributes:
        account: The account on whose behalf it is made.

        url: The path of the request.

        path: The parameters in that path.

        params: The checked parameters.
    """

    books: Books
    account: str
    url: str
    path: dict[str, str]
    params: Json
    idempotency_key: str | None = None

    def shape(self, record: Record) -> Json:
        """Return *record* as JSON."""
        return shapes.shape(self.books, record)


def create_transfer(call: Call) -> Json:
    """Make a transfer."""
    given = call.params
    if given.get("source_type", "card") not in {"card", "bank_account", "fpx"}:
        raise invalid("Invalid source_type: must be one of bank_account, card, or fpx", code="", param="source_type")
    order = transfers.TransferOrder(
        amount=given["amount"],
        currency=given["currency"],
        destination=given["destination"],
        description=given.get("description"),
        transfer_group=given.get("transfer_group"),
        source_transaction=given.get("source_transaction"),
        source_type=given.get("source_type", "card"),
        metadata=merged_metadata({}, given.get("metadata", {})),
        idempotency_key=call.idempotency_key,
    )
    return call.shape(transfers.create_transfer(call.books, call.account, order))


def list_transfers(call: Call) -> Json:
    """List transfers, newest first."""
    return _list(call, call.books.owned(Transfer, call.account), "created", "destination", "transfer_group")


def get_transfer(call: Call) -> Json:
    """Show one transfer."""
    return call.shape(_transfer(call))


def update_transfer(call: Call) -> Json:
    """Change description and metadata, all that can be changed of a transfer."""
    transfer = _transfer(call)
    if "description" in call.params:
        transfer.description = call.params["description"] or None
    transfer.metadata = merged_metadata(transfer.metadata, call.params.get("metadata", {}))
    return call.shape(transfer)


def create_reversal(call: Call) -> Json:
    """Take a transfer back, in part or all that is left."""
    metadata = merged_metadata({}, call.params.get("metadata", {}))
    reversal = transfers.reverse_transfer(
        call.books, _transfer(call), call.params.get("amount"), metadata, call.idempotency_key
    )
    return call.shape(reversal)


def list_reversals(call: Call) -> Json:
    """List the reversals of one transfer."""
    transfer = _transfer(call)
    mine = [item for item in call.books.owned(Reversal, call.account) if item.transfer == transfer.id]
    return _list(call, mine)


def get_reversal(call: Call) -> Json:
    """Show one reversal of the transfer that the path names."""
    return call.shape(_reversal(call))


def update_reversal(call: Call) -> Json:
    """Change the metadata of a reversal, all that can be changed of it."""
    reversal = _reversal(call)
    reversal.metadata = merged_metadata(reversal.metadata, call.params.get("metadata", {}))
    return call.shape(reversal)


def get_balance(call: Call) -> Json:
    """Show the balance of the account."""
    return shapes.balance(call.books, call.account)


def list_lines(call: Call) -> Json:
    """List balance transactions; those of one automatic payout once it is reconciled."""
    lines = call.books.owned(BalanceTransaction, call.account)
    if "payout" in call.params:
        payout = call.books.get(Payout, call.params["payout"], call.account)
        if not payout.automatic:
            raise invalid(
                "Balance transaction history can only be filtered on automatic transfers, not manual.",
                code="",
                param="payout",
            )
        # Nothing is itemised before reconciliation is completed.
        reconciled = call.shape(payout)["reconciliation_status"] == "completed"
        lines = [line for line in lines if reconciled and line.payout == payout.id]
    return _list(call, lines, "created", "currency", "source", "type")


def get_line(call: Call) -> Json:
    """Show one balance transaction."""
    return call.shape(call.books.get(BalanceTransaction, call.path["id"], call.account))


def list_charges(call: Call) -> Json:
    """List charges, destination payments among them."""
    return _list(call, call.books.owned(Charge, call.account), "created", "payment_intent", "transfer_group")


def get_charge(call: Call) -> Json:
    """Show one charge or destination payment."""
    return call.shape(call.books.get(Charge, call.path["id"], call.account))


def search_charges(call: Call) -> Json:
    """Search charges."""
    return _search(call, call.books.owned(Charge, call.account))


def search_payment_intents(call: Call) -> Json:
    """Search payment intents."""
    return _search(call, call.books.owned(PaymentIntent, call.account))


def search_absent(call: Call) -> Json:
    """Search what nobody can make in the sandbox."""
    return _search(call, [])


def create_payout(call: Call) -> Json:
    """Send available balance to the bank."""
    given = call.params
    if given.get("method", "standard") != "standard":
        raise invalid("The sandbox makes standard payouts only.", code="", param="method")
    account = call.books.account(call.account)
    if "destination" in given and (account.bank is None or account.bank.id != given["destination"]):
        raise missing("external account", given["destination"], param="destination", status=400)
    payout = payouts.create_payout(
        call.books,
        account,
        given["amount"],
        given["currency"],
        at=call.books.now_s,
        automatic=False,
        description=given.get("description"),
        statement_descriptor=given.get("statement_descriptor"),
        metadata=merged_metadata({}, given.get("metadata", {})),
        idempotency_key=call.idempotency_key,
    )
    return call.shape(payout)


def list_payouts(call: Call) -> Json:
    """List payouts, newest first."""
    found = call.books.owned(Payout, call.account)
    if "destination" in call.params:
        found = [payout for payout in found if payout.bank.id == call.params["destination"]]
    return _list(call, found, "created", "arrival_date", "status")


def get_payout(call: Call) -> Json:
    """Show one payout."""
    return call.shape(_payout(call))


def update_payout(call: Call) -> Json:
    """Change the metadata of a payout."""
    payout = _payout(call)
    payout.metadata = merged_metadata(payout.metadata, call.params.get("metadata", {}))
    return call.shape(payout)


def cancel_payout(call: Call) -> Json:
    """Take back a payout that has not left."""
    return call.shape(payouts.cancel_payout(call.books, _payout(call)))


def get_own_account(call: Call) -> Json:
    """Show the account on whose behalf the call is made."""
    return call.shape(call.books.account(call.account))


def create_account(call: Call) -> Json:
    """Connect a new account."""
    return call.shape(connect_accounts.create_account(call.books, call.params))


def list_accounts(call: Call) -> Json:
    """List the connected accounts that v1 made."""
    return _list(call, [account for account in call.books.accounts[::-1] if account.version == 1], "created")


def get_account(call: Call) -> Json:
    """Show a connected account, or the platform."""
    return call.shape(_account(call))


def update_account(call: Call) -> Json:
    """Change a connected account."""
    return call.shape(connect_accounts.update_account(call.books, _account(call), call.params))


def create_account_v2(call: Call) -> Json:
    """Connect a new account by Accounts v2."""
    account = accounts_v2.create_account_v2(call.books, call.params)
    return accounts_v2.account_shape_v2(account, call.params.get("include", []))


def list_accounts_v2(call: Call) -> Json:
    """List the connected accounts that v2 made."""
    return accounts_v2.page_v2([account for account in call.books.accounts[::-1] if account.version == 2], call.params)


def get_account_v2(call: Call) -> Json:
    """Show one of them."""
    return accounts_v2.account_shape_v2(_account(call), call.params.get("include", []))


def list_capabilities(call: Call) -> Json:
    """List what a connected account may do, or has asked to."""
    account = _account(call)
    found = [account_shapes.capability(account, name) for name in account_shapes.capabilities_of(account)]
    return envelope(found, has_more=False, url=call.url)


def get_capability(call: Call) -> Json:
    """Show one of these."""
    account, name = _account(call), call.path["capability"]
    if name not in account_shapes.capabilities_of(account):
        raise missing("capability", name, param="capability")
    return account_shapes.capability(account, name)


def list_external_accounts(call: Call) -> Json:
    """List the bank account of a connected account."""
    account = _account(call)
    banks = [] if account.bank is None else [account_shapes.bank_account(account, account.bank)]
    return envelope(banks, has_more=False, url=call.url)


def create_external_account(call: Call) -> Json:
    """Give a connected account another bank account."""
    account = _account(call)
    return account_shapes.bank_account(account, connect_accounts.add_bank(call.books, account, call.params))


def get_balance_settings(call: Call) -> Json:
    """Show how the account on whose behalf the call is made is paid out."""
    return account_shapes.balance_settings(call.books.account(call.account))


def update_balance_settings(call: Call) -> Json:
    """Change how it is paid out."""
    account = call.books.account(call.account)
    interval = connect_accounts.text_in(call.params, "payments", "payouts", "schedule", "interval")
    connect_accounts.set_schedule(account, interval or account.payout_schedule)
    return account_shapes.balance_settings(account)


def create_payment_intent(call: Call) -> Json:
    """Take a test card payment that is confirmed at once."""
    given = call.params
    if not given.get("confirm"):
        raise invalid("The sandbox takes payments that are confirmed at once: set confirm.", code="", param="confirm")
    if not given["payment_method"].startswith("pm_card_"):
        raise missing("PaymentMethod", given["payment_method"], param="payment_method", status=400)
    intent = funding.confirm_payment(
        call.books,
        call.account,
        given["amount"],
        given["currency"],
        given["payment_method"],
        description=given.get("description"),
        transfer_group=given.get("transfer_group"),
        metadata=merged_metadata({}, given.get("metadata", {})),
    )
    return call.shape(intent)


def get_payment_intent(call: Call) -> Json:
    """Show one payment intent."""
    return call.shape(call.books.get(PaymentIntent, call.path["id"], call.account))


def list_payment_intents(call: Call) -> Json:
    """List payment intents, newest first."""
    return _list(call, call.books.owned(PaymentIntent, call.account), "created")


def list_refunds(call: Call) -> Json:
    """List refunds: those that reversals made."""
    return _list(call, call.books.owned(Refund, call.account), "created", "charge")


def list_absent(call: Call) -> Json:
    """List what nobody can make in the sandbox, and of which there is therefore none."""
    return envelope([], has_more=False, url=call.url)


def _transfer(call: Call) -> Transfer:
    return call.books.get(Transfer, call.path["id"], call.account)


def _reversal(call: Call) -> Reversal:
    reversal = call.books.get(Reversal, call.path["reversal"], call.account)
    if reversal.transfer != call.path["id"]:
        raise missing("transfer_reversal", reversal.id)
    return reversal


def _payout(call: Call) -> Payout:
    return call.books.get(Payout, call.path["id"], call.account)


def _account(call: Call) -> Account:
    if call.account not in {PLATFORM_ACCOUNT, call.path["id"]}:
        raise missing("account", call.path["id"])
    return call.books.get(Account, call.path["id"], call.path["id"])


def _search(call: Call, records: Sequence[Record]) -> Json:
    found = searching.found_by(call.params["query"], [call.shape(record) for record in records])
    return searching.result(found, call.params, call.url)


def _list(call: Call, records: Sequence[R], *filters: str) -> Json:
    wanted = {name: call.params.get(name) for name in filters}
    items, has_more = page(matching(records, wanted), call.params)
    return envelope([call.shape(item) for item in items], has_more=has_more, url=call.url)
