"""The verification: each rule says no to its own fact, in words, with a remedy; a missing fact is never a yes."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.approval import policy
from manual_payout.approval.pinned import rules_digest
from manual_payout.approval.policy import Facts, StripeFacts, differences
from manual_payout.approval.verification import Verification, verify
from manual_payout.desk.inventory import RehearsalStanding
from manual_payout.desk.settings import Policy, RequestPolicy, StripePolicy
from manual_payout.domain.errors import ApprovalError, PolicyRefusedError, StripeRefusedError
from manual_payout.domain.intent import OtherTransfer
from manual_payout.domain.models import Check, CheckStatus, Kind, Line, Mode, PayoutRecord, Reason, Request, State
from manual_payout.domain.money import Money
from manual_payout.ledger import PayoutDue, StudioBalance
from payout_rehearsal import demo_parameters
from payout_rehearsal.demo import incident

AT = datetime.fromisoformat(incident.NOW)
ACCOUNT = "acct_platform"
RULES = Policy(stripe=StripePolicy(platform_account=ACCOUNT), request=RequestPolicy(amount_minor_max={"usd": 200_000}))
TYPED = replace(demo_parameters(), studio_id=incident.STUDIO_ID)
LINE = Line(
    "line-1", 1, incident.STUDIO_ID, incident.STUDIO_NAME, incident.LEDGER_PAYOUT_ID, Money(125_075, "usd"),
    Money(31_000, "usd"), incident.DESTINATION_ACCOUNT,
)  # fmt: skip
REQUEST = Request(
    "request-1", incident.INCIDENT_ID, Kind.TRANSFER, Mode.SANDBOX, ACCOUNT, "maya", Reason.SCHEDULER_OUTAGE, incident.NOTES,
    "nonce", AT, AT + timedelta(hours=24), (LINE,),
)  # fmt: skip
DUE = PayoutDue(
    incident.LEDGER_PAYOUT_ID, incident.STUDIO_ID, incident.STUDIO_NAME, None, None, 125_075, "usd",
    incident.DESTINATION_ACCOUNT, None, AT.date(), AT.date(), AT, "failed", "scheduler_outage", AT, None, None, None,
    "failed",
)  # fmt: skip
BALANCE = StudioBalance(incident.STUDIO_ID, "usd", 156_075, 30_000, AT)
STRIPE = StripeFacts(
    key="restricted test key …Fbk", key_restricted=True, key_livemode=False, livemode=False, account_id=ACCOUNT,
    available=Money(10**6, "usd"), drawable=Money(10**6, "usd"),
)  # fmt: skip
GOOD = Facts(TYPED, Mode.SANDBOX, AT, REQUEST, False, None, "two people", DUE, BALANCE, None, (), STRIPE)
STRANGER = OtherTransfer("tr_9", Money(125_075, "usd"), AT)
DOWN = StripeRefusedError("Stripe cannot be reached.", "Check the network.", code="unreachable")


def record(state, *, payout_id="line-1", incident_id=incident.INCIDENT_ID):
    return PayoutRecord(
        payout_id=payout_id, request_id="request-1", incident_id=incident_id, ledger_payout_id=incident.LEDGER_PAYOUT_ID,
        studio_id=incident.STUDIO_ID, studio_name=incident.STUDIO_NAME, amount=LINE.amount, reserve_after=LINE.reserve_after,
        destination_account=LINE.destination_account, mode=Mode.SANDBOX, reason=Reason.OTHER, notes="", requested_by="maya",
        approved_by_payments_ops="priya", approved_by_finance="amara", operator_id="tomas", state=state, attempt_no=1,
        idempotency_key="key-1", transfer_group="group", payload="{}", owner="owner", fence=1, lease_until=None, sent=False,
        created_at=AT,
    )  # fmt: skip


def with_stripe(**changes):
    return {"stripe": replace(STRIPE, **changes)}


def with_due(**changes):
    return {"due": replace(DUE, **changes)}


def with_typed(**changes):
    return {"parameters": replace(TYPED, **changes)}


def judged(rules=RULES, **changes):
    return policy.judge(replace(GOOD, **changes), rules)


def failing(rules=RULES, **changes):
    return {check.name: check for check in judged(rules, **changes) if check.stops}


def test_good_facts_are_a_go():
    """With nothing wrong every check is ok, and none carries a remedy."""
    checks = judged()

    assert {CheckStatus.OK} == {check.status for check in checks}
    assert {""} == {check.remedy for check in checks}
    assert len(policy.PAYOUT_RULES) == len({check.name for check in checks})


# rule → facts that break it, and a word of the remedy.
NO_GO = [
    ("incident", {"request": None}, "manual-payout request"),
    ("request_in_force", {"request": None}, "new request"),
    ("request_in_force", {"request_withdrawn": True}, "new request"),
    ("request_in_force", {"at": REQUEST.expires_at}, "new request"),
    ("same_as_requested", {"request": None}, "file a new request"),
    ("same_as_requested", with_typed(notes="other"), "values of the request"),
    ("same_as_requested", with_typed(reserve_after="309.00"), "values of the request"),
    ("same_as_requested", with_typed(amount="1250.755"), "values of the request"),
    ("same_as_requested", {"request": replace(REQUEST, mode=Mode.TEST)}, "values of the request"),
    ("approved_by_both_teams", {"approval_error": ApprovalError("No approval by Finance.", "Ask Finance.")}, "Ask Finance"),
    ("ledger_payout_exists", {"due": None}, "ledger payout id"),
    ("ledger_payout_of_studio", with_due(studio_id="other"), "another studio"),
    ("ledger_payout_of_studio", with_due(studio_name="Other"), "another studio"),
    ("ledger_payout_of_studio", {"due": None}, "another studio"),
    ("ledger_payout_unpaid", with_due(standing="paid", status="paid", paid_at=AT), "Do not pay"),
    ("ledger_payout_unpaid", with_due(standing="claimed", status="claimed", claimed_by="line-2"), ""),
    ("ledger_payout_unpaid", with_due(standing="other", status="scheduled"), ""),
    ("ledger_payout_unpaid", {"due": None}, ""),
    ("amount_as_on_file", with_due(amount_minor=125_074), "partial payout"),
    ("amount_as_on_file", with_typed(amount="1250.74"), "partial payout"),
    ("amount_as_on_file", {"due": None}, ""),
    ("destination_as_on_file", with_due(destination_account="acct_999"), "ask the studio"),
    ("destination_as_on_file", {"due": None}, ""),
    ("reserve_arithmetic", {"balance": replace(BALANCE, balance_minor=156_076)}, "Recompute"),
    ("reserve_arithmetic", {"balance": None}, "balance"),
    ("reserve_arithmetic", {"due": None}, "balance"),
    ("reserve_minimum", {"balance": replace(BALANCE, reserve_minimum_minor=31_001)}, "Finance decides"),
    ("reserve_minimum", {"balance": replace(BALANCE, balance_minor=100)}, "Finance decides"),
    ("reserve_minimum", {"balance": None}, "balance"),
    ("below_ceiling", with_due(amount_minor=200_001), "Finance raises"),
    ("below_ceiling", {"due": None}, "ledger payout id"),
    ("no_earlier_manual_payout", {"earlier": (record(State.PAID, payout_id="line-0", incident_id="INC-1"),)}, "other incident"),
    ("no_earlier_manual_payout", {"earlier": (record(State.SUBMITTING, payout_id="line-0"),)}, "other incident"),
    ("outcome_known", {"record": record(State.UNKNOWN)}, "reconcile"),
    ("outcome_known", {"record": record(State.NEEDS_HUMAN)}, "reconcile"),
    ("key_is_right", with_stripe(key_restricted=False), "restricted fallback key"),
    ("key_is_right", with_stripe(key_livemode=True), "restricted fallback key"),
    ("key_is_right", {"mode": Mode.LIVE}, "restricted fallback key"),
    ("key_is_right", {"stripe": StripeFacts(error=DOWN)}, "restricted fallback key"),
    ("account_is_right", with_stripe(account_id="acct_other"), "approved account"),
    ("account_is_right", with_stripe(account_id=None), "Accounts: Read"),
    ("account_is_right", with_stripe(livemode=True), "approved account"),
    ("account_is_right", {"stripe": StripeFacts(error=DOWN)}, ""),
    ("no_transfer_in_group", with_stripe(foreign_transfers=("tr_9",)), "moved already"),
    ("no_transfer_in_group", {"stripe": StripeFacts(error=DOWN)}, "network"),
    ("no_unexplained_transfer", with_stripe(unexplained=(STRANGER,)), "--acknowledge tr_9 --replace"),
    ("no_unexplained_transfer", {"stripe": StripeFacts(error=DOWN)}, "network"),
    ("no_unexplained_transfer", {"due": None}, "ledger payout id"),
    ("stripe_balance", with_stripe(drawable=Money(125_074, "usd")), "Top up"),
    ("stripe_balance", with_stripe(available=Money(125_074, "usd"), drawable=None), "Top up"),
    ("balance_age", {"balance": None}, "balance"),
    ("ledger_payout_due", {"due": None}, "due"),
    ("stripe_balance", with_stripe(available=None), ""),
    ("stripe_balance", {"stripe": StripeFacts(error=DOWN)}, "network"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "facts", "remedy"), NO_GO, ids=[f"{at}-{one[0]}" for at, one in enumerate(NO_GO)])
def test_rule_says_no_to_its_fact_and_what_to_do(name, facts, remedy):
    """Each rule stops the payout for each fact that it is about, says what was found, and names the way on."""
    check = failing(**facts)[name]

    assert check.found
    assert check.expected
    assert check.remedy
    assert remedy in check.remedy


def test_every_rule_has_a_fact_that_breaks_it():
    """No rule is for show."""
    # What was shown is compared in test_shown.py.
    only_warns = {policy.REHEARSAL, "facts_as_shown"}

    assert {check.name for check in judged()} - only_warns == {name for name, _, _ in NO_GO}


@pytest.mark.parametrize("mode", Mode)
def test_rehearsal_is_asked_for_in_live_mode_only_and_stops_nothing(mode):
    """A warning, with the reason and what to do; where no real money moves it says that nothing is asked."""
    found = RehearsalStanding(False, "none is on record", "Rehearse.", None)
    for standing in (found, None):
        check = next(one for one in judged(mode=mode, rehearsal=standing) if one.name == policy.REHEARSAL)

        assert not check.stops
        assert (CheckStatus.WARN if mode is Mode.LIVE else CheckStatus.OK) is check.status
        assert ("recorded under the operator's name" in check.remedy) is (mode is Mode.LIVE)
        assert ("no real money moves" in check.found) is (mode is not Mode.LIVE)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "request": st.none(), "due": st.none(), "balance": st.none(),
            "approval_error": st.just(ApprovalError("No.", "Ask.")),
            "stripe": st.sampled_from([StripeFacts(), StripeFacts(error=DOWN), replace(STRIPE, available=None)]),
            "record": st.sampled_from([record(state) for state in State]),
            "mode": st.sampled_from(list(Mode)),
        },
    ).filter(bool)
)  # fmt: skip
def test_missing_facts_never_fail_to_be_judged_and_never_make_a_go(changes):
    """Whatever is missing, every rule answers; GO is left only where a record that has begun explains it."""
    checks = judged(**changes)
    missing = {name for name in changes if name != "record" and changes[name] is not Mode.SANDBOX}

    assert len(policy.PAYOUT_RULES) == len(checks)
    assert all(check.remedy for check in checks if check.stops)
    assert not missing or any(check.stops for check in checks)


@pytest.mark.parametrize("error", [None, DOWN])
@pytest.mark.parametrize("name", [one.name for one in fields(StripeFacts) if one.name != "error"])
def test_no_fact_of_stripe_can_be_left_out(name, error):
    """The defaults of what Stripe shows are those that say no, wherever a yes depends on them; one of them warns."""
    default = {one.name: one.default for one in fields(StripeFacts)}[name]
    harmless = {"key_livemode", "livemode", "foreign_transfers", "own_transfer", "drawable", "unexplained"}
    stops = failing(**with_stripe(**{name: default, "error": error}))

    assert bool(stops) is (error is not None or name not in harmless)


def test_ledger_that_changed_currency_is_seen():
    """The same digits in another currency are another amount, though typed values agree with both sides."""
    due = replace(DUE, currency="eur")
    stops = failing(
        due=due,
        balance=replace(BALANCE, currency="eur"),
        **with_stripe(available=Money(10**6, "eur"), drawable=Money(10**6, "eur")),
    )

    assert "amount_as_on_file" in stops
    assert "filed as 1,250.75 USD" in stops["amount_as_on_file"].expected


def test_begun_sending_may_be_finished_after_its_request_expired():
    """What has begun is finished and recorded; only a new attempt needs a request in force."""
    late = {"at": REQUEST.expires_at + timedelta(days=3)}

    assert "request_in_force" not in failing(record=record(State.PAID), **late)
    assert "request_in_force" in failing(record=record(State.REFUSED), **late)


@pytest.mark.parametrize(
    ("claimed_by", "fine"), [("line-1", True), ("line-dead", True), ("line-2", False), (None, False)]
)
def test_claim_is_ours_dead_or_somebody_elses(claimed_by, fine):
    """A claim of this request or a dead one does not stop; anybody else's does."""
    stops = failing(dead_claims=("line-dead",), **with_due(standing="claimed", status="claimed", claimed_by=claimed_by))

    assert fine is ("ledger_payout_unpaid" not in stops)


