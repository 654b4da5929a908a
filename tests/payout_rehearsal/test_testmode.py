"""A rehearsal in Stripe's test mode, played against the sandbox posing as Stripe over HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

import local_stripe
from grounds import KEYS, Incident, approved, ground_on, settings_with
from manual_payout import transfer
from manual_payout.approval import verification
from manual_payout.desk.settings import Policy, read_policy
from manual_payout.domain.errors import ManualPayoutError, ParameterError, PolicyRefusedError, SettingsError
from manual_payout.domain.models import CheckStatus, Mode, Stage, State
from manual_payout.domain.money import Money
from manual_payout.steps.runner import kernel_environment
from payout_rehearsal import testmode
from payout_rehearsal.testmode import SCENES
from payout_rehearsal.testmode.policy import rehearsal_policy, write_policy
from payout_rehearsal.testmode.seeding import CURRENCY, Patience

ROOT = Path(__file__).parents[2]
SECRETS = [local_stripe.FALLBACK_KEY, local_stripe.READ_KEY, local_stripe.FULL_KEY]


@pytest.fixture(scope="module", name="stripe_books")
def _stripe_books():
    with local_stripe.running(start=None, ticking=True) as running:
        yield running


@pytest.fixture(scope="module", name="played")
def _played(stripe_books, tmp_path_factory):
    """The scene of the lost answer, from seeding to the closed incident; yields while the ground is open."""
    root, said = tmp_path_factory.mktemp("played"), []
    with ground_on(stripe_books, root, say=said.append) as ground:
        private = ground.desk.settings.signing_key
        night = Incident(ground, "answer-lost")
        ground.lose_answer()
        lost = night.live(), night.record.state
        reconciled = transfer.reconcile(ground.desk, night.record, night.operator).record.state
        yield ground, night, (lost, reconciled, night.live() + night.close()), said
    assert not private.exists()
    assert "7 connected accounts, which the next rehearsal uses again" in said[-1]


@pytest.fixture(scope="module", name="ground")
def _ground(stripe_books, played, tmp_path_factory):
    """The rehearsal after that one."""
    with ground_on(stripe_books, tmp_path_factory.mktemp("next")) as ground:
        yield ground


def test_lost_answer_is_unknown_then_found_then_finished_and_the_money_moves_once(played):
    """Exit 4 and nothing claimed; reconcile finds the transfer; the same command goes on to the end."""
    ground, night, ((live, state), reconciled, rest), _ = played

    assert [0, 0] == [stage.exit_code for stage in night.dry], [stage.message for stage in night.dry]
    assert ([0, 4], State.UNKNOWN) == ([stage.exit_code for stage in live], state)
    assert State.PAID is reconciled
    assert [0] * 6 == [stage.exit_code for stage in rest], [stage.message for stage in rest]
    assert 1 == ground.transfers(night.parameters.ledger_payout_id)
    assert ground.automation_pays(night.parameters.ledger_payout_id) is False


def test_answer_was_really_lost(played, stripe_books):
    """Stripe made the transfer and answered once; nobody heard it."""
    ground, night, _, _ = played
    asked = [
        one
        for one in stripe_books.requests
        if one.method == "POST" and one.params.get("transfer_group", "").endswith(night.parameters.ledger_payout_id)
    ]

    assert [("fallback", 200)] == [(one.key, one.status) for one in asked]
    assert 1 == ground._relay.lost


def test_evidence_is_of_test_mode_and_verifies_with_the_keys_of_the_rehearsal(played):
    """By the registry that stays beside it; and it says that a relay stood in between."""
    ground, night, _, _ = played
    parameters = night.parameters
    root = ground.desk.settings.outputs_dir
    folder = root / parameters.incident_id / parameters.ledger_payout_id
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    run = subprocess.run(
        [Path(sys.executable).with_name("manual-payout"), "verify", str(folder), "--mode", "test", "--json"],
        env=kept | {"MANUAL_PAYOUT_APPROVERS": str(root / "approvers.toml"), "MANUAL_PAYOUT_POLICY": str(root / "policy.toml")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 0 == run.returncode, run.stdout + run.stderr
    assert "a relay on this machine, test mode" in (folder / "2-execute-02.html").read_text("utf-8")


def test_no_key_is_left_anywhere(played):
    """Not in a file of the rehearsal, private signing keys among them; nor in what a notebook is given."""
    ground, _, _, said = played
    files = [path for path in ground.desk.settings.outputs_dir.rglob("*") if path.is_file()]
    environment = kernel_environment(ground.desk.settings)

    assert files
    assert [] == [(path, secret[-7:]) for path in files for secret in SECRETS if secret.encode() in path.read_bytes()]
    assert [] == [path for path in files if b"PRIVATE KEY" in path.read_bytes()]
    assert local_stripe.FALLBACK_KEY in environment.values()
    assert local_stripe.FULL_KEY not in environment.values()
    assert [] == [name for name in environment if name.startswith("STRIPE_REHEARSAL")]
    assert not [secret for secret in SECRETS if secret in f"{ground!r} {said}"]


def test_no_notebook_is_given_the_key_that_seeds(played, monkeypatch):
    """Whatever the shell exports; and the redactor knows it by value."""
    ground, _, _, _ = played
    for name in ("STRIPE_REHEARSAL_SECRET_KEY", "STRIPE_REHEARSAL_SECRET_KEY_COMMAND"):
        monkeypatch.setenv(name, local_stripe.FULL_KEY)
    environment = kernel_environment(ground.desk.settings)

    assert [] == [
        name for name, value in environment.items() if "REHEARSAL_SECRET" in name or local_stripe.FULL_KEY in value
    ]
    assert local_stripe.FULL_KEY not in ground.desk.redactor.redact(f"x{local_stripe.FULL_KEY}y")


def test_what_happens_is_said(played):
    """Account, studios, funds, and what of the policy is different."""
    ground, _, _, said = played

    assert f"platform account {local_stripe.PLATFORM_ACCOUNT}" in said[0]
    assert "Studios: 0 found from an earlier rehearsal, 7 made" == said[1]
    assert said[2].startswith("Funds: a test card was charged")
    assert any("settlement: done at settled_on_platform" in change for change in ground.changes)
    assert any("messages: to nobody" in change for change in ground.changes)


def test_desk_is_a_rehearsals_own(played):
    """Test mode, the platform account that was found out, the real clock, a database in the folder of the rehearsal."""
    ground, _, _, _ = played
    settings = ground.desk.settings

    assert (Mode.TEST, local_stripe.PLATFORM_ACCOUNT) == (settings.mode, settings.policy.stripe.platform_account)
    assert str(settings.outputs_dir / "rehearsal.sqlite") in settings.database_text()
    assert settings.database_text() == settings.ledger_database_text()
    assert "DatabaseClock" == type(ground.desk.clock).__name__
    assert settings.policy == read_policy(settings.policy_file)


def test_next_rehearsal_uses_the_same_studios_and_owes_other_payouts(played, ground, stripe_books):
    """Accounts do not pile up; and Stripe's list of an earlier payout is not that of the new one."""
    earlier, _, _, _ = played
    accounts = {name: seeded.account for name, seeded in ground.studios.items()}

    assert {name: seeded.account for name, seeded in earlier.studios.items()} == accounts
    assert "not_connected" not in accounts
    assert all(seeded.found for seeded in ground.studios.values())
    assert 7 == len(stripe_books.books.accounts)
    for scene in SCENES:
        assert earlier.case(scene).ledger_payout_id != ground.case(scene).ledger_payout_id
        assert 0 == ground.transfers(ground.case(scene).ledger_payout_id)


