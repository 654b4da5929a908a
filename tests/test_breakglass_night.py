"""A night under break-glass on the command line: every notebook, a real PagerDuty's door, the sealed folder, two verifiers."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import ssl
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
import trustme
from tests import tamper
from tests.outbox.servers import PagerDuty, Slack, running

from manual_payout import verifier
from manual_payout.canonical import digest_of
from manual_payout.demo import automation, incident
from manual_payout.rehearsal import CLOSING
from manual_payout.settings import DEMO_APPROVERS
from manual_payout.signing import judge_of, sandbox_key

POLICY = (Path(verifier.__file__).parent / "demo" / "policy.toml").read_text("utf-8")
GLASS = """
[break_glass]
enabled = true
hold_s = 1800
owner = "jonas"
[break_glass.amount_minor_max]
usd = 200000
"""
FOLDER = Path(incident.INCIDENT_ID) / incident.LEDGER_PAYOUT_ID
TYPED = ("--amount", incident.AMOUNT, "--destination-last4", incident.DESTINATION_ACCOUNT[-4:])
BECAUSE = "both of Finance are on one flight"
CLOSE = (
    "--automation-restored", "--root-cause", CLOSING["root_cause"], "--follow-ups", CLOSING["follow_ups"],
    "--access-review-on", CLOSING["access_review_on"],
)  # fmt: skip


@contextlib.contextmanager
def services(root, shell):
    """Slack and PagerDuty, configured for rehearsals, and a policy that allows break-glass."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(root / "ca.pem")
    (root / "policy.toml").write_text(POLICY + GLASS)
    with running(Slack()) as slack, running(PagerDuty(context)) as pagerduty:
        shell.environment |= {
            "MANUAL_PAYOUT_POLICY": str(root / "policy.toml"),
            "PAGERDUTY_REHEARSAL_ROUTING_KEY": "REHEARSALKEY",
            "PAGERDUTY_EVENTS_BASE": pagerduty.url,
            "SLACK_REHEARSAL_BOT_TOKEN": "xoxb-rehearsal-1111",
            "SLACK_API_BASE": f"{slack.url}/api/",
            "SSL_CERT_FILE": str(root / "ca.pem"),
        }
        yield slack, pagerduty


def declare(shell, who="priya", *more, **environment):
    return shell("break-glass", incident.INCIDENT_ID, "--as", who, "--because", BECAUSE, *TYPED, *more, **environment)


@pytest.fixture(scope="module", name="night")
def _night(tmp_path_factory, open_shell):
    """From the request to the close, with one approval; what each command answered, by name."""
    said = {}
    root = tmp_path_factory.mktemp("glass")
    with open_shell(root / "state") as shell, services(root, shell) as (slack, pagerduty):
        shell.request()
        shell("approve", incident.INCIDENT_ID, "--as", "priya", *TYPED)
        said["declared"] = declare(shell)
        said["status"] = shell("status")
        file = shell.root / FOLDER / "incident.yaml"
        run = ("run", "-f", file, "--operator", "tomas")
        said["early"] = shell(*run, "--dry-run")
        shell.stripe.advance(timedelta(minutes=30).total_seconds())
        said["dry"] = shell(*run, "--dry-run")
        code = re.search(r"[A-Z2-9]{4}-[A-Z2-9]{4}", said["dry"].out).group()
        said["live"] = shell(*run, "--confirm", code)
        said["settled"] = shell(*run, "--stage", "settle")
        engine = sa.create_engine(shell.desk.settings.ledger_database_text())
        automation.attempt(engine, incident.LEDGER_PAYOUT_ID, shell.desk.now())
        engine.dispose()
        said["unreviewed"] = shell(*run, "--stage", "close", *CLOSE)
        said["late"] = shell("monitor", "--json")
        said["review"] = shell(
            "break-glass", incident.INCIDENT_ID, "--as", "amara", "--review", "--because", "owed, and the right amount"
        )
        said["resolved"] = shell("monitor", "--json")
        said["closed"] = shell(*run, "--stage", "close", *CLOSE)
        said["after"] = shell("status")
        transfers = len(shell.stripe.books.transfers)
    return SimpleNamespace(
        said=said, folder=root / "state" / FOLDER, slack=slack, pagerduty=pagerduty, transfers=transfers
    )


