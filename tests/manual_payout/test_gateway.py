"""Stripe through one module: one HTTP attempt per call, and every answer judged by what it proves about the money."""

from __future__ import annotations

import http.server
import json
import ssl
import threading

import pytest
import requests
import stripe
from hypothesis import given
from hypothesis import strategies as st
from stripe import oauth_error  # loaded lazily by the SDK: here, so that its errors are always judged too

import local_stripe
from manual_payout.domain.errors import EvidenceError, SettingsError, StripeRefusedError
from manual_payout.domain.models import Mode
from manual_payout.domain.money import Money
from manual_payout.gateway import (
    NOT_PERMITTED,
    Accepted,
    Gateway,
    Refused,
    Unknown,
    identify_key,
    judge_answer,
    key_fits,
    mask_keys,
    one_line,
    read_error,
)
from manual_payout.gateway.sdk import Session

STUDIO = "acct_123"
PAYLOAD = {"amount": 125_075, "currency": "usd", "destination": STUDIO, "transfer_group": "group-1"}
GROUP = "group-1"


@pytest.fixture(name="stripe_books")
def _stripe_books(shared_stripe):
    shared_stripe.reset()
    return shared_stripe


@pytest.fixture(name="gateway")
def _gateway(stripe_books):
    return Gateway(local_stripe.FALLBACK_KEY, base_url=stripe_books.base_url, timeout_s=5)


@pytest.fixture(name="reader")
def _reader(stripe_books):
    return Gateway(local_stripe.READ_KEY, base_url=stripe_books.base_url, timeout_s=5)


@pytest.fixture(name="proxy")
def _proxy():
    """Something between us and Stripe that answers whatever it likes."""
    answers, seen, keys = [], [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path))
            keys.append(self.headers.get("Authorization"))
            status, headers, body = answers[0] if len(answers) == 1 else answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815  # the base class's names

        def log_message(self, *_args):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.answers, server.seen, server.keys = answers, seen, keys
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def through(proxy, *answers):
    proxy.answers[:] = [(status, headers, body.encode()) for status, headers, body in answers]
    return Gateway(local_stripe.FALLBACK_KEY, base_url=f"http://127.0.0.1:{proxy.server_port}", timeout_s=5)


def send(gateway, key="line-1", **changes):
    return gateway.create_transfer(PAYLOAD | changes, idempotency_key=key)


# ---------------------------------------------------------------------------------------------- sending


def test_accepted_transfer_is_stripes_own_object(gateway, stripe_books):
    """A yes carries Stripe's object, its text and request id."""
    answer = send(gateway)

    assert (Accepted, stripe_books.books.transfers[0].id) == (type(answer), answer.made["id"])
    assert answer.made == json.loads(answer.text)
    assert stripe_books.requests[-1].request_id == answer.request_id
    assert not answer.replayed


def test_same_key_is_answered_from_memory(gateway, stripe_books):
    """The second time Stripe says that it repeats itself, and makes nothing."""
    first, second = send(gateway), send(gateway)

    assert (first.made, True, 1) == (second.made, second.replayed, len(stripe_books.books.transfers))


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ({"kind": "drop_before"}, Unknown, "APIConnectionError"),
        ({"kind": "drop_after"}, Unknown, "APIConnectionError"),
        ({"kind": "garbage"}, Unknown, "APIError"),
        ({"kind": "error_500"}, Unknown, "api_error"),
        ({"kind": "error_500", "effect": False}, Unknown, "api_error"),
        ({"kind": "conflict"}, Unknown, "idempotency_key_in_use"),
        ({"kind": "rate_limit"}, Refused, "rate_limit"),
        ({"kind": "lock_timeout"}, Refused, "lock_timeout"),
        ({"kind": "status_403"}, Refused, "more_permissions_required"),
        ({"kind": "refuse", "code": "transfers_not_allowed"}, Refused, "transfers_not_allowed"),
    ],
)
def test_every_fault_is_one_attempt_and_one_judgement(gateway, stripe_books, fault, kind, code):
    """The SDK never repeats by itself, and what an answer does not prove is unknown."""
    stripe_books.fault(**fault)
    answer = send(gateway)

    assert (kind, code) == (type(answer), answer.code)
    assert 1 == len([r for r in stripe_books.requests if r.method == "POST"])