def test_every_scene_has_its_own_studio_payout_and_account(ground):
    """No scene touches another's money."""
    cases = [ground.case(scene) for scene in SCENES]

    for name in ("incident_id", "studio_id", "ledger_payout_id", "destination_account"):
        assert len(SCENES) == 8 == len({getattr(case, name) for case in cases})
    assert ground.case("payout_fails") == ground.case("failing-later")
    with pytest.raises(ParameterError, match="expected one of incident, answer_lost"):
        ground.case("nonsense")


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene not in {"not_connected", "payout_fails"}])
def test_every_scene_but_one_passes_the_verification(ground, scene):
    """Verified on the facts of this moment; where there is too little, that is the one thing that forbids it."""
    parameters = ground.case(scene)
    approved(ground, parameters)
    operator = ground.desk.registry.find(parameters.operator)
    checked = verification.verify(ground.desk, parameters, operator.person_id)
    forbidding = [check.name for check in checked.checks if check.status is CheckStatus.FAIL]

    assert (["stripe_balance"] if scene == "insufficient_balance" else []) == forbidding


def test_account_of_nobody_is_refused_by_stripe_and_nothing_moves(ground):
    """The refusal is on record as one."""
    night = Incident(ground, "not-connected")
    live = night.live()

    assert ([0, 3], State.REFUSED) == ([stage.exit_code for stage in live], night.record.state)
    assert "No such destination" in live[-1].message
    assert 0 == ground.transfers(night.parameters.ledger_payout_id)


