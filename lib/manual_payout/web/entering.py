"""Signing in and out, and enrolling a passkey, of which the server keeps nothing."""

from __future__ import annotations

import re
import secrets
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from starlette.requests import Request as Call
from starlette.responses import JSONResponse, RedirectResponse, Response

from manual_payout.desk.people import Person
from manual_payout.desk.signatures import (
    APPROVAL,
    ENROLMENT,
    REQUEST,
    SIGN_IN,
    WITHDRAWAL,
    AllowedSigner,
    PublicKey,
    passkey_of,
    signer_line,
)
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json, instant_text
from manual_payout.domain.errors import ApprovalError, ManualPayoutError, ParameterError, SignatureError, UsageError
from manual_payout.web.office import COOKIE, Office, answered, decoded, encoded, form_of, json_of, web_log
from manual_payout.web.sessions import Unsigned

# Where a sign-in may lead: to a page of ours, whose path holds nothing that a browser would take for another host.
_PLACE = re.compile(r"/(?:[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*)?")

_VALID_DAYS = 365
_SYNCED = 0x08


def place_of(text: str) -> str:
    """Return *text* where it is the path of a page of ours, else the board's."""
    return text if _PLACE.fullmatch(text) and ".." not in text else "/"


def sign_in_page(office: Office, call: Call, *, status: int = 200) -> Response:
    """Ask for a passkey; what was asked for is shown afterwards."""
    place = place_of(call.query_params.get("next", call.url.path if call.url.path != "/sign-in" else "/"))
    statement = {"version": 1, "purpose": "sign-in", "origin": office.origin, "nonce": secrets.token_hex(16)}

    # The key stands for the person: which of the registry's it is, only the assertion shows.
    pending = office.memory.begin(
        _address(call), SIGN_IN, canonical_json(statement).encode(), lambda _, __: {"go": place}
    )
    return office.page("sign_in", None, status=status, pending=pending, encoded=encoded, host=office.host, place=place)


def finish_sign_in(office: Office, call: Call) -> Response:
    """Take the assertion of a sign-in; a wrong one is paced by address, a right one never waits."""
    entered: list[Response] = []

    def act() -> dict[str, str]:
        told, desk = json_of(call), office.desk_now()
        pending = office.memory.take(told.get("id", ""), None)
        if pending.namespace != SIGN_IN:
            raise UsageError("This is not a sign-in.", "Open the page again.")
        person = _person_of(desk, told)
        found: list[PublicKey] = []
        noting = Unsigned(pending.number, pending.holder, SIGN_IN, pending.data, pending.ends, _note(found, pending))
        went = office.signed(desk, noting, told, person)
        session = office.memory.begin_session(person.person_id, found[0], call.cookies.get(COOKIE, ""))
        web_log.info("%s signed in", person.handle)
        entered.append(office.with_cookie(JSONResponse(went), session.token))
        return went

    answer = answered(office, act)
    if entered:
        return entered[0]
    if wait := office.memory.count_wrong(_address(call)):
        web_log.warning("too many wrong sign-ins from %s", _address(call))
        told = {
            "error": "There were many wrong sign-ins from here.",
            "remedy": f"Wait {wait} seconds; a right one is taken at once.",
        }
        return JSONResponse(told, 429, headers={"retry-after": str(wait)})
    return answer


def sign_out(office: Office, call: Call) -> Response:
    """End the session."""
    office.memory.end_session(call.cookies.get(COOKIE, ""))
    return office.with_cookie(RedirectResponse("/sign-in", 303), "")


def enroll(office: Office, call: Call) -> Response:
    """Ask who it is for, then offer to make the passkey."""
    if call.method == "GET":
        return office.page("enroll", None, who=None, error=None)
    name = form_of(call).get("who", "").strip()
    person = office.desk_now().registry.find(name)
    if person is None:
        error = ParameterError(
            "who", name[:100], "your handle or email as in the registry", "Ask to be added to it first."
        )
        return office.page("enroll", None, status=400, who=None, error=error)
    values = {"user": encoded(uuid.UUID(person.person_id).bytes), "challenge": encoded(secrets.token_bytes(32))}
    return office.page(
        "enroll", None, who=person, error=None, host=office.host, user=values["user"], challenge=values["challenge"]
    )