def test_slow_answer_is_unknown(stripe_books):
    """After the timeout nothing is known, though the money moved."""
    gateway = Gateway(local_stripe.FALLBACK_KEY, base_url=stripe_books.base_url, timeout_s=0.2)
    stripe_books.fault("slow", seconds=0.6)
    answer = send(gateway)

    assert (Unknown, 1) == (type(answer), len(stripe_books.books.transfers))


def test_key_used_for_something_else_is_unknown(gateway, stripe_books):
    """An idempotency error says that some request was made under this key, not which."""
    send(gateway)
    answer = send(gateway, amount=1)

    assert (Unknown, "idempotency_error", 1) == (type(answer), answer.code, len(stripe_books.books.transfers))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": 10**10}, "balance_insufficient"),
        ({"destination": "acct_nobody"}, "resource_missing"),
        ({"currency": "xxx"}, ""),
    ],
)
def test_refusal_carries_stripes_code_and_sentence(gateway, stripe_books, changes, code):
    """A definite no has a code to act on, a sentence to read and a request id for Stripe's support."""
    answer = send(gateway, **changes)

    assert (Refused, []) == (type(answer), stripe_books.books.transfers)
    assert answer.code.startswith(code)
    assert answer.message
    assert answer.request_id.startswith("req_")
    assert not answer.same_key


def test_unreachable_stripe_is_unknown():
    """Even a refused connection is only judged unknown: the caller looks, and finds nothing."""
    gateway = Gateway(local_stripe.FALLBACK_KEY, base_url="http://127.0.0.1:9", timeout_s=1)

    assert Unknown is type(send(gateway))


