"""What the command line says last, and with which exit code it ends, in the worst minute."""

from __future__ import annotations

import contextlib
import gc
import json
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.crash.kills.postmaster import Server

from local_stripe import SandboxAccount
from payout_rehearsal.demo import incident
from shells import live_command

FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
# One worker runs the notebooks once.
RETURNED = pytest.mark.xdist_group("last_word_returned")


def ready(shell):
    """Request, approvals, dry run: the command that goes live, for one stage."""
    shell.request()
    for who in ("priya", "amara"):
        given = ["--amount", incident.AMOUNT, "--destination-last4", incident.DESTINATION_ACCOUNT[-4:]]
        shell("approve", incident.INCIDENT_ID, "--as", who, *given)
    file = shell.root / FOLDER / "incident.yaml"
    shell.file = file
    dry = shell("run", "-f", file, "--operator", "tomas", "--dry-run")
    assert 0 == dry.code, dry.said
    return live_command(dry)


def stage(shell, name, *more):
    """Run one stage again."""
    return shell("run", "-f", shell.file, "--operator", "tomas", "--stage", name, *more)


@pytest.fixture(scope="module", name="returned")
def _returned(open_shell, tmp_path_factory):
    """A payout that the studio's bank has sent back, and what every command then says."""
    with open_shell(tmp_path_factory.mktemp("returned")) as shell:
        live = ready(shell)
        shell.sent = shell(*live, "--stage", "execute")
        shell.paid = shell(*live, "--stage", "execute", "--json")
        shell.verified = stage(shell, "verify", "--json")
        shell.stripe.seed([SandboxAccount(incident.DESTINATION_ACCOUNT, bank="fails", payout_schedule="daily")])
        shell.stripe.advance(4 * 86_400)
        shell.settled = stage(shell, "settle")
        shell.again = stage(shell, "execute", *live[live.index("--confirm") :], "--json")
        shell.other = stage(shell, "verify", "--amount", "1250.76")
        shell.reconciled = shell("reconcile", incident.INCIDENT_ID, "--operator", "tomas")
        shell.stands = shell("status", incident.INCIDENT_ID)
        shell.told = json.loads(shell("status", "--json").out)
        yield shell


@RETURNED
def test_the_last_line_of_a_run_says_where_the_money_is(returned):
    """Amount, account, transfer."""
    assert 0 == returned.sent.code, returned.sent.said
    assert (
        f"Where the money is: 1,250.75 USD moved to {incident.DESTINATION_ACCOUNT} as "
        in returned.sent.out.splitlines()[-1]
    )
    assert made(returned) in returned.sent.out.splitlines()[-1]


@RETURNED
def test_what_was_paid_before_is_done_and_says_so(returned):
    """The same command again: exit 0, and for a program the state and that it may be repeated."""
    told = json.loads(returned.paid.out)

    assert (0, "paid", True) == (returned.paid.code, told["state"], told["safe_to_repeat"])
    assert "Already sent" == told["stages"][0]["verdict"]


@RETURNED
def test_a_paid_payout_is_never_go(returned):
    """GO says that a send would be admitted now; of what was sent, its state is said."""
    told = json.loads(returned.verified.out)

    assert 0 == returned.verified.code
    assert f"Paid: {made(returned)}" == told["stages"][0]["verdict"]
    page = next((returned.root / FOLDER).glob("1-verify-02.html")).read_text()
    assert "GO: all" not in page
    assert "Nothing more will be sent" in page


@RETURNED
def test_what_the_bank_sent_back_is_7_in_every_command(returned):
    """A person must act, and never send again: by settle, by the same command again, by reconcile."""
    again = json.loads(returned.again.out)

    assert [7, 7, 7] == [one.code for one in (returned.settled, returned.again, returned.reconciled)]
    assert ("returned", False) == (again["state"], again["safe_to_repeat"])
    for answer in (returned.settled, returned.reconciled):
        assert "Moved, and did not arrive: " in answer.err
        assert "never send it again" in answer.err
        assert "nothing moved" not in answer.said
    assert 1 == len(returned.stripe.books.transfers)


@RETURNED
def test_other_values_than_were_paid_are_2_and_say_that_it_was_paid(returned):
    """No gate refused anything: something else was typed."""
    assert 2 == returned.other.code, returned.other.said
    assert "1,250.76" in returned.other.err
    assert "Where the money is: 1,250.75 USD moved to" in returned.other.err


@RETURNED
def test_status_says_that_it_came_back(returned):
    """Not the last rung that was reached."""
    assert "failed at the bank" in returned.stands.out
    assert "did not arrive" in returned.stands.out
    assert [("returned", False)] == [(row["state"], row["safe_to_repeat"]) for row in returned.told]
    assert "did not arrive" in returned.told[0]["money"]


def test_a_lost_answer_is_4_by_the_same_command_too(shell):
    """Not 3 and nothing moved: until reconcile has asked Stripe, every command says so."""
    live = ready(shell)
    shell.stripe.fault("drop_after", then_silent=9)
    first = shell(*live, "--stage", "execute")
    again = shell(*live, "--json")

    assert [4, 4] == [first.code, again.code], first.said + again.said
    assert "manual-payout reconcile INC-123" in first.err
    told = json.loads(again.out)
    assert ("unknown", False, ["1-verify"]) == (
        told["state"],
        told["safe_to_repeat"],
        [s["stage"] for s in told["stages"]],
    )
    assert "Outcome unknown" == json.loads(again.err[again.err.index("{") :])["error"]