def test_policys_floor_counts_where_it_is_higher_than_the_ledgers():
    """The larger of the two minimum reserves has to remain."""
    rules = RULES.model_copy(update={"request": RequestPolicy(reserve_minimum_minor={"usd": 31_001})})

    assert "reserve_minimum" in failing(rules)
    assert "310.01" in failing(rules)["reserve_minimum"].expected


@pytest.mark.parametrize(("limit", "stops"), [(125_075, False), (125_074, True)])
def test_ceiling_includes_its_amount(limit, stops):
    """At most means at most."""
    rules = RULES.model_copy(update={"request": RequestPolicy(amount_minor_max={"usd": limit})})

    assert stops is ("below_ceiling" in failing(rules))


def test_account_out_of_sight_is_a_warning_where_policy_says_so():
    """`if_visible` turns a hidden account into a warning, never a wrong one into a yes, nor a Stripe that is down."""
    rules = RULES.model_copy(update={"stripe": StripePolicy(platform_account=ACCOUNT, account_check="if_visible")})

    assert "account_is_right" not in failing(rules, **with_stripe(account_id=None))
    assert "account_is_right" in failing(rules, **with_stripe(account_id="acct_other"))
    assert "account_is_right" in failing(rules, stripe=StripeFacts(error=DOWN))


