"""What the project really sends to Stripe is what the installed SDK's parameter types describe."""

from __future__ import annotations

import pytest
import stripe
import stripe.params
from sdk_types import check_params

from local_stripe import FULL_KEY
from manual_payout.domain.intent import build_payload
from manual_payout.gateway import Gateway
from payout_rehearsal import file_and_approve, stage_set
from payout_rehearsal.demo import incident

PARAMS = {
    ("transfers", "create"): stripe.params.TransferCreateParams,
    ("transfers", "list"): stripe.params.TransferListParams,
    ("transfers", "retrieve"): stripe.params.TransferRetrieveParams,
    ("transfers.reversals", "create"): stripe.params.TransferCreateReversalParams,
    ("transfers.reversals", "list"): stripe.params.TransferListReversalsParams,
    ("balance_transactions", "list"): stripe.params.BalanceTransactionListParams,
    ("payouts", "list"): stripe.params.PayoutListParams,
}


class Recorder:
    """A service of the SDK that notes the parameters of each call and passes it on."""

    def __init__(self, service, name, sent):
        self._service, self._name, self._sent = service, name, sent

    def __getattr__(self, verb):
        """Wrap one verb, or a service below this one."""
        real = getattr(self._service, verb)
        if not callable(real):
            return Recorder(real, f"{self._name}.{verb}", self._sent)

        def call(*args):
            params = next((arg for arg in args if isinstance(arg, dict) and not set(arg) & OPTIONS), {})
            self._sent.append((self._name, verb, params))
            return real(*args)

        return call


class Services:
    """The SDK's services, each recorded."""

    def __init__(self, real, sent):
        self._real, self._sent = real, sent

    def __getattr__(self, name):
        """Wrap one service."""
        return Recorder(getattr(self._real, name), name, self._sent)


OPTIONS = set(stripe.RequestOptions.__annotations__)


@pytest.fixture(name="sent")
def _sent(tmp_path):
    """Every call that the gateway makes in its life, by service, verb and parameters."""
    sent = []
    with stage_set(tmp_path) as (desk, sandbox):
        request = file_and_approve(desk)
        gateway = Gateway(FULL_KEY, base_url=sandbox.base_url, timeout_s=10)
        real = gateway._client

        class Client:
            v1 = Services(real.v1, sent)

        gateway._client = Client()
        made = gateway.create_transfer(build_payload(request, request.line_for(), 1), idempotency_key="k")
        sandbox.advance(3 * 86_400)
        gateway.transfers_in_group(made.made["transfer_group"])
        gateway.get_transfer(made.made["id"], expand=("balance_transaction",))
        sandbox.switch(connected_reserves=True)
        back = {"amount": 100, "description": "d", "metadata": {"line_id": "l"}}
        reversal = gateway.create_reversal(made.made["id"], back, idempotency_key="r")
        assert [reversal.made["id"]] == [one["id"] for one in gateway.reversals_of(made.made["id"])]
        gateway.funds("usd")
        gateway.available_to(incident.DESTINATION_ACCOUNT, "usd")
        gateway.livemode()
        gateway.account_id()
        account, payment = incident.DESTINATION_ACCOUNT, made.made["destination_payment"]
        gateway.payments_balance(account, payment)
        payouts = gateway.payouts_since(account, made.made["created"])

        assert [True] == [gateway.payout_holds(account, payout["id"], payment) for payout in payouts]
    return sent


def test_every_parameter_is_one_the_sdk_knows(sent):
    """Names, kinds and required parameters are those of the SDK's types, which come from Stripe's specification."""
    findings = [
        finding
        for service, verb, params in sent
        if (service, verb) in PARAMS
        for finding in check_params(params, PARAMS[service, verb])
    ]

    assert [] == findings


def test_every_kind_of_call_is_covered(sent):
    """No call that takes parameters escapes the check."""
    with_parameters = {(service, verb) for service, verb, params in sent if params}

    assert set() == with_parameters - set(PARAMS)
    assert {"create", "list", "retrieve"} <= {verb for _, verb in with_parameters}