def test_held_answer_leaves_time_and_arrives(ground, monkeypatch):
    """The transfer is at Stripe long before the run hears of it."""
    monkeypatch.setattr("payout_rehearsal.testmode.stripe_ground._HELD_S", 1.0)
    ground.hold_answer()
    order = {"amount": 100, "currency": "usd", "destination": ground.case("incident").destination_account}
    began = time.monotonic()
    made = ground.desk.gateway.create_transfer(order, idempotency_key="held")

    assert made.made["amount"] == 100
    assert time.monotonic() - began >= 1.0


def test_payout_to_the_bank_fails_afterwards_and_the_settlement_sees_it(ground, stripe_books):
    """By the studio's own bank account, on its behalf; the payout says which transfer it carries, and the studio is told."""
    night = Incident(ground, "failing-later")
    live = night.live((Stage.VERIFY, Stage.EXECUTE, Stage.LOG, Stage.NOTIFY))
    before = stripe_books.books.available(night.parameters.destination_account, "usd")
    ground.fail_bank_payout(night.parameters, night.record.stripe_transfer_id)
    payout = stripe_books.books.payouts[-1]
    (settled,) = night.live((Stage.SETTLE,))
    told = {message.kind for message in ground.desk.store.messages_of(night.record.payout_id)}

    assert [0] * 4 == [stage.exit_code for stage in live], [stage.message for stage in live]
    assert ("failed", "no_account") == (payout.status, payout.failure_code)
    assert before + payout.amount == stripe_books.books.available(night.parameters.destination_account, "usd")
    assert 7 == settled.exit_code, settled.message
    assert {"studio_email", "studio_failed"} <= told
    assert 1 == ground.transfers(night.parameters.ledger_payout_id)


def test_payout_of_another_scene_does_not_pass_for_a_failed_one(ground):
    """Where the bank takes the money, the ground says so."""
    parameters = ground.case("wrong_account")
    ground.desk.gateway.create_transfer(
        {
            "amount": parameters.amount_in("usd").amount_minor,
            "currency": "usd",
            "destination": parameters.destination_account,
        },
        idempotency_key="another rehearsal's",
    )
    with pytest.raises(ManualPayoutError, match="was to fail and is paid"):
        ground.fail_bank_payout(parameters, "tr_x")


def test_keys_to_sign_with_are_this_rehearsals_alone(ground, tmp_path, stripe_books):
    """Made anew for each, never one that anybody can make; the operator's file is its owner's alone."""
    with ground_on(stripe_books, tmp_path / "second") as second:
        assert ground.key_of("priya").fingerprint != second.key_of("priya").fingerprint
    file = ground.desk.settings.signing_key

    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert 0o700 == stat.S_IMODE(file.parent.stat().st_mode)
    assert [file.name] == sorted(path.stem for path in file.parent.iterdir() if path.suffix != ".pub")
    with pytest.raises(SettingsError, match="Nobody called 'greta' signs"):
        ground.key_of("greta")


LIVE_SK, LIVE_RK, PUBLISHABLE = "sk_live_" + "x" * 99, "rk_live_" + "x" * 99, "pk_test_" + "x" * 99
REFUSED = [
    ("rehearsal_key", LIVE_SK, "STRIPE_REHEARSAL_SECRET_KEY is a live key"),
    ("rehearsal_key", LIVE_RK, "STRIPE_REHEARSAL_SECRET_KEY is a live key"),
    ("rehearsal_key", PUBLISHABLE, "STRIPE_REHEARSAL_SECRET_KEY is neither"),
    ("rehearsal_key", "nonsense", "STRIPE_REHEARSAL_SECRET_KEY is neither"),
    ("rehearsal_key", None, "STRIPE_REHEARSAL_SECRET_KEY is not set"),
    ("rehearsal_key", "", "STRIPE_REHEARSAL_SECRET_KEY is not set"),
    ("rehearsal_key", local_stripe.FALLBACK_KEY, "are the same key"),
    ("fallback_key", LIVE_SK, "STRIPE_FALLBACK_SECRET_KEY is a live key"),
    ("fallback_key", LIVE_RK, "STRIPE_FALLBACK_SECRET_KEY is a live key"),
    ("fallback_key", PUBLISHABLE, "STRIPE_FALLBACK_SECRET_KEY is neither"),
    ("fallback_key", None, "STRIPE_FALLBACK_SECRET_KEY is not set"),
    ("fallback_key", "sk_test_" + "x" * 99, "STRIPE_FALLBACK_SECRET_KEY is an unrestricted test key"),
    ("read_key", LIVE_RK, "STRIPE_READ_SECRET_KEY is a live key"),
    ("read_key", PUBLISHABLE, "STRIPE_READ_SECRET_KEY is neither"),
]


