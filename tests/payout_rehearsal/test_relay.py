"""The relay before Stripe's test mode: byte for byte, to one address, and one answer lost on demand."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import ssl
import threading
import time

import pytest
import stripe
import trustme

import local_stripe
from manual_payout.domain.errors import SettingsError, StripeRefusedError
from manual_payout.gateway import Accepted, Gateway, Unknown
from payout_rehearsal.testmode import relay

STUDIO = "acct_123"
ORDER = {"amount": 125_075, "currency": "usd", "destination": STUDIO, "transfer_group": "group-1"}


@pytest.fixture(name="stripe_books")
def _stripe_books():
    with local_stripe.running(accounts=[local_stripe.SandboxAccount(STUDIO)], available={"usd": 500_000}) as running:
        yield running


@pytest.fixture(name="between")
def _between(stripe_books):
    with relay.running(stripe_books.base_url) as running:
        yield running


@pytest.fixture(name="gateway")
def _gateway(between):
    return Gateway(local_stripe.FALLBACK_KEY, base_url=between.base_url, timeout_s=5)


@contextlib.contextmanager
def upstream(answer, context=None):
    """Something that is asked and answers *answer*; yields its address and what it was asked, as bytes."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            seen.append((self.command, self.path, self.headers.items(), self.rfile.read(length)))
            self.wfile.write(answer)
            self.close_connection = True

        do_GET = do_POST  # noqa: N815  # the name that http.server looks for

        def log_message(self, *args):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *args):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def raw(address, request):
    """What comes back for these bytes."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_sdk_notices_no_difference(stripe_books, between):
    """The same objects, the same headers, the same refusals, with and without it."""
    direct = stripe.StripeClient(
        local_stripe.FULL_KEY, base_addresses={"api": stripe_books.base_url}, max_network_retries=0
    )
    through = stripe.StripeClient(
        local_stripe.FULL_KEY, base_addresses={"api": between.base_url}, max_network_retries=0
    )
    options = {"idempotency_key": "one"}
    made = through.v1.transfers.create(ORDER, options)
    again = direct.v1.transfers.create(ORDER, options)

    assert made.to_dict() == again.to_dict()
    assert "true" == again.last_response.headers["Idempotent-Replayed"]
    assert {"request-id", "stripe-version", "idempotency-key"} <= {name.lower() for name in made.last_response.headers}
    with pytest.raises(stripe.InvalidRequestError, match="No such transfer"):
        through.v1.transfers.retrieve("tr_nothing")


def test_lost_answer_leaves_a_transfer_and_an_unknown_outcome(stripe_books, between, gateway):
    """Stripe answered, nobody heard it; the same key then finds what was made."""
    between.lose_next_transfer_answer()
    first = gateway.create_transfer(ORDER, idempotency_key="k")
    second = gateway.create_transfer(ORDER, idempotency_key="k")

    assert isinstance(first, Unknown)
    assert isinstance(second, Accepted)
    assert (True, 1) == (second.replayed, between.lost)
    assert [second.made["id"]] == [one.id for one in stripe_books.books.transfers]


def test_only_creating_a_transfer_loses_its_answer(stripe_books, between, gateway):
    """Reads, and taking back, go on; the loss waits for its call."""
    made = gateway.create_transfer(ORDER, idempotency_key="k")
    stripe_books.switch(connected_reserves=True)
    between.lose_next_transfer_answer()

    assert [made.made["id"]] == [one["id"] for one in gateway.transfers_in_group("group-1")]
    assert isinstance(gateway.create_reversal(made.made["id"], {"amount": 1}, idempotency_key="r"), Accepted)
    assert 0 == between.lost
    assert isinstance(gateway.create_transfer(ORDER, idempotency_key="k2"), Unknown)


def test_silence_after_a_lost_answer_ends_by_itself(stripe_books, between, gateway):
    """So many reads of the list are not even asked; other reads are, and then that list again."""
    between.lose_next_transfer_answer(then_silent=1)
    gateway.create_transfer(ORDER, idempotency_key="k")
    asked = len(stripe_books.requests)

    assert gateway.livemode() is False
    with pytest.raises(StripeRefusedError, match="cannot be reached"):
        gateway.transfers_in_group("group-1")
    assert asked + 1 == len(stripe_books.requests)
    assert 1 == len(gateway.transfers_in_group("group-1"))


def test_held_answer_comes_late_and_whole(stripe_books, between, gateway):
    """The transfer is made at once; who waits gets the answer."""
    between.hold_next_transfer_answer(0.5)
    began = time.monotonic()
    made = gateway.create_transfer(ORDER, idempotency_key="k")
    took_s = time.monotonic() - began
    began = time.monotonic()
    gateway.create_transfer(ORDER, idempotency_key="k")

    assert isinstance(made, Accepted)
    assert took_s >= 0.5 > time.monotonic() - began


def test_body_and_query_pass_byte_for_byte():
    """Both ways, whatever they hold; only what belongs to one connection is made anew."""
    answer = b"HTTP/1.1 402 Payment Needed\r\nX-Odd:  a b \r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x00\xff\r\nZ"
    with upstream(answer) as (port, seen), relay.running(f"http://127.0.0.1:{port}") as between:
        host = between.base_url.removeprefix("http://").encode()
        got = raw(
            between.base_url,
            b"POST /v1/x%2Fy?a[]=%20&b HTTP/1.1\r\nHost: " + host + b"\r\nIdempotency-Key: k\r\nAccept-Encoding: gzip\r\n"
            b"Connection: close\r\nContent-Length: 4\r\n\r\n\x01\xfe&=",
        )  # fmt: skip
    (command, path, headers, body), *rest = seen
    names = {name.lower() for name, _ in headers}

    assert ("POST", "/v1/x%2Fy?a[]=%20&b", b"\x01\xfe&=", []) == (command, path, body, rest)
    assert ("Idempotency-Key", "k") in headers
    assert ("Host", f"127.0.0.1:{port}") in headers
    assert {"host", "idempotency-key", "accept-encoding", "content-length"} == names
    assert got.startswith(b"HTTP/1.1 402 Payment Needed\r\n")
    assert got.endswith(b"\r\n\r\n\x00\xff\r\nZ")
    assert b"Content-Encoding: gzip" in got


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET http://evil.example/v1/balance HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET /v1/balance HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/balance HTTP/1.1\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"POST /v1/transfers HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99\r\n\r\namount=1",
        b"POST /v1/transfers HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST /v1/transfers HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999\r\n\r\namount=1",
        b"POST /v1/transfers HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\namount=1",
        b"nonsense\r\n\r\n",
    ],
)
def test_nothing_but_a_whole_request_for_this_relay_is_passed_on(stripe_books, between, request_bytes):
    """Another host, a tunnel, half an order: the other side never hears of them, and nothing sounds like its yes."""
    host = between.base_url.removeprefix("http://").encode()
    got = raw(between.base_url, request_bytes.replace(b"HOST", host))

    assert [] == stripe_books.requests
    assert b" 200 " not in got


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", b"nonsense\r\n\r\n"],
    ids=["none", "half", "nonsense"],
)
def test_what_the_other_side_does_not_answer_wholly_is_not_answered(answer):
    """The caller sees a broken connection, which it knows how to judge."""
    with upstream(answer) as (port, seen), relay.running(f"http://127.0.0.1:{port}") as between:
        told = Gateway(local_stripe.FALLBACK_KEY, base_url=between.base_url, timeout_s=5).create_transfer(
            ORDER, idempotency_key="k"
        )

    assert isinstance(told, Unknown)
    assert 1 == len(seen)


def test_other_side_that_is_not_there_is_a_broken_connection():
    """No answer is made up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with relay.running(f"http://127.0.0.1:{port}") as between:
        told = Gateway(local_stripe.FALLBACK_KEY, base_url=between.base_url, timeout_s=5).create_transfer(
            ORDER, idempotency_key="k"
        )

    assert isinstance(told, Unknown)