@pytest.mark.parametrize(
    "body",
    ["{}", '{"object": "balance"}', '{"object": "transfer"}', '{"object": "transfer", "id": "po_1"}', "[]", "null", '"x"', "7"],
)  # fmt: skip
def test_foreign_json_is_no_transfer(proxy, body):
    """A 200 from a proxy, in good JSON, is not a yes: nothing is known."""
    answer = send(through(proxy, (200, {"Content-Type": "application/json"}, body)))

    assert Unknown is type(answer)
    assert [("POST", "/v1/transfers")] == proxy.seen


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 409, 418, 429, 500, 502, 503])
def test_page_of_a_proxy_is_never_a_yes(proxy, status):
    """HTML with any status: never accepted; and a refusal only with a status that Stripe refuses with."""
    answer = send(through(proxy, (status, {"Content-Type": "text/html"}, "<html>no</html>")))

    assert Unknown is type(answer)


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
def test_key_is_the_one_that_was_checked_whatever_netrc_says(proxy, entry, tmp_path, monkeypatch):
    """The HTTP library would take another key from the operator's home folder, a full one of live mode perhaps."""
    (tmp_path / "netrc").write_text(f"{entry} login sk_live_51Habcdefgh00000 password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    send(through(proxy, (200, {"Content-Type": "application/json"}, "{}")))

    assert [f"Bearer {local_stripe.FALLBACK_KEY}"] == proxy.keys


def test_netrc_is_not_asked_for_stripe_itself_either(tmp_path, monkeypatch):
    """Where the environment's proxies count, its other keys do not."""
    (tmp_path / "netrc").write_text("default login sk_live_51Habcdefgh00000 password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    asked = requests.Request("POST", "https://api.stripe.com/v1/transfers", headers={"Authorization": "Bearer rk"})

    assert "Bearer rk" == Session("https://api.stripe.com").prepare_request(asked).headers["Authorization"]
    assert Session("https://api.stripe.com").trust_env


def test_what_is_for_this_machine_goes_to_no_proxy(gateway, stripe_books, proxy, monkeypatch):
    """Neither the key of a rehearsal nor its transfer is handed to the proxy of whoever runs it."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    assert Accepted is type(send(gateway))
    assert [] == proxy.seen


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_transfer_follows_no_redirect(proxy, stripe_books, status):
    """What answers so is not Stripe; the transfer and its key go to no second address, and nothing is known."""
    elsewhere = {"Location": f"{stripe_books.base_url}/v1/transfers"}
    answer = send(through(proxy, (status, elsewhere, "")))

    assert Unknown is type(answer)
    assert ([("POST", "/v1/transfers")], []) == (proxy.seen, stripe_books.books.transfers)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500])
def test_fault_of_stripes_own_is_unknown_whatever_the_status(proxy, status):
    """What calls itself an api_error does not know what it did."""
    body = json.dumps({"error": {"type": "api_error", "message": "Something went wrong"}})

    assert Unknown is type(send(through(proxy, (status, {}, body))))


def _cause_of(base_url):
    with pytest.raises(StripeRefusedError, match="Stripe cannot be reached, so nothing can be verified: ") as caught:
        Gateway(local_stripe.FALLBACK_KEY, base_url=base_url, timeout_s=5).livemode()
    return f"{caught.value} {caught.value.remedy}"


def test_each_cause_of_silence_has_its_own_remedy(monkeypatch, tmp_path, authority):
    """Intercepted TLS, a missing file of certificates, a dead proxy, an unknown host."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://127.0.0.1:{server.server_port}"

    assert "opens the encryption" in _cause_of(address)
    assert "DNS or VPN" in _cause_of("https://api.stripe.invalid")
    monkeypatch.setattr(stripe, "ca_bundle_path", str(tmp_path / "none.pem"))
    assert "REQUESTS_CA_BUNDLE" in _cause_of(address)
    monkeypatch.undo()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert "unset HTTPS_PROXY" in _cause_of("https://api.stripe.invalid")
    server.shutdown()
    server.server_close()


def test_retry_header_does_not_make_the_sdk_repeat(proxy):
    """Stripe-Should-Retry is for us to weigh, not for the SDK to follow."""
    body = json.dumps({"error": {"type": "api_error", "message": "try again"}})
    send(through(proxy, (503, {"Stripe-Should-Retry": "true"}, body)))

    assert 1 == len(proxy.seen)


@pytest.mark.parametrize("status", [429, 409, 500, 503])
def test_pause_that_is_asked_for_arrives(proxy, status):
    """Whatever the judgement is, it says how long Stripe, or what stands before it, asks to be left alone."""
    body = json.dumps({"error": {"type": "api_error", "message": "later"}})
    asked = {"Retry-After": "7"}

    assert 7 == send(through(proxy, (status, asked, body))).retry_after_s
    assert None is send(through(proxy, (status, {}, body))).retry_after_s


def test_notice_in_an_answer_does_not_hide_the_transfer(proxy):
    """The SDK turns Stripe-Notice into a warning; where warnings are errors the yes still arrives."""
    body = json.dumps({"id": "tr_1", "object": "transfer", "amount": 1})
    answer = send(through(proxy, (200, {"Stripe-Notice": "please upgrade"}, body)))

    assert Accepted is type(answer)


def test_hostile_text_in_an_answer_is_made_plain(proxy):
    """Control characters, directions and lone surrogates in a refusal reach neither a terminal nor a database."""
    body = '{"error": {"type": "invalid_request_error", "code": "a\\nb", "message": "no\\u001b[2J \\u202eyes\\ud800\\u0000"}}'
    answer = send(through(proxy, (400, {}, body)))

    assert ("a b", "no [2J yes") == (answer.code, answer.message)


def test_surrogate_in_a_transfer_can_be_stored(proxy):
    """The text of the evidence can be encoded, whatever Stripe's object holds."""
    body = '{"id": "tr_1", "object": "transfer", "description": "\\ud800"}'
    answer = send(through(proxy, (200, {}, body)))

    assert answer.text.encode()


@pytest.mark.parametrize("amount", [1.0, "125075", True, None])
def test_amount_must_be_whole_minor_units(gateway, stripe_books, amount):
    """What is no whole number never reaches the SDK."""
    with pytest.raises(AssertionError, match="Bug"):
        send(gateway, amount=amount)

    assert [] == stripe_books.requests


# ---------------------------------------------------------------------------------------------- judgement

REFUSING = {
    stripe.InvalidRequestError: 400,
    stripe.AuthenticationError: 401,
    stripe.CardError: 402,
    stripe.PermissionError: 403,
    stripe.RateLimitError: 429,
}


def error_classes(base=stripe.StripeError):
    return [base] + [kind for child in base.__subclasses__() for kind in error_classes(child)]


def make(kind, status):
    body = {"error": {"type": "x", "code": "some_code", "message": "said"}}
    extra = {"param": None} if kind is stripe.InvalidRequestError else {}
    extra |= {"param": None, "code": "c"} if kind is stripe.CardError else {}
    if kind is stripe.SignatureVerificationError:
        return kind("said", "header")
    if issubclass(kind, oauth_error.OAuthError):
        return kind("some_code", "said", http_status=status, json_body=body)
    return kind("said", http_status=status, json_body=body, **extra)


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_is_judged(kind):
    """Five kinds are a no, each with its status; every other kind of the SDK, old or new, is unknown."""
    answer = judge_answer(make(kind, REFUSING.get(kind, 400)))

    assert (Refused if kind in REFUSING else Unknown) is type(answer)


@pytest.mark.parametrize("status", [None, 200, 302, 500, 503])
def test_refusing_kind_with_a_strange_status_is_unknown(status):
    """An InvalidRequestError that did not come as a 4xx proves nothing."""
    assert Unknown is type(judge_answer(make(stripe.InvalidRequestError, status)))


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError(), KeyError("data"), MemoryError(), OSError(5, "io")])
def test_error_that_is_not_stripes_is_unknown(error):
    """Whatever breaks around the call says nothing about the money, and its text stays out."""
    answer = judge_answer(error)

    assert (Unknown, type(error).__name__, "") == (type(answer), answer.code, answer.request_id)