@pytest.mark.parametrize(("name", "key", "said"), REFUSED)
def test_key_that_is_not_fit_is_refused_before_a_socket_is_opened(tmp_path, name, key, said):
    """In one sentence that shows none of it, with exit code 2; nobody knocks, and nothing is written."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            pytest.raises(SettingsError, match=said) as caught,
            ground_on(address, tmp_path / "r", settings_with(**{name: key})),
        ):
            pass
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()

    assert 2 == caught.value.exit_code
    assert "xxxxx" not in str(caught.value)
    assert not (tmp_path / "r").exists()


@contextlib.contextmanager
def pretender(**answers):
    """A Stripe that says about its keys whatever it is told, by the end of the path; yields its address and the paths asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append((self.command, self.path))
            key = self.headers["Authorization"].removeprefix("Bearer ")
            answer = answers[self.path.rsplit("/", 1)[-1]](key)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def balance(*, live):
    return {"object": "balance", "livemode": live, "available": [], "pending": []}


def platform(account, country="US"):
    return {"object": "account", "id": account, "country": country}


@pytest.mark.parametrize("live", KEYS.values(), ids=KEYS)
def test_key_that_stripe_itself_calls_live_ends_it(tmp_path, live):
    """Whatever its prefix says; after reads alone."""
    with (
        pretender(balance=lambda key: balance(live=key == live), account=lambda _: platform("acct_1")) as (
            address,
            asked,
        ),
        pytest.raises(PolicyRefusedError, match=r"Stripe says that the key in STRIPE_\w+ is live") as caught,
        ground_on(address, tmp_path),
    ):
        pass

    assert 3 == caught.value.exit_code
    assert {"GET"} == {method for method, _ in asked}


@pytest.mark.parametrize("other", [local_stripe.FALLBACK_KEY, local_stripe.READ_KEY], ids=["fallback", "read"])
def test_keys_of_two_platforms_end_it(tmp_path, other):
    """Otherwise one platform would be seeded and another would pay."""
    with (
        pretender(
            balance=lambda _: balance(live=False),
            account=lambda key: platform("acct_other" if key == other else "acct_1"),
        ) as (address, asked),
        pytest.raises(PolicyRefusedError, match="belongs to acct_other, STRIPE_REHEARSAL_SECRET_KEY to acct_1"),
        ground_on(address, tmp_path),
    ):
        pass

    assert {"GET"} == {method for method, _ in asked}


def test_platform_elsewhere_is_told_where_a_rehearsal_can_be(tmp_path):
    """The bank accounts that fail on purpose are those of one country."""
    with (
        pretender(balance=lambda _: balance(live=False), account=lambda _: platform("acct_1", "DE")) as (address, _),
        pytest.raises(SettingsError, match="The platform acct_1 is in DE, and a rehearsal seeds studios in US alone"),
        ground_on(address, tmp_path),
    ):
        pass


def test_stripe_without_end_is_not_waited_for_forever(tmp_path):
    """A studio whose owner is not checked in time ends the seeding, as something that is not finished."""
    with local_stripe.running(start=None, ticking=True) as running:
        running.switch(slow_verification=True)
        with (
            pytest.raises(ManualPayoutError, match="may not receive transfers") as caught,
            ground_on(running, tmp_path, patience=Patience(active_s=10, look_s=3)),
        ):
            pass

    assert 6 == caught.value.exit_code


def test_platform_that_may_use_v2_alone_is_seeded_by_it(tmp_path):
    """The same ground, on accounts made the other way; and found again."""
    with local_stripe.running(start=None, ticking=True) as running:
        running.switch(accounts_v1=False)
        for attempt in ("first", "second"):
            with ground_on(running, tmp_path / attempt, scenes=("incident", "payout_fails")) as ground:
                assert {(2, attempt == "second")} == {(one.version, one.found) for one in ground.studios.values()}

        assert 2 == len(running.books.accounts)


# The policy of a rehearsal.

REVIEWED = """
[stripe]
mode = "live"
platform_account = "acct_1Live"
account_check = "if_visible"
timeout_s = 12.5

[request]
approval_lifetime_s = 900

[request.amount_minor_max]
usd = 1000
eur = 7

[ledger]
payouts_relation = "reporting.payouts"

[messages]
rehearsal_email = "drill@marketplace.example"
support_from = "\\"Support\\" <support@marketplace.example>"
"""