def test_money_that_left_is_not_missed_in_the_balance():
    """Where our own transfer shows, the balance it was taken from need not cover it again."""
    facts = with_stripe(available=Money(0, "usd"), drawable=Money(0, "usd"), own_transfer="tr_1")

    assert "stripe_balance" not in failing(record=record(State.SUBMITTING), **facts)


OTHER = {
    "incident_id": "INC-9", "studio_id": "x", "studio_name": "x", "ledger_payout_id": "x", "amount": "1250.76",
    "reserve_after": "0.00", "reason": Reason.OTHER, "destination_account": "acct_9", "notes": "x",
}  # fmt: skip


def test_equal_parameters_do_not_differ():
    """As filed, they are the request."""
    assert [] == differences(TYPED, REQUEST)


def test_every_field_that_differs_is_named():
    """Each field that a person types, by itself and all at once."""
    each = [differences(replace(TYPED, **{name: value}), REQUEST)[0][0] for name, value in OTHER.items()]

    assert list(OTHER) == each == [name for name, *_ in differences(replace(TYPED, **OTHER), REQUEST)]


def test_refusal_counts_and_names_every_no():
    """Whoever corrects one thing does not meet the next one only then: each is there, and what to do about it."""
    found = Verification(GOOD, judged(request=None, due=None))
    with pytest.raises(PolicyRefusedError, match=r"NO-GO \(\d+ checks say no\)\. Is there an incident") as caught:
        found.require_go()

    failed = [check for check in found.checks if check.stops]
    assert not found.go
    assert [] == [check.name for check in failed if check.question not in caught.value.message]
    assert [] == [check.name for check in failed if check.remedy not in caught.value.remedy]