def new_key(office: Office, call: Call) -> Response:
    """Take the public key of a new passkey and ask for a test signature with it."""

    def act() -> dict[str, str]:
        told, desk = json_of(call), office.desk_now()
        person = _person_of(desk, {"user_handle": told.get("user", "")})
        if told.get("algorithm") != "-7":
            raise SignatureError(
                "This authenticator made no ES256 key, the only kind of passkey that OpenSSH can check.",
                "Use a telephone's passkey or a security key; Windows Hello makes ES256 keys on newer machines only.",
            )
        try:
            key = passkey_of(decoded(told.get("spki", "")), office.host)
        except ValueError as error:
            raise SignatureError(f"The passkey cannot be used: {error}.", "Use another authenticator.") from None
        statement = {"version": 1, "purpose": "enrolment", "key": key.text, "nonce": secrets.token_hex(16)}
        data = canonical_json(statement | {"at": instant_text(desk.now())}).encode()

        def finish(by: PublicKey, armored: str) -> dict[str, str]:
            return _line(desk, person, by, data, armored)

        pending = office.memory.begin(_address(call), ENROLMENT, data, finish, key)
        return {"id": pending.number, "challenge": encoded(pending.challenge)}

    return answered(office, act)


def finish_enrolment(office: Office, call: Call) -> Response:
    """Check the test signature with OpenSSH itself, and show the line."""

    def act() -> dict[str, str]:
        told = json_of(call)
        pending = office.memory.take(told.get("id", ""), None)
        if pending.namespace != ENROLMENT:
            raise UsageError("This is not an enrolment.", "Open the page again.")
        line = office.signed(office.desk_now(), pending, told, None)
        data = decoded(told.get("authenticator_data", ""))
        kept = (
            "synced: it may be on other devices of its owner too"
            if data[32] & _SYNCED
            else "said to stay on this device"
        )
        return line | {"kept": kept}

    return answered(office, act)


def _line(desk: Desk, person: Person, key: PublicKey, data: bytes, armored: str) -> dict[str, str]:
    rights = ((APPROVAL, {"approve"}), (REQUEST, {"request"}), (WITHDRAWAL, {"approve", "request"}))
    purposes = tuple(name for name, rights in rights if rights & person.may)
    today = desk.now().replace(hour=0, minute=0, second=0, microsecond=0)
    ends = today + timedelta(days=_VALID_DAYS)
    entry = AllowedSigner(person.email, (*purposes, SIGN_IN), key, today, ends, "passkey")
    _require_openssh(person, key, data, armored)
    return {"line": signer_line(entry), "fingerprint": key.fingerprint}


def _require_openssh(person: Person, key: PublicKey, data: bytes, armored: str) -> None:
    """Have stock ``ssh-keygen`` check the test signature, which also finds a browser that orders its client data otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        signers, signature = Path(folder, "allowed_signers"), Path(folder, "signature")
        signers.write_text(signer_line(AllowedSigner(person.email, (ENROLMENT,), key)) + "\n", "utf-8")
        signature.write_text(armored, "ascii")
        command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", person.email, "-n", ENROLMENT]
        try:
            # A list of words and no shell; the email is the registry's.
            command += ["-s", str(signature)]
            ran = subprocess.run(command, input=data, capture_output=True, check=False, timeout=20)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ApprovalError(
                f"ssh-keygen cannot be asked: {type(error).__name__}.", "Install OpenSSH on the server."
            ) from None
    if ran.returncode:
        raise SignatureError(
            "OpenSSH does not accept what this browser signs.", "Use another browser or authenticator."
        )


def _note(found: list[PublicKey], pending: Unsigned) -> Callable[[PublicKey, str], dict[str, str]]:
    def finish(key: PublicKey, armored: str) -> dict[str, str]:
        found.append(key)
        return pending.finish(key, armored)

    return finish


def _person_of(desk: Desk, told: dict[str, str]) -> Person:
    """Return the person whose id the passkey carries."""
    try:
        person = desk.registry.find(str(uuid.UUID(bytes=decoded(told.get("user_handle", "")))))
    except (ValueError, ManualPayoutError):
        person = None
    if person is None or not person.valid_at(desk.now()):
        raise ApprovalError("This passkey is nobody's of the registry.", "Enroll one, and have its line reviewed.")
    return person


def _address(call: Call) -> str:
    return f"at {call.client.host}" if call.client else "at nowhere"