@pytest.fixture(name="reviewed")
def _reviewed(tmp_path):
    """The settings of a user with a reviewed policy for live mode."""
    file = tmp_path / "reviewed.toml"
    file.write_text(REVIEWED)
    return settings_with(policy_file=file)


def test_reviewed_policy_is_kept_but_for_what_test_mode_needs(reviewed):
    """Lifetimes, other ceilings and the readers of a rehearsal stay; mode, account, ledger and the last rung do not."""
    policy, said = rehearsal_policy(reviewed, "acct_1Test", Money(500_000, "usd"))

    assert (Mode.TEST, "acct_1Test", "if_visible", 12.5) == (
        policy.stripe.mode, policy.stripe.platform_account, policy.stripe.account_check, policy.stripe.timeout_s,
    )  # fmt: skip
    assert 900 == policy.request.approval_lifetime_s
    assert {"usd": 500_000, "eur": 7} == policy.request.amount_minor_max
    assert "drill@marketplace.example" == policy.messages.rehearsal_email
    assert Policy().ledger == policy.ledger
    assert {"stripe", "ledger", "settlement", "request"} == {sentence.partition(":")[0] for sentence in said}


def test_nobody_is_written_to_without_a_policy_of_the_users_own():
    """The demo's readers do not exist."""
    policy, said = rehearsal_policy(settings_with(), "acct_1Test", Money(1, "usd"))

    assert "" == policy.messages.rehearsal_email
    assert "messages: to nobody" in said[-1]


def test_policy_is_read_back_as_it_was_written(reviewed, tmp_path):
    """What the notebooks read is what the rehearsal meant; what was changed stands above it."""
    policy, said = rehearsal_policy(reviewed, "acct_1Test", Money(500_000, "usd"))
    file = tmp_path / "policy.toml"
    write_policy(file, policy, said)

    assert policy == read_policy(file)
    assert all(f"# {sentence}\n" in file.read_text("utf-8") for sentence in said)


def test_settings_of_the_user_reach_the_rehearsal_only_where_they_should(stripe_books, tmp_path):
    """Rehearsal messengers come along where a policy says to whom; the databases of the user are not touched."""
    given = {
        "database_url": SecretStr("postgresql://payer:topsecretpw@127.0.0.1:1/live"),
        "ledger_database_url": SecretStr("postgresql://payer:topsecretpw@127.0.0.1:1/ledger"),
        "slack_rehearsal_bot_token": SecretStr("xoxb-rehearsal-0123456789"),
    }
    (tmp_path / "policy.toml").write_text("[stripe]\nmode = 'test'\n")
    tokens = {}
    for name, policy_file in (("reviewed", tmp_path / "policy.toml"), ("none", None)):
        settings = settings_with(**given, policy_file=policy_file)
        with ground_on(stripe_books, tmp_path / name, settings) as ground:
            own = ground.desk.settings
            tokens[name] = own.slack_secrets(Mode.TEST)[0]
        assert "topsecretpw" not in own.database_text() + own.ledger_database_text()

    assert {"reviewed": "xoxb-rehearsal-0123456789", "none": None} == tokens


def test_least_reserve_of_the_policy_does_not_refuse_the_demos_studios(reviewed):
    """A floor above what they keep is lowered, and that is said; another currency's stays."""
    request = reviewed.policy.request.model_copy(update={"reserve_minimum_minor": {CURRENCY: 50_000, "eur": 7}})
    high = reviewed.model_copy(update={"policy": reviewed.policy.model_copy(update={"request": request})})
    policy, said = rehearsal_policy(high, "acct_1Test", Money(1, "usd"))

    assert {CURRENCY: 31_000, "eur": 7} == policy.request.reserve_minimum_minor
    assert "request: the least reserve is 310.00 USD, which the demo's studios keep" in said


def test_private_keys_of_a_killed_rehearsal_are_removed_by_whoever_began_it(stripe_books, tmp_path, monkeypatch):
    """A killed kernel removes nothing; the folder is known by that of the rehearsal, and nobody else may enter it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ground_on(stripe_books, tmp_path / "r") as ground:
        (private,) = tmp_path.glob("rehearsal-*")
        assert [0o700, True] == [private.stat().st_mode & 0o777, ground.cast.operators_key.parent == private]
        testmode.forget(tmp_path / "r")
        assert not private.exists()