@pytest.mark.parametrize(("found", "told"), [("none", "; found none."), ("It is gone.", "; found: It is gone.")])
def test_refusal_ends_each_sentence_once(found, told):
    """What was found is a phrase or a sentence of its own; neither ends in two full stops."""
    check = Check("a", "Is it there?", CheckStatus.FAIL, "one", found, "Look.")
    with pytest.raises(PolicyRefusedError) as caught:
        Verification(GOOD, (check,)).require_go()

    assert f"NO-GO. Is it there? Expected one{told}" == caught.value.message


def test_exception_for_one_question_is_for_that_one_only():
    """Reconcile may leave out the question that it answers itself, and no other."""
    Verification(GOOD, judged(record=record(State.UNKNOWN))).require_go(but=frozenset({"outcome_known"}))
    with pytest.raises(PolicyRefusedError):
        Verification(GOOD, judged(record=record(State.UNKNOWN), due=None)).require_go(but=frozenset({"outcome_known"}))


# ---------------------------------------------------------------------------------------------- facts fetched afresh


def test_scene_is_a_go(any_scene):
    """The demo incident as approved passes every check, against ledger, database and Stripe."""
    found = verify(any_scene.desk, any_scene.live(), any_scene.operator.person_id)

    assert [] == [(check.name, check.found) for check in found.checks if check.status is not CheckStatus.OK]
    assert [] == any_scene.posts


