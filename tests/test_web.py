"""The form and the approval in real browsers, each person with an authenticator of their own; and what is refused."""

from __future__ import annotations

import http.client
from dataclasses import replace
from importlib.resources import files

import pytest

import payout_rehearsal
from browser import AXE, UNFOLD
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.desk.wiring import open_desk
from manual_payout.evidence import verifier
from manual_payout.steps.runner import DRY_RUN, LIVE_RUN, run_stages
from openssh import openssh, required
from payout_rehearsal.demo import incident
from web_scenes import Visitor

# Chromium's own remarks: a page that asks for a sign-in, and a kind of key that OpenSSH could not check.
EXPECTED = (
    "Failed to load resource: the server responded with a status of 401",
    "publicKey.pubKeyCredParams is missing",
)


@pytest.fixture(name="people")
def _people(chromium, house):
    """Maya asks, Priya and Amara approve; their passkeys are in the registry."""
    visitors = {handle: Visitor(chromium, house, handle) for handle in ("maya", "priya", "amara")}
    for visitor in visitors.values():
        house.take(visitor.enroll())
        assert "" == visitor.sign_in()
    yield visitors
    for visitor in visitors.values():
        visitor.context.close()


@required("ssh-keygen")
def test_a_night_in_the_browser(house, people, tmp_path):
    """File, approve twice, and both signatures are what stock OpenSSH verifies; no script failed on the way."""
    path = people["maya"].file()
    assert ["", ""] == [people[who].approve(path) for who in ("priya", "amara")]
    request = house.desk.store.find_request(incident.INCIDENT_ID)
    given = house.desk.store.approvals_of(request.request_id)
    for approval in given:
        email = house.desk.registry.find(approval.approver_id).email
        (tmp_path / "signature").write_text(approval.signature)
        checked = openssh(
            "ssh-keygen", "-Y", "verify", "-f", house.registry / "allowed_signers", "-I", email, "-n",
            "approval@manual-payout", "-s", tmp_path / "signature", stdin=approval.signed_text.encode(),
        )  # fmt: skip
        assert 0 == checked.returncode, checked.stderr

    assert {"payments_ops", "finance"} == {approval.team.value for approval in given}
    assert [] == [said for one in people.values() for said in one.said if not said.startswith(EXPECTED)]


@required("ssh-keygen")
def test_a_night_approved_in_browsers_ends_in_a_folder_that_verifies(house, people):
    """Run at a terminal by the operator: the one-file verifier with stock OpenSSH passes it, and the page says who used a passkey."""
    path = people["maya"].file()
    assert ["", ""] == [people[who].approve(path) for who in ("priya", "amara")]
    desk = open_desk(house.operators)
    typed = payout_rehearsal.demo_parameters()
    request = desk.store.find_request(incident.INCIDENT_ID)
    filed = replace(typed, notes=request.notes, reason=request.reason)
    dry = run_stages(desk, DRY_RUN, filed)
    live = run_stages(desk, LIVE_RUN, replace(filed, dry_run=False, confirm=dry[-1].confirm))
    folder = verifier.read_folder(desk.folder_path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID))
    judge = verifier.by_ssh_keygen(house.registry / "allowed_signers", house.registry / "revoked_keys")
    found = verifier.check_all(folder, verifier.Registry(house.registry / "approvers.toml"), judge, reviewed_digests())

    assert [0] * len(live) == [stage.exit_code for stage in live], live
    assert {} == {one.name: one.wrong for one in found if one.wrong}
    assert 2 == (folder.path / "index.html").read_text().count("<b>by passkey</b>")


