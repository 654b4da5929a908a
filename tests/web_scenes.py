"""The real server on a real database, and people in front of real browsers with authenticators of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time

import pytest

import payout_rehearsal
from browser import ARGUMENTS, EXECUTABLE, require_browser
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signatures import parse_signers
from manual_payout.desk.wiring import open_desk
from manual_payout.web.serving import server_of
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.settings import demo_settings

AUTHENTICATOR = {
    "protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "internal", "hasResidentKey": True,
    "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


class House:
    """
    The server, its desk, and the sandbox's registry with the passkeys that were taken in.

    Attributes:
        settings: As the web has them: without the key that moves money.

        operators: As whoever operates has them.
    """

    def __init__(self, root, stripe):
        shutil.copytree(SANDBOX_APPROVERS.parent, root / "registry")
        people = root / "registry" / SANDBOX_APPROVERS.name
        text = people.read_text("utf-8")
        # Maya files at a browser too.
        people.write_text(text, "utf-8")
        url = payout_rehearsal.set_up_database(root / "demo")
        self.operators = demo_settings(root, stripe.base_url, url)
        self.settings = self.operators.model_copy(update={"fallback_key": None})
        self.registry = root / "registry"
        self.desk = open_desk(self.settings)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.origin = f"http://localhost:{self.port}"
        self.stripe = stripe

    @contextlib.contextmanager
    def running(self):
        """Serve until the block ends."""
        server = server_of(self.desk, self.origin, "127.0.0.1", self.port, proxies=[])
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield self
        server.should_exit = True
        thread.join(10)

    def take(self, line):
        """Let a line of the page into the registry, as a reviewer does."""
        parse_signers(line, "the line")
        with (self.registry / "allowed_signers").open("a") as file:
            file.write(f"{line}\n")


class Visitor:
    """One person: a browser of their own, with an authenticator of their own."""

    def __init__(self, chromium, house, handle):
        self.house, self.handle = house, handle
        self.context = chromium.new_context(viewport={"width": 400, "height": 900})
        self.page = self.context.new_page()
        self.said = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.devtools = self.context.new_cdp_session(self.page)
        self.devtools.send("WebAuthn.enable")
        made = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        self.authenticator = made["authenticatorId"]

    def go(self, path):
        """Open a page."""
        return self.page.goto(self.house.origin + path)

    def enroll(self):
        """Make a passkey; returns the line that the page shows."""
        self.go("/enroll")
        self.page.fill("#who", self.handle)
        self.page.click("main button")
        self.page.click("#enroll")
        self.page.wait_for_selector("#made", state="visible")
        return self.page.inner_text("#line").strip()

    def sign(self, *, selector="#sign"):
        """Use the authenticator; returns what the page says, or nothing where it went on."""
        place = self.page.url
        self.page.click(selector)
        self.page.wait_for_function(
            "place => location.href !== place || !document.getElementById('said')?.hidden", arg=place
        )
        self.page.wait_for_load_state()
        refused = self.page.query_selector("#said:not([hidden])")
        return refused.inner_text() if refused else ""

    def sign_in(self, path="/"):
        """Sign in on the way to *path*."""
        self.go(path)
        return self.sign()

    def file(self):
        """File the demo's request; returns its page's path."""
        self.go(f"/form?ledger_payout_id={incident.LEDGER_PAYOUT_ID}")
        self.page.fill("#incident", incident.INCIDENT_ID)
        self.page.select_option("#reason", incident.REASON)
        self.page.fill("#notes", incident.NOTES)
        self.page.click("main form button")
        assert "" == self.sign()
        return self.page.url.removeprefix(self.house.origin)

    def type_yes(self, path, amount="1250.75"):
        """Type an approval, up to the page with the statement."""
        self.go(path)
        self.page.fill("#amount", amount)
        self.page.fill("#last4", incident.DESTINATION_ACCOUNT[-4:])
        self.page.click("form[action$=approve] button")

    def approve(self, path):
        """Approve; returns what is refused."""
        self.type_yes(path)
        return self.sign()

    def post(self, path, told, **headers):
        """Send what the script would send, from this page; returns the status and the answer."""
        script = """async ([path, told, headers]) => { const answer = await fetch(path, {method: "POST",
            headers: {"content-type": "application/json", ...headers}, body: JSON.stringify(told)});
            return [answer.status, await answer.text()]; }"""
        status, text = self.page.evaluate(script, [path, told, headers])
        return status, json.loads(text) if text.startswith("{") else text

    def assertion(self):
        """What the authenticator answers to the page's challenge; nothing is sent."""
        return self.page.evaluate(
            """async () => {
              const {id, challenge, host} = document.getElementById('sign').dataset;
              const bytes = text => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
              const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer || [])))
                .replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=+$/, '');
              const {response} = await navigator.credentials.get({publicKey: {challenge: bytes(challenge), rpId: host,
                userVerification: 'required'}});
              return {id, authenticator_data: text(response.authenticatorData), client_data: text(response.clientDataJSON),
                signature: text(response.signature), user_handle: text(response.userHandle)}; }"""
        )


@pytest.fixture(scope="module", name="chromium")
def _chromium():
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which(EXECUTABLE), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(name="house")
def _house(tmp_path, shared_stripe):
    shared_stripe.reset()
    house = House(tmp_path, shared_stripe)
    with house.running():
        yield house
