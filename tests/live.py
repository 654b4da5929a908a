"""
The demo incident in live mode: real money by every setting, and a Stripe that says so.

Our side is untouched: live mode, a live key, keys of people that are not the sandbox's, the database's own clock. What
stands in for api.stripe.com is the sandbox behind a proxy that takes the live key and answers as live mode does.
"""

from __future__ import annotations

import contextlib
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import sqlalchemy as sa
from pydantic import SecretStr

import local_stripe
import payout_rehearsal
from desks import Scene
from manual_payout.desk.people import load_registry
from manual_payout.desk.signatures import AllowedSigner, key_from_file, new_key_file, signer_line
from manual_payout.desk.wiring import open_desk
from manual_payout.domain.models import Mode
from payout_rehearsal.demo.ledger import balances_table

LIVE_KEY = "rk_live_51" + "NotAKey" * 6

_KEPT = ("Idempotency-Key", "Stripe-Account", "Stripe-Version", "Content-Type")


@contextlib.contextmanager
def live_stripe(base_url):
    """Yield the address of a Stripe in live mode whose books are the sandbox's at *base_url*."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            assert f"Bearer {LIVE_KEY}" == self.headers["Authorization"]
            headers = {name: self.headers[name] for name in _KEPT if self.headers[name]}
            headers["Authorization"] = f"Bearer {local_stripe.FALLBACK_KEY}"
            sent = urllib.request.Request(base_url + self.path, body, headers, method=self.command)
            try:
                answer = urllib.request.urlopen(sent)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                text = answer.read().replace(b'"livemode": false', b'"livemode": true')
                text = text.replace(b'"livemode":false', b'"livemode":true')
                self.send_response(answer.status)
                for name in ("Request-Id", "Content-Type", "Idempotent-Replayed"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815  # the base class's names

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class LiveScene(Scene):
    """
    The demo incident in live mode, filed; nobody has approved.

    Attributes:
        inventory: The inventory's file; it is not there yet.
    """

    def __init__(self, root, url, stripe, address):
        self.address = address
        self.inventory = root / "inventory.toml"
        self.people = root / "people"
        self.people.mkdir()
        super().__init__(root, url, stripe)
        # The clock that judges is the database's here, months after the demo's night: the ledger has computed anew since.
        with self.engine.execution_options(write=True).begin() as connection:
            connection.execute(sa.update(balances_table).values(as_of=self.desk.now()))
        self.request = self.file()

    def new_desk(self, **changes):
        """Open a desk in live mode; *changes* replace settings."""
        demo = self.settings.policy
        stripe = demo.stripe.model_copy(update={"mode": Mode.LIVE})
        settings = self.settings.model_copy(
            update={
                "policy": demo.model_copy(update={"stripe": stripe}),
                "fallback_key": SecretStr(LIVE_KEY),
                "read_key": None,
                "stripe_api_base": self.address,
                "approvers_file": self.settings.approvers_path(),
                "allowed_signers_file": self._signers(),
                "inventory_file": self.inventory,
            }
            | changes
        )
        desk = open_desk(settings)
        self._desks.append(desk)
        return desk

    def key_of(self, handle):
        """The key of a person, which is not the one that anybody can make."""
        path = self.people / handle
        if not path.exists():
            new_key_file(path, "", handle)
        return key_from_file(path, lambda _: "")

    seal_key = request_key = key_of

    def _signers(self):
        path = self.people / "allowed_signers"
        lines = [
            signer_line(
                AllowedSigner(
                    person.email,
                    person.purposes(),
                    self.key_of(person.handle).public_key,
                )
            )
            for person in load_registry(self.settings.approvers_path()).people
        ]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        (self.people / "revoked_keys").touch()
        return path

    def rehearsed(self, *entries):
        """Write the inventory: one ``[[rehearsal]]`` for each entry."""
        self.inventory.write_text("".join(f"[[rehearsal]]\n{entry}\n" for entry in entries), "utf-8")

    def approve_both(self):
        """Have both approve with keys of their own, and the operator make a dry run."""
        for approver in payout_rehearsal.APPROVERS:
            self.approve(approver, key=self.key_of(approver))
        self.dry_run()
        return self