@given(st.text(st.characters(codec=None)))
def test_judgement_is_total(text):
    """No text makes the judgement itself fail."""

    class Odd(stripe.StripeError):
        @property
        def user_message(self):
            return text

    answer = judge_answer(Odd(text))

    assert Unknown is type(answer)
    assert answer.message.isprintable()


@given(st.text(st.characters(codec=None)))
def test_plain_text_can_be_shown_and_stored_anywhere(text):
    """One line, printable, storable, not endless."""
    shown = one_line(text)

    assert shown.isprintable()
    assert shown == shown.encode().decode()
    assert len(shown) <= 500


# ---------------------------------------------------------------------------------------------- reading


def test_listing_shows_the_group_only(gateway):
    """The look-up sees this ledger payout's transfers and no others, newest first."""
    mine = [send(gateway, f"k{number}", amount=100).made["id"] for number in range(3)]
    send(gateway, "other", transfer_group="group-2", amount=100)

    assert sorted(mine) == sorted(transfer["id"] for transfer in gateway.transfers_in_group(GROUP))


def test_listing_reads_every_page(gateway, stripe_books):
    """A hundred to a page, and the next page after the last of this one."""
    stripe_books.seed(available={"usd": 10**9})
    for number in range(101):
        send(gateway, f"k{number}", amount=1)
    found = gateway.transfers_in_group(GROUP)

    assert (101, 101) == (len(found), len({transfer["id"] for transfer in found}))


def test_endless_listing_ends(proxy):
    """A group of ten thousand is somebody else's: evidence fails instead of running for ever."""
    body = json.dumps({"object": "list", "has_more": True, "data": [{"id": "tr_1", "object": "transfer"}]})
    gateway = through(proxy, (200, {}, body))

    with pytest.raises(EvidenceError, match="over 10000 entries"):
        gateway.transfers_in_group(GROUP)


def test_balance_and_mode_are_stripes(gateway):
    """The available money per currency, nothing for one that was never had, and Stripe's own word on the mode."""
    total, drawable = gateway.funds("usd")

    assert total.amount_minor > 0
    assert total == drawable
    assert (Money(0, "sek"), Money(0, "sek")) == gateway.funds("sek")
    assert not gateway.livemode()


def test_account_is_learned_even_from_the_refusal(gateway, reader):
    """The fallback key may not read its account; Stripe's refusal names it."""
    assert "acct_1SandboxPlatform00" == gateway.account_id() == reader.account_id()