@pytest.mark.parametrize(("trusted", "asked"), [(True, 1), (False, 0)])
def test_certificate_of_the_other_side_is_verified(trusted, asked):
    """Over TLS; who cannot show that it is Stripe is not even asked."""
    authority, server_side = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    trust = ssl.create_default_context()
    (authority if trusted else trustme.CA()).configure_trust(trust)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with (
        upstream(answer, server_side) as (port, seen),
        relay.running(f"https://localhost:{port}", trust=trust) as between,
    ):
        got = raw(
            between.base_url,
            f"GET /v1/balance HTTP/1.1\r\nHost: {between.base_url.removeprefix('http://')}\r\n"
            "Authorization: Bearer rk_test_0123456789\r\nConnection: close\r\n\r\n".encode(),
        )

    assert asked == len(seen)
    assert trusted == got.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "address",
    ["http://api.stripe.com", "https://api.stripe.com/v1", "https://u@api.stripe.com", "http://127.0.0.1", "ftp://x", "", "http://[::1"],
)  # fmt: skip
def test_relay_is_made_for_stripe_or_this_machine(address):
    """A key never leaves this machine without TLS."""
    with pytest.raises(SettingsError, match="A relay leads to"), relay.running(address):
        pass


def test_relay_says_nothing_and_listens_on_this_machine_alone(between, gateway, capfd):
    """No line about a request, on no stream; and no address that others reach."""
    gateway.create_transfer(ORDER, idempotency_key="k")
    between.lose_next_transfer_answer()
    gateway.create_transfer(ORDER, idempotency_key="k2")

    assert ("", "") == capfd.readouterr()
    assert between.base_url.startswith("http://127.0.0.1:")


def test_relay_is_gone_after_its_block(stripe_books):
    """Nobody is passed on any more."""
    with relay.running(stripe_books.base_url) as between:
        host = between.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=2)
    with pytest.raises(ConnectionRefusedError):
        connection.request("GET", "/v1/balance")