def test_paid_record_stays_a_go(scene):
    """After the payout, a day later, under expired approvals, the verification of what was done still stands."""
    scene.send()
    scene.pass_time(hours=30)
    found = verify(scene.desk, scene.live(), scene.operator.person_id)

    assert found.go
    assert scene.transfers[0].id == found.facts.stripe.own_transfer


def test_transfer_of_another_line_is_foreign(scene):
    """A transfer in the ledger payout's group that is not ours stops, unless it was reversed in full."""
    gateway = scene.desk.gateway
    payload = {"amount": 100, "currency": "usd", "destination": "acct_123"}
    gateway.create_transfer(
        payload | {"transfer_group": f"manual-payout-{incident.LEDGER_PAYOUT_ID}"}, idempotency_key="k"
    )
    stopped = verify(scene.desk, scene.live(), scene.operator.person_id)
    scene.transfers[0].amount_reversed = 100
    free = verify(scene.desk, scene.live(), scene.operator.person_id)

    assert ["no_transfer_in_group"] == [check.name for check in stopped.checks if check.stops]
    assert free.go


def test_stripe_that_is_down_is_unknown_not_ok(scene):
    """What could not be asked is shown as unknown, with why; the other checks are answered all the same."""
    scene.stripe.fault("drop_before", method="GET", path="/v1", times=9)
    found = verify(scene.desk, scene.live(), scene.operator.person_id)
    by_status = {check.name: check.status for check in found.checks}

    assert CheckStatus.UNKNOWN is by_status["no_transfer_in_group"]
    assert CheckStatus.UNKNOWN is by_status["stripe_balance"]
    assert CheckStatus.OK is by_status["reserve_arithmetic"]
    assert not found.go


