"""What a key may do beyond transfers and balance is found out with reads alone, and said."""

from __future__ import annotations

import pytest

import local_stripe
from manual_payout.approval.verification import verify
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import PolicyRefusedError
from manual_payout.domain.models import CheckStatus
from manual_payout.gateway import Gateway
from manual_payout.gateway.privileges import least_privilege, try_key

STUDIO = "acct_123"


@pytest.fixture(name="stripe_books")
def _stripe_books(shared_stripe):
    shared_stripe.reset()
    return shared_stripe


def tried(books, key, account=STUDIO, timeout_s=5):
    """What trying *key* shows."""
    return try_key(Gateway(key, base_url=books.base_url, timeout_s=timeout_s), account)


def test_the_fallback_key_is_denied_everything_else(stripe_books):
    """The key of the SOP: fifteen questions, fifteen refusals, and the check is ok."""
    seen = tried(stripe_books, local_stripe.FALLBACK_KEY)
    check = least_privilege(seen)

    assert ((), (), 15) == (seen.open_to_it, seen.unknown, len(seen.denied))
    assert (CheckStatus.OK, "all 15 denied", "") == (check.status, check.found, check.remedy)


def test_a_wider_key_is_named_with_all_that_it_opens(stripe_books):
    """Payouts may be written and are therefore readable; the connected column is tried for itself. It warns, no more."""
    seen = tried(stripe_books, local_stripe.WIDE_KEY)
    check = least_privilege(seen)

    assert ("payouts", "customers", "charges of connected accounts") == seen.open_to_it
    assert CheckStatus.WARN is check.status
    assert not check.stops
    assert "it may read, and perhaps write: payouts, customers, charges of connected accounts" == check.found
    assert "Have Security narrow the key" in check.remedy


def test_trying_the_key_writes_nothing(stripe_books):
    """Every request is a GET of one entry, and each kind of thing is asked for once."""
    before = len(stripe_books.requests)
    tried(stripe_books, local_stripe.FULL_KEY)
    made = stripe_books.requests[before:]

    assert {"GET"} == {request.method for request in made}
    assert 15 == len(made)


def test_an_unrestricted_key_opens_everything(stripe_books):
    """What cannot be denied is listed in full."""
    seen = tried(stripe_books, local_stripe.FULL_KEY)

    assert ((), ()) == (seen.denied, seen.unknown)
    assert 15 == len(seen.open_to_it)


def test_a_stripe_that_is_down_is_asked_once_and_nothing_is_claimed(stripe_books):
    """An unanswered question is neither yes nor no; fourteen more timeouts would only keep the operator waiting."""
    seen = try_key(Gateway(local_stripe.FALLBACK_KEY, base_url="http://127.0.0.1:9", timeout_s=1), STUDIO)
    check = least_privilege(seen)

    assert ((), (), 15) == (seen.open_to_it, seen.denied, len(seen.unknown))
    assert (CheckStatus.WARN, False) == (check.status, check.stops)
    assert "15 could not be found out (Stripe cannot be reached, so nothing can be verified)" in check.found


def test_a_key_that_is_not_accepted_is_asked_once(stripe_books):
    """A rotated key says nothing about permissions."""
    before = len(stripe_books.requests)
    seen = tried(stripe_books, "rk_test_51nobodysKeyAtAll0000")

    assert 15 == len(seen.unknown)
    assert 1 == len(stripe_books.requests) - before


def test_an_unrestricted_key_is_refused_by_the_verification_that_the_send_makes_too(scene):
    """An sk_ key never pays, in no mode: the check is among those of the gate inside the send."""
    desk = Desk(scene.settings, scene.desk.clock, scene.desk.store, scene.desk.ledger, scene.desk.registry)
    desk.gateway = Gateway(local_stripe.FULL_KEY, base_url=scene.stripe.base_url, timeout_s=5)
    found = verify(desk, scene.typed(), scene.operator.person_id)

    assert ["key_is_right"] == [check.name for check in found.checks if check.stops]
    before = len(scene.transfers)
    with pytest.raises(PolicyRefusedError, match="Is the key restricted"):
        scene.send(desk)
    assert before == len(scene.transfers)


def test_the_notebook_shows_the_check_and_goes_on(scene):
    """1-verify with a wide key: GO, one warning, and what it opens stands in the table and in the journal."""
    from manual_payout.domain.models import Stage
    from manual_payout.evidence.folder import Folder
    from manual_payout.steps.run import Run
    from manual_payout.steps.verification import verify as verify_step
    from truthful_papermill.redaction import Redactor

    desk = scene.new_desk()
    desk.gateway = Gateway(local_stripe.WIDE_KEY, base_url=scene.stripe.base_url, timeout_s=5)
    folder = Folder(scene.settings.outputs_dir / "INC-123", Redactor([]))
    run = Run(Stage.VERIFY, scene.typed(), desk, scene.operator, folder)
    table = verify_step(run)

    assert "GO: all 25 checks allow this payout, 1 with a warning." == table.caption
    assert (None, "GO", "warn") == (run.refusal, run.verdict, run.findings["checks"]["least_privilege"])
    assert "warn" == scene.events("verified")[-1].data["checks"]["least_privilege"]