# ------------------------------------------------------------------------------------------------- the worst minute


@contextlib.contextmanager
def once_sent(shell, strike):
    """Strike when Stripe has made the transfer, while its answer is still on its way."""
    shell.stripe.fault("slow", method="POST", path="/v1/transfers", seconds=3)

    def wait():
        deadline = time.monotonic() + 120
        while not shell.stripe.books.transfers and time.monotonic() < deadline:
            time.sleep(0.02)
        strike()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def made(shell):
    """The only transfer in Stripe's books."""
    (transfer,) = shell.stripe.books.transfers
    return transfer.id


@contextlib.contextmanager
def losing_database(shell, kind, folder):
    """Give the shell a database that can be lost and brought back: a file that is overwritten, a server that is shot."""
    if kind == "sqlite":
        file, kept = Path(shell.desk.settings.database_text().partition("///")[2]), []

        def vanish():
            kept.append(file.read_bytes())
            file.write_bytes(b"gone" * 4096)

        yield vanish, lambda: file.write_bytes(kept[0])
        return
    server = Server(folder)
    try:
        shell.environment["DATABASE_URL"] = server.uri
        assert 0 == shell("db", "upgrade").code
        yield lambda: server.shoot(random.Random(0)), server.restart
    finally:
        server.close()
        # A command leaves its connections to the end of its process, which is this one's here.
        gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_database_that_goes_away_when_stripe_answers_is_4_with_id_key_and_command(shell, kind, tmp_path_factory):
    """On the screen and in the notebook; what could not be recorded never hides what happened, and reconcile finds it."""
    with losing_database(shell, kind, tmp_path_factory.mktemp("pg")) as (vanish, restore):
        live = ready(shell)
        with once_sent(shell, vanish):
            answer = shell(*live)
        executed = (shell.root / FOLDER / "2-execute-02.ipynb").read_text("utf-8")
        restore()
        found = shell("reconcile", incident.INCIDENT_ID, "--operator", "tomas")

    assert 4 == answer.code, answer.said
    for said in (answer.err, executed):
        assert made(shell) in said
        assert "under the key" in said
        assert "manual-payout reconcile INC-123" in said
    assert "run the same command again" not in answer.err
    assert "2-execute  failed" in answer.out
    assert (0, 1) == (found.code, len(shell.stripe.books.transfers)), found.said
    assert made(shell) in found.out


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """Mount a disk of that size there."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_evidence_disk_that_is_full_when_stripe_answers_hides_nothing(shell):
    """Really full, not a byte left: exit 5, with the table of stages, the transfer, and where the money is."""
    folder = shell.root / incident.INCIDENT_ID
    folder.mkdir(exist_ok=True)

    def fill():
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    with small_disk(folder, 16):
        live = ready(shell)
        with once_sent(shell, fill):
            answer = shell(*live)

    assert 5 == answer.code, answer.said
    assert "2-execute" in answer.out
    assert made(shell) in answer.err
    assert "Where the money is: 1,250.75 USD moved to" in answer.err


def test_evidence_folder_that_fails_when_stripe_answers_hides_nothing(shell):
    """The money is on record: exit 5, with the table of stages, the transfer, and where the money is."""
    live = ready(shell)
    folder = shell.root / FOLDER

    def fail():
        folder.rename(folder.with_name("moved-away"))
        folder.write_text("no folder")

    with once_sent(shell, fail):
        answer = shell(*live, "--json")
    told = json.loads(answer.out)

    assert 5 == answer.code, answer.said
    assert ["1-verify", "2-execute"] == [one["stage"] for one in told["stages"]]
    assert ("paid", True) == (told["state"], told["safe_to_repeat"])
    assert made(shell) in told["message"]
    assert made(shell) in answer.err


def test_ctrl_c_in_the_send_says_that_the_outcome_is_open_and_the_command(shell):
    """Not only that it was stopped."""
    live = ready(shell)
    # A suite that was started in the background of a shell has been told to ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with once_sent(shell, lambda: signal.raise_signal(signal.SIGINT)):
            answer = shell(*live, "--stage", "execute")
    finally:
        signal.signal(signal.SIGINT, before)

    assert 130 == answer.code, answer.said
    assert "The outcome is open" in answer.err
    assert "manual-payout reconcile INC-123" in answer.err


@pytest.mark.parametrize(
    ("kind", "said", "code"),
    [("drop_before", "Check the network", 3), ("rate_limit", "Wait a minute", 3), ("key", "Check out the current", 3)],
)
def test_stripe_that_cannot_be_asked_is_answered_with_its_own_remedy(shell, kind, said, code):
    """Unreachable, too many requests, a wrong key: nobody is told to grant a permission for it; and Stripe refused nothing."""
    shell.request()
    for who in ("priya", "amara"):
        given = ["--amount", incident.AMOUNT, "--destination-last4", incident.DESTINATION_ACCOUNT[-4:]]
        shell("approve", incident.INCIDENT_ID, "--as", who, *given)
    if kind == "key":
        shell.stripe.switch(expired_keys=frozenset({"fallback"}))
    else:
        shell.stripe.fault(kind, method="GET", times=99)
    answer = shell("run", "-f", shell.root / FOLDER / "incident.yaml", "--operator", "tomas", "--dry-run")

    assert code == answer.code, answer.said
    assert said in answer.err
    assert "Accounts: Read" not in answer.said
    assert answer.err.splitlines()[-1] == "Where the money is: Nothing of this payout has moved."
    assert [] == [*(shell.root / FOLDER).glob("stripe-refusal*")]