def test_night_ends_with_one_transfer_and_a_closed_incident(night):
    """Each command ends with its documented code: held back is a refusal, unreviewed is not finished."""
    codes = {name: answer.code for name, answer in night.said.items()}
    wanted = dict.fromkeys(codes, 0) | {
        "early": 3,
        "unreviewed": 6,
        "late": codes["late"],
        "resolved": codes["resolved"],
    }

    assert wanted == codes, "\n".join(answer.said for answer in night.said.values())
    assert 1 == night.transfers


def test_owner_is_paged_at_once_and_told_how_to_stop_it(night):
    """One page under one key, one post; both say who, why, how much, and are marked as a rehearsal."""
    key = next(name for name in night.pagerduty.alerts if "/break-glass/" in name)
    event = next(body for _, _, body in night.pagerduty.requests if body.get("dedup_key") == key)
    posts = [post for post in night.slack.posted if "BREAK-GLASS" in post["text"]]

    assert 1 == night.pagerduty.notified.count(key)
    assert "REHEARSAL: BREAK-GLASS in INC-123: 1,250.75 USD" in event["payload"]["summary"]
    assert "Jonas Weber can stop it" in event["payload"]["summary"]
    assert BECAUSE == event["payload"]["custom_details"]["because"]
    assert (
        f"manual-payout break-glass INC-123 --ledger-payout-id {incident.LEDGER_PAYOUT_ID} --stop --as WHO"
        == event["payload"]["custom_details"]["to stop it"]
    )
    assert "REHEARSAL" in posts[0]["text"]


def test_it_is_marked_wherever_the_operator_looks(night):
    """Status before and after, the refusal while it is held, the confirm code's screen, the answer of the live run."""
    said = night.said
    book = (night.folder / "2-execute-01.ipynb").read_text("utf-8")
    sent = (night.folder / "2-execute-02.ipynb").read_text("utf-8")

    assert "1 of 2 approved, break-glass declared" in said["status"].out
    assert "Break-glass is held back until" in said["early"].said
    assert "BREAK-GLASS, ONE APPROVAL: Priya Raman (Payments Ops) ALONE" in book
    assert "Made with ONE approval under break-glass; Finance reviews it within one business day" in sent
    assert "paid, ONE approval, break-glass" in said["after"].out


def test_payments_alerts_are_told_that_one_approval_was_missing(night):
    """The message about the payout says so before anything else, and names nobody for Finance."""
    post = next(post for post in night.slack.posted if "Manual payout made" in post["text"])
    kept = (night.folder / "slack-message.txt").read_text("utf-8")

    assert "BREAK-GLASS: made with ONE approval, Finance has not approved" in post["text"]
    assert "BREAK-GLASS" in json.dumps(post["blocks"])
    assert "NOBODY, break-glass (Finance)" in kept


def test_reviewers_page_says_it_in_its_verdict(night):
    """Who opens one page reads it in the first paragraph, and sees who declared and who reviewed."""
    page = (night.folder / "index.html").read_text("utf-8")

    assert "Made with ONE approval under break-glass: Finance had not approved." in page
    assert "SENT WITH ONE APPROVAL under break-glass" in page
    assert "declared break-glass" in page
    assert "reviewed break-glass" in page
    assert "Break-glass declared" in page


def test_papers_hold_the_declaration_as_it_was_signed(night):
    """In the list of approvals it is marked, and a stock ssh-keygen can check the file beside it."""
    papers = json.loads((night.folder / "approvals.json").read_text("utf-8"))
    (file,) = night.folder.glob("break-glass-*.json")

    assert [None, True] == [paper.get("break_glass") for paper in papers]
    assert papers[1]["statement"] == json.loads(file.read_text("utf-8"))
    assert "urn:manual-payout:break-glass:v1" == papers[1]["statement"]["predicateType"]


def test_close_waits_for_the_review_and_the_alert_ends_with_it(night):
    """Two days later it is critical; reviewed, it resolves itself."""
    rules = {name: {one["rule"] for one in json.loads(night.said[name].out)["firing"]} for name in ("late", "resolved")}

    assert "cannot be closed: break-glass is reviewed" in night.said["unreviewed"].said
    assert "break-glass-unreviewed" in rules["late"] - rules["resolved"]


# ------------------------------------------------------------------------------------ verifying