def test_account_that_no_text_names_is_not_guessed(proxy):
    """Without the account in the refusal there is none."""
    body = json.dumps({"error": {"type": "invalid_request_error", "message": "No."}})

    assert through(proxy, (403, {}, body)).account_id() is None


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ({"kind": "drop_before"}, StripeRefusedError, "unreachable"),
        ({"kind": "status_403"}, StripeRefusedError, NOT_PERMITTED),
        ({"kind": "rate_limit"}, StripeRefusedError, "rate_limit"),
        ({"kind": "error_500"}, StripeRefusedError, ""),
    ],
)
def test_failing_read_is_one_sentence_with_a_remedy(gateway, stripe_books, fault, error, code):
    """A read that fails says why, what to do, and whether it was the permission."""
    stripe_books.fault(method="GET", **fault)
    with pytest.raises(error) as caught:
        gateway.transfers_in_group(GROUP)

    assert code == caught.value.code
    assert caught.value.remedy


def test_rotated_key_is_a_matter_of_settings(gateway, stripe_books):
    """401 asks for the current key, and shows none of the old one."""
    stripe_books.switch(expired_keys=frozenset({"fallback"}))
    with pytest.raises(SettingsError, match="does not accept the key") as caught:
        gateway.transfers_in_group(GROUP)

    assert local_stripe.FALLBACK_KEY[-4:] not in str(caught.value)


def test_connected_account_needs_its_own_permission(gateway, reader, stripe_books):
    """The fallback key sees nothing of the studio's account; the read key sees payment and payout."""
    made = send(gateway).made
    with pytest.raises(StripeRefusedError) as caught:
        gateway.payments_balance(STUDIO, made["destination_payment"])
    entry = reader.payments_balance(STUDIO, made["destination_payment"])
    stripe_books.advance(3 * 86_400)
    payouts = reader.payouts_since(STUDIO, made["created"])

    assert NOT_PERMITTED == caught.value.code
    assert (125_075, made["destination_payment"]) == (entry["amount"], entry["source"])
    assert reader.payments_balance(STUDIO, "py_none") is None
    assert any(reader.payout_holds(STUDIO, payout["id"], made["destination_payment"]) for payout in payouts)


def test_error_of_a_read_keeps_stripes_request_id():
    """Stripe's support asks for it."""
    error = stripe.InvalidRequestError("said", None, http_status=404, headers={"request-id": "req_1"})

    assert "req_1" == read_error(error).request_id


# ---------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("key", "restricted", "livemode"),
    [
        ("rk_test_51abcd1234", True, False), ("rk_live_51abcd1234", True, True), ("sk_test_51abcd1234", False, False),
        ("sk_live_51abcd1234", False, True), ("rkcs_live_51abcd1234", True, True),
    ],
)  # fmt: skip
def test_key_says_what_it_is_and_shows_no_more(key, restricted, livemode):
    """Kind, mode, last four characters and the beginning of a digest."""
    identity = identify_key(key)

    assert (restricted, livemode, "1234") == (identity.restricted, identity.livemode, identity.last4)
    assert key not in str(identity)
    assert [livemode, not livemode, not livemode] == [
        key_fits(identity, mode) for mode in (Mode.LIVE, Mode.TEST, Mode.SANDBOX)
    ]


@pytest.mark.parametrize(
    "key", ["", "pk_live_51abcd", "whsec_abc", "rk_live_", "rk_prod_abc", " rk_test_abc", "rk_test_a b"]
)
def test_what_is_no_key_is_refused_without_being_shown(key):
    """A publishable key, a webhook secret or a broken key cannot pay, and does not reach the message."""
    with pytest.raises(SettingsError) as caught:
        identify_key(key)

    assert not key or key not in str(caught.value)


def test_gateway_never_shows_its_key(gateway, stripe_books):
    """Neither its representation nor any answer holds the key."""
    stripe_books.switch(expired_keys=frozenset({"fallback"}))
    shown = repr(gateway) + repr(send(gateway))

    assert local_stripe.FALLBACK_KEY not in shown
    assert "rk_test_…" in shown


def test_masked_keys_lose_their_last_characters():
    """Stripe's own masking leaves the end of the key; ours does not."""
    assert "Invalid key: rk_live_… on" == mask_keys("Invalid key: rk_live_*********abcd on")


def test_telemetry_is_off(gateway):
    """Nothing about this machine is sent along, and no file is written into the home directory."""
    assert not stripe.enable_telemetry
    assert gateway.base_url.startswith("http://127.0.0.1")