def test_pages_can_be_read_by_everybody(house, people):
    """Axe finds nothing on any page, on a telephone and on a desk, in light and dark."""
    path = people["maya"].file()
    page = people["priya"].page
    found = []
    for address in ("/", "/form", path, "/me"):
        for width, scheme in ((320, "light"), (400, "dark"), (1400, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            people["priya"].go(address)
            page.evaluate(UNFOLD)
            client = page.context.new_cdp_session(page)
            client.send("Page.setBypassCSP", {"enabled": True})
            page.reload()
            page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
            found += [(address, width, one) for one in page.evaluate(AXE)]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (address, width)

    assert [] == found


def test_nobody_reads_anything_without_a_passkey(house, chromium):
    """Every page of a payout answers with the sign-in, and says nothing of what there is."""
    stranger = Visitor(chromium, house, "priya")
    for path in ("/", "/form", "/me", "/request/none", "/evidence/INC-123/x/index.html"):
        answer = stranger.go(path)

        assert 401 == answer.status
        assert incident.STUDIO_NAME not in stranger.page.content()
    stranger.context.close()


def test_requester_cannot_approve_and_one_key_counts_once(house, people):
    """By the same rules as at a terminal."""
    path = people["maya"].file()
    people["maya"].go(path)
    offered = people["maya"].page.query_selector("form[action$=approve]")
    first = people["priya"].approve(path)
    people["priya"].type_yes(path)
    refused = people["priya"].page.inner_text("main")

    assert offered is None
    assert "" == first
    assert "approved" in refused
    assert 1 == len(house.desk.store.approvals_of(path.rpartition("/")[2]))


def test_an_assertion_counts_once_and_for_what_was_shown(house, people):
    """Replayed, or given as the answer to another question, it is refused."""
    path = people["maya"].file()
    people["priya"].type_yes(path)
    told = people["priya"].assertion()
    taken = people["priya"].post("/ceremony", told)
    replayed = people["priya"].post("/ceremony", told)
    people["amara"].type_yes(path)
    other = people["amara"].assertion() | {
        name: told[name] for name in ("authenticator_data", "client_data", "signature")
    }
    foreign = people["amara"].post("/ceremony", other)
    as_sign_in = people["priya"].post("/sign-in", told)

    assert 200 == taken[0], taken
    assert [200 != status for status, _ in (replayed, foreign, as_sign_in)] == [True] * 3
    assert 1 == len(house.desk.store.approvals_of(path.rpartition("/")[2]))


def test_without_user_verification_nothing_is_signed(house, people):
    """Whoever holds the telephone is not yet who unlocked it."""
    path = people["maya"].file()
    people["priya"].type_yes(path)
    people["priya"].devtools.send(
        "WebAuthn.setUserVerified",
        {"authenticatorId": people["priya"].authenticator, "isUserVerified": False},
    )
    refused = people["priya"].sign()

    assert refused
    assert [] == house.desk.store.approvals_of(path.rpartition("/")[2])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "{origin}", "Sec-Fetch-Site": "cross-site"}, 403),
        ({}, 403),
        ({"Origin": "{origin}", "Host": "evil.example"}, 421),
        ({"Origin": "{origin}", "Content-Length": "70000"}, 413),
    ],
    ids=str,
)
def test_what_comes_from_elsewhere_reaches_nothing(house, headers, status):
    """Another origin, another site, another host, too much: each is refused before any page."""
    client = http.client.HTTPConnection("127.0.0.1", house.port, timeout=10)
    client.putrequest("POST", "/ceremony", skip_host=True, skip_accept_encoding=True)
    body = b"{}"
    own = {
        "Host": house.origin.partition("://")[2],
        "Content-Length": str(len(body)),
        "Content-Type": "application/json",
    }
    given = own | headers
    for name, value in given.items():
        client.putheader(name, value.format(origin=house.origin))
    client.endheaders(body)
    answer = client.getresponse()

    assert status == answer.status
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_it_refuses_to_start_with_the_key_that_moves_money(shell):
    """It is not there to move money, and is not given what could."""
    refused = shell("web", "--port", "8700")

    assert 2 == refused.code, refused.said
    assert "STRIPE_FALLBACK_SECRET_KEY" in refused.err