def findings(folder):
    """What is wrong, by the name of each check."""
    sealed = verifier.read_folder(folder)
    people, judge = verifier.Registry(DEMO_APPROVERS), judge_of(tamper.PEOPLE.signers)
    found = verifier.check_files(sealed) + verifier.check_signatures(sealed, people, judge)
    found += verifier.check_contents(sealed, tamper.REVIEWED, "", "")
    return {finding.name: finding.wrong for finding in found if finding.wrong}


def test_folder_passes_and_its_verdict_names_the_missing_approval(night):
    """By our own command's checks; the type of the manifest is one of its own."""
    sealed = verifier.read_folder(night.folder)
    (approvals,) = [one for one in verifier.check_contents(sealed, tamper.REVIEWED, "", "") if one.name == "approvals"]

    assert {} == findings(night.folder)
    assert "BREAK-GLASS, ONE APPROVAL: Finance HAD NOT APPROVED. " in verifier.verdict_line(sealed, [])
    assert approvals.right.startswith("NOT BY TWO: 1 begun with ONE approval under break-glass")
    assert "urn:manual-payout:evidence-break-glass:v1" == sealed.manifest["predicateType"]
    assert 1 == len(sealed.facts["break_glass"])


def test_verifier_alone_says_the_same(night):
    """The one file, with Python and OpenSSH."""
    command = [sys.executable, "-I", verifier.__file__, str(night.folder), "--registry", str(DEMO_APPROVERS)]
    command += ["--templates", str(Path(__file__).parents[1] / "runbooks")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout
    assert "SANDBOX EVIDENCE, NO REAL MONEY. BREAK-GLASS, ONE APPROVAL: Finance HAD NOT APPROVED. All" in done.stdout


def rewritten(night, tmp_path, change, resign=None):
    """A copy whose journal was changed by *change*, chained anew and sealed anew by the operator."""
    folder = Path(shutil.copytree(night.folder, tmp_path / "folder"))
    path = folder / "journal.json"
    content = json.loads(path.read_bytes())
    events = content["events"]
    change(events)
    for event in events:
        if resign and event["kind"] == "break_glass_declared":
            data = verifier.canonical(event["data"]["statement"])
            event["data"] |= {"signature": sandbox_key(resign).sign("approval@manual-payout", data)}
    previous = ""
    for number, event in enumerate(events, 1):
        event |= {"seq": number, "previous": previous}
        told = {name: event[name] for name in ("seq", "kind", "at", "actor", "data", "previous")}
        previous = event["digest"] = digest_of(told | {"version": 1, "stream": content["stream"]})
    path.write_text(json.dumps(content))
    tamper.cover_up(folder)
    return folder


def of_kind(events, kind):
    return next(event for event in events if event["kind"] == kind)


def _said(events):
    return of_kind(events, "break_glass_declared")["data"]["statement"]["predicate"]


def _page(events):
    return next(e for e in events if e["kind"] == "message_delivered" and e["data"]["kind"] == "page_break_glass")


def _without(kind):
    return lambda events: events.__delitem__(events.index(of_kind(events, kind)))


def _late_page(events):
    page, intent = _page(events), of_kind(events, "intent_recorded")
    events.remove(page)
    events.insert(events.index(intent) + 1, page)


def _stopped(events):
    used = of_kind(events, "intent_recorded")["data"]["break_glass"]
    stop = {"kind": "break_glass_stopped", "at": _page(events)["at"], "actor": "x", "data": {"declaration_id": used}}
    events.insert(events.index(of_kind(events, "intent_recorded")), stop)


def _as_ordinary(events):
    del of_kind(events, "intent_recorded")["data"]["break_glass"]


def _dressed(events):
    """The declaration put in as a second approval."""
    declared, intent = of_kind(events, "break_glass_declared"), of_kind(events, "intent_recorded")
    data = json.loads(json.dumps(declared["data"]))
    data["statement"]["predicate"] |= {"approved_at": data["statement"]["predicate"]["declared_at"], "team": "finance"}
    data["statement"]["predicate"] |= {"approval_id": "second", "approver_id": declared["actor"]}
    events.insert(events.index(declared), declared | {"kind": "approved", "data": data})
    intent["data"]["approval_ids"].append("second")
    del intent["data"]["break_glass"]


def _reviewed_by_the_declarer(events):
    event = of_kind(events, "break_glass_reviewed")
    event["actor"] = event["data"]["statement"]["predicate"]["reviewer_id"] = PRIYA


def _taken_over(events, actor):
    """Somebody else goes on with the sending after the intent."""
    intent = of_kind(events, "intent_recorded")
    data = {"from": "a", "to": "b", "fence": 2}
    taken = {"kind": "sending_taken_over", "at": intent["at"], "actor": actor, "data": data}
    events.insert(events.index(intent) + 1, taken)
    of_kind(events, "sending")["actor"] = actor


def _sent_after_the_stop(events):
    used = of_kind(events, "intent_recorded")["data"]["break_glass"]
    sending = of_kind(events, "sending")
    stop = {"kind": "break_glass_stopped", "at": sending["at"], "actor": "x", "data": {"declaration_id": used}}
    events.insert(events.index(sending), stop)


def _sent_after_a_colleagues_was_stopped(events):
    """The owner said no to a second declaration for the same request, while the send went on under the first."""
    sending, declared = of_kind(events, "sending"), of_kind(events, "break_glass_declared")
    stop = {"kind": "break_glass_stopped", "at": sending["at"], "actor": "x", "data": {"declaration_id": "second"}}
    second = declared | {"data": declared["data"] | {"declaration_id": "second"}, "at": sending["at"]}
    place = events.index(sending)
    events[place:place] = [second, stop]


def _reviewed_by_who_sent_it(events):
    _taken_over(events, of_kind(events, "break_glass_reviewed")["actor"])


def _reviewed_before_it_moved(events):
    of_kind(events, "break_glass_reviewed")["data"]["statement"]["predicate"]["stripe_transfer_id"] = ""


def _changed(name, value):
    return lambda events: _said(events).update({name: value})


PRIYA, TOMAS = (tamper.PEOPLE.find(name).person_id for name in ("priya", "tomas"))

TAMPERED = [
    (_without("break_glass_declared"), None, "approvals", "names 1 approvals and 0 declarations"),
    (lambda events: events.remove(_page(events)), None, "approvals", "was not held back"),
    (_late_page, None, "approvals", "was not held back"),
    (_stopped, None, "approvals", "was stopped"),
    (_sent_after_the_stop, None, "approvals", "was stopped"),
    (_sent_after_a_colleagues_was_stopped, None, "approvals", "was stopped"),
    (lambda events: _taken_over(events, PRIYA), None, "approvals", "is by its operator"),
    (
        lambda events: _taken_over(events, _said(events)["owner_id"]),
        None,
        "approvals",
        "has an owner who had a part in it",
    ),
    (_reviewed_by_who_sent_it, None, "approvals", "is not one of its declaration by the missing team"),
    (_reviewed_before_it_moved, None, "approvals", "is not one of its declaration by the missing team"),
    (_as_ordinary, None, "approvals", "is not by both teams"),
    (_as_ordinary, None, "approvals", "not named in the manifest as it was used"),
    (_dressed, None, "approvals", "is none"),
    (_without("break_glass_reviewed"), None, "approvals", "closed without the review of break-glass"),
    (_reviewed_by_the_declarer, None, "approvals", "is not one of its declaration by the missing team"),
    (_changed("limit_minor", 125_074), "priya", "approvals", "is below the amount"),
    (_changed("limit_minor", 9_000_000), None, "signatures", "is not good"),
    (_changed("hold_s", 1), "priya", "approvals", "was not held back"),
    (_changed("hold_s", 36_000), "priya", "approvals", "was not held back"),
    (_changed("missing_team", "payments_ops"), "priya", "approvals", "is not about the other team"),
    (_changed("owner_id", PRIYA), "priya", "approvals", "has an owner who had a part in it"),
    (_changed("owner_id", TOMAS), "priya", "approvals", "has an owner who had a part in it"),
    (_changed("approval_id", "another"), "priya", "approvals", "is about another approval"),
    (_changed("declarer_id", TOMAS), "priya", "approvals", "is not by the one who approved"),
    (_changed("expires_at", "2026-03-02T03:10:00.000000Z"), "priya", "approvals", "did not stand"),
    (lambda events: _said(events)["request"].update(notes="other"), "priya", "approvals", "is for another request"),
    (lambda _: None, "jonas", "signatures", "is not good"),
]


@pytest.mark.parametrize(
    ("change", "resign", "check", "said"), TAMPERED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_condition_is_checked_again_from_the_files(night, tmp_path, change, resign, check, said):
    """The journal is rewritten whole and sealed with the operator's own key: the right check says what is wrong."""
    found = findings(rewritten(night, tmp_path, change, resign))

    assert check in found
    assert said in "; ".join(found[check])


def test_journal_that_is_only_written_anew_passes(night, tmp_path):
    """What the tampered folders are refused for is what was changed in them."""

    assert {} == findings(rewritten(night, tmp_path, lambda _: None, "priya"))


def test_ordinary_folder_with_one_approval_is_refused(rehearsed, tmp_path):
    """Taking one approval out of an ordinary folder makes no break-glass of it."""
    night = SimpleNamespace(folder=rehearsed.folder)

    def one(events):
        of_kind(events, "intent_recorded")["data"]["approval_ids"].pop()

    found = findings(rewritten(night, tmp_path, one))

    assert "is not by both teams" in "; ".join(found["approvals"])


def test_manifest_that_hides_it_is_refused(night, tmp_path):
    """An ordinary type over a folder that is none."""
    folder = Path(shutil.copytree(night.folder, tmp_path / "folder"))
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    content["predicateType"] = verifier.PREDICATE_TYPE
    del content["predicate"]["facts"]["break_glass"]
    path.write_bytes(verifier.json_bytes(content))
    (folder / "manifest.json.sig").write_text(tamper.operator().sign(path.read_bytes()))
    found = findings(folder)

    assert "not named in the manifest as it was used" in "; ".join(found["approvals"])


# ------------------------------------------------------------------------------------ the command


@pytest.fixture(name="asked")
def _asked(shell, tmp_path):
    """A request with one approval, services and a policy that allows it."""
    root = tmp_path / "services"
    root.mkdir()
    with services(root, shell) as found:
        shell.request()
        shell("approve", incident.INCIDENT_ID, "--as", "priya", *TYPED)
        yield shell, *found


def test_policy_that_is_off_refuses_and_leaves_nothing(shell):
    """Exit code 3, before anybody types or signs; neither event nor message is there."""
    shell.request()
    shell("approve", incident.INCIDENT_ID, "--as", "priya", *TYPED)
    before = shell.state()
    answer = declare(shell)

    assert (3, before) == (answer.code, shell.state())
    assert "The policy does not allow break-glass" in answer.err


def test_nobody_to_page_refuses_and_leaves_nothing(asked):
    """Without PagerDuty nobody would be woken."""
    shell, _, _ = asked
    before = shell.state()
    answer = declare(shell, PAGERDUTY_REHEARSAL_ROUTING_KEY=None)

    assert (3, before) == (answer.code, shell.state())
    assert "Nothing is configured to page the owner" in answer.err


def test_page_that_is_not_delivered_is_not_finished_and_tried_again(asked):
    """Exit code 6; the same command pages again, once, and declares nothing new."""
    shell, _, pagerduty = asked
    pagerduty.faults.planned.append("refuse")
    first, second = declare(shell), declare(shell)
    kinds = [event.kind for event in shell.desk.store.events_of("/".join(FOLDER.parts))]

    assert (6, 0) == (first.code, second.code), first.said + second.said
    assert 1 == kinds.count("break_glass_declared")
    # The other page is that of the request itself.
    assert 1 == len([key for key in pagerduty.notified if "/break-glass/" in key])


def test_page_that_pagerduty_refused_is_tried_again_by_name(asked):
    """Neither the same command nor `--now` does, so neither is what the refusal tells to run."""
    shell, _, pagerduty = asked
    pagerduty.faults.planned.append("invalid")
    first = declare(shell)
    shell("deliver", "--refused", "--operator", "tomas")
    second = declare(shell)

    assert (6, 0) == (first.code, second.code), first.said + second.said
    assert "The page to Jonas Weber was refused" in first.err
    assert "manual-payout deliver --refused" in first.err
    assert "--now" not in first.err


def test_two_approvals_of_one_team_are_not_two_of_two(asked):
    """What is counted is teams whose approval stands now, since nothing else moves money."""
    shell, _, _ = asked
    shell("approve", incident.INCIDENT_ID, "--as", "jonas", *TYPED)
    same = shell("status").out
    shell("approve", incident.INCIDENT_ID, "--as", "amara", *TYPED)
    both = shell("status").out
    shell.stripe.advance(timedelta(hours=4).total_seconds())

    assert "1 of 2 approved" in same
    assert "2 of 2 approved" in both
    assert "0 of 2 approved" in shell("status").out


def test_owner_stops_it_with_one_line(asked):
    """`--stop` needs no key and no reason; what was declared is over, and status says so."""
    shell, _, _ = asked
    declare(shell)
    other = shell("break-glass", incident.INCIDENT_ID, "--stop", "--as", "amara")
    answer = shell("break-glass", incident.INCIDENT_ID, "--stop", "--as", "jonas")
    again = declare(shell)

    assert (3, 0, 3) == (other.code, answer.code, again.code)
    assert "Only Jonas Weber" in other.err
    assert "break-glass stopped" in shell("status").out


def test_night_that_the_owner_stopped_is_sealed_and_then_paid_with_both_approvals(asked):
    """The run after the stop is refused, its folder sealed; who is reached after all approves, and the money moves once."""
    shell, _, _ = asked
    folder, run = shell.root / FOLDER, ("run", "-f", shell.root / FOLDER / "incident.yaml", "--operator", "tomas")
    declare(shell)
    shell("break-glass", incident.INCIDENT_ID, "--stop", "--as", "jonas")
    refused = shell(*run, "--dry-run")
    sealed, page = shell("verify", folder), (folder / "index.html").read_text("utf-8")
    shell("approve", incident.INCIDENT_ID, "--as", "amara", *TYPED)
    dry = shell(*run, "--dry-run")
    live = shell(*run, "--confirm", re.search(r"[A-Z2-9]{4}-[A-Z2-9]{4}", dry.out).group())
    paid = shell("verify", folder)

    assert (3, 0, 0, 0, 0) == (refused.code, sealed.code, dry.code, live.code, paid.code), refused.said + live.said
    assert "stopped break-glass" in page
    assert 1 == len(shell.stripe.books.transfers)


def test_command_of_the_page_stops_the_right_one_of_two_payouts(asked):
    """Whoever is woken copies one line, also where the incident has another request that is open."""
    shell, _, pagerduty = asked
    engine = sa.create_engine(shell.desk.settings.ledger_database_text())
    query = "SELECT * FROM manual_payout_due WHERE status = 'failed' AND currency = 'usd' AND ledger_payout_id <> :this"
    with engine.connect() as connection:
        other = connection.execute(sa.text(query), {"this": incident.LEDGER_PAYOUT_ID}).mappings().first()
    engine.dispose()
    names = ("studio_id", "studio_name", "ledger_payout_id", "destination_account")
    asked_too = shell.request(
        **{name: other[name] for name in names}, amount=f"{other['amount_minor'] / 100:.2f}", reserve_after="1.00"
    )
    declare(shell, "priya", "--ledger-payout-id", incident.LEDGER_PAYOUT_ID)
    event = next(body for _, _, body in pagerduty.requests if "/break-glass/" in body.get("dedup_key", ""))
    _, *command = event["payload"]["custom_details"]["to stop it"].replace("WHO", "jonas").split()
    answer = shell(*command)

    assert (0, 0) == (asked_too.code, answer.code), asked_too.said + answer.said
    assert "Break-glass is stopped, for good" in answer.out


def test_second_approver_is_shown_what_was_declared(asked):
    """Who is reached after all sees it before typing a yes."""
    shell, _, _ = asked
    declare(shell)
    answer = shell("approve", incident.INCIDENT_ID, "--as", "amara", *TYPED)

    assert 0 == answer.code
    assert "Priya Raman declared at 2026-03-02 03:00 UTC that Finance cannot be reached" in re.sub(
        r"\s+", " ", answer.err
    )


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--stop", "--review"), 2, "--stop and --review are two things"),
        (("--review",), 2, "because: found 'nothing'"),
        ((), 2, "because: found 'nothing'"),
        (("--review", "--because", "fine"), 2, "Nothing was sent under INC-123"),
    ],
)
def test_command_that_cannot_be_right_is_refused(asked, flags, code, said):
    """One sentence, and nothing is recorded."""
    shell, _, _ = asked
    before = shell.state()
    answer = shell("break-glass", incident.INCIDENT_ID, "--as", "amara", *flags)

    assert (code, before) == (answer.code, shell.state())
    assert said in answer.err