def test_nothing_filed_is_a_no_go_and_no_error(scene):
    """Before the request there is a list of what is missing, not a traceback."""
    found = verify(scene.desk, scene.typed(incident_id="INC-999"), scene.operator.person_id)
    stops = {check.name for check in found.checks if check.stops}

    assert {"incident", "request_in_force", "same_as_requested", "approved_by_both_teams"} <= stops


# ---------------------------------------------------------------------------------------------- other transfers


def others_check(*others, acknowledged=(), **changes):
    """The answer about other transfers to the account, under a request that acknowledges some."""
    line = replace(LINE, acknowledged=acknowledged)
    given = {"request": replace(REQUEST, lines=(line,)), **with_stripe(unexplained=others)} | changes
    return {check.name: check for check in judged(**given)}["no_unexplained_transfer"]


@pytest.mark.parametrize("amount", [Money(125_074, "usd"), Money(125_075, "eur")])
def test_another_amount_or_currency_only_warns(amount):
    """It may be this payout with a mistake in it: the warning names id, amount and time, and asks who made it."""
    check = others_check(replace(STRANGER, amount=amount))

    assert CheckStatus.WARN is check.status
    assert f"tr_9 ({amount.grouped} on {AT:%Y-%m-%d %H:%M:%S} UTC)" in check.found
    assert "who made it" in check.remedy


def test_acknowledging_is_by_id_and_shown():
    """A request answers for the transfers that it names and for no other, whatever their amounts; those named are told."""
    later = replace(STRANGER, transfer_id="tr_10")
    check = others_check(STRANGER, acknowledged=("tr_9",))

    assert CheckStatus.OK is check.status
    assert check.found.startswith("none; acknowledged: tr_9 (")
    assert CheckStatus.FAIL is others_check(later, STRANGER, acknowledged=("tr_9",)).status
    assert CheckStatus.FAIL is others_check(later, acknowledged=("tr_1",)).status


def test_remedy_of_an_open_sending_can_be_followed():
    """Nobody can file another request while a sending is open; what is named then is what reconcile takes."""
    check = others_check(STRANGER, record=record(State.UNKNOWN))

    assert "--replace" not in check.remedy
    assert "--acknowledge tr_9" in check.remedy


# ------------------------------------------------------------------------------------------------- pinned rules

# What decides how long is waited and where a rehearsal's key goes, and never whether money moves.
NO_RULE = {"timeout_s": 7.0, "relay": True}
OTHERWISE = {
    "mode": Mode.TEST, "platform_account": "acct_other", "account_check": "if_visible", "amount_minor_max": {"usd": 1},
    "reserve_minimum_minor": {"usd": 1},
}  # fmt: skip


def test_every_rule_of_money_changes_the_digest_and_nothing_else_does():
    """An entry that is added to a pinned section is pinned with it; messages, settlement and monitoring are free."""
    pinned = {}
    for section in ("stripe", "request", "ledger"):
        rules = getattr(RULES, section)
        for name in type(rules).model_fields:
            was = getattr(rules, name)
            other = {**OTHERWISE, **NO_RULE}.get(name, was + 1 if isinstance(was, int) else f"{was}x")
            changed = RULES.model_copy(update={section: rules.model_copy(update={name: other})})
            pinned[name] = rules_digest(changed) != rules_digest(RULES)
    later = RULES.monitoring.model_copy(update={"payouts_max": 9})

    assert set(NO_RULE) == {name for name, counts in pinned.items() if not counts}
    assert rules_digest(RULES) == rules_digest(RULES.model_copy(update={"monitoring": later}))
