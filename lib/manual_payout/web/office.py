"""What every page works with: the desk with the registry as it is now, who is signed in, templates, and what waits to be signed."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request as Call
from starlette.responses import HTMLResponse, JSONResponse, Response

from manual_payout.desk.people import Person, load_registry
from manual_payout.desk.signatures import (
    Assertion,
    PublicKey,
    check_signature,
    is_passkey,
    sign_by_passkey,
)
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ApprovalError, ManualPayoutError, SignatureError, UsageError
from manual_payout.domain.rendering import environment
from manual_payout.web.sessions import SESSION_S, Memory, Unsigned, WebSession
from truthful_papermill.plain_text import shown

web_log = logging.getLogger(__package__)

COOKIE = "__Host-manual-payout"


@dataclass
class Visit:
    """One request by somebody who is signed in."""

    call: Call
    desk: Desk
    session: WebSession
    person: Person


@dataclass
class Office:
    """
    The server's own things.

    Args:
        desk: Without the key that moves money.

        origin: At which people open the pages; passkeys are for its host.
    """

    desk: Desk
    origin: str
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.host = urlsplit(self.origin).hostname or ""
        self._templates = environment("web/templates", finalize=_visible)
        self._templates.globals["mode"] = self.desk.settings.mode.value
        self._stamp = self._registry_stamp()

    def desk_now(self) -> Desk:
        """The desk with the people and keys of this moment: who was revoked a minute ago is out."""
        if (stamp := self._registry_stamp()) != self._stamp:
            settings = self.desk.settings
            paths = settings.approvers_path(), settings.allowed_signers_path()
            self.desk = replace(self.desk, registry=load_registry(*paths, settings.policy.approvals.passkeys()))
            self._stamp = stamp
        return self.desk

    def _registry_stamp(self) -> tuple[object, ...]:
        settings = self.desk.settings
        signers = settings.allowed_signers_path()
        files = settings.approvers_path(), signers, signers.with_name("revoked_keys")
        return tuple((str(file), (told := file.stat()).st_mtime_ns, told.st_size, told.st_ino) for file in files)

    def passkeys_of(self, desk: Desk, person: Person, namespace: str) -> list[PublicKey]:
        """Return the keys with which somebody may sign for *namespace* on these pages now."""
        allowed = desk.registry.signers.keys_for(person.email, namespace, desk.now())
        return [key for key in allowed if is_passkey(key) and key.application == self.host]

    def session_of(self, call: Call, desk: Desk) -> tuple[WebSession, Person] | None:
        """Return who is signed in, as long as the key of the sign-in is still good."""
        session = self.memory.find_session(call.cookies.get(COOKIE, ""))
        person = desk.registry.find(session.person_id) if session is not None else None
        if session is None or person is None or not person.valid_at(desk.now()):
            return None
        line = desk.registry.signers.find(session.key)
        known = line is not None and line.principal == person.email and session.key not in desk.registry.signers.revoked
        ended = line is not None and line.valid_before is not None and desk.now() >= line.valid_before
        return (session, person) if known and not ended else None

    def page(self, template: str, visit: Visit | None, *, status: int = 200, **values: Any) -> Response:
        """Render a page; no secret of this machine gets onto one."""
        whole = {"person": visit.person if visit else None, "pending": None} | values
        text = self._templates.get_template(f"{template}.html.j2").render(whole)
        return HTMLResponse(self.desk.redactor_at_hand.redact(text), status)

    def refusal(self, error: ManualPayoutError, visit: Visit | None = None, *, status: int = 0) -> Response:
        """Show what is wrong and what to do."""
        status = status or {2: 400, 3: 409}.get(error.exit_code, 503)
        return self.page("refused", visit, status=status, error=error)

    def with_cookie(self, answer: Response, token: str) -> Response:
        """Give the browser its session; nothing but this server ever reads it."""
        answer.set_cookie(
            COOKIE, token, max_age=SESSION_S if token else 0, path="/", secure=True, httponly=True, samesite="strict"
        )
        return answer

    def signed(self, desk: Desk, pending: Unsigned, told: Mapping[str, str], person: Person | None) -> dict[str, str]:
        """
        Find the key of an assertion, make the signature of it, and do what was waiting for it.

        Raises:
            SignatureError: It is by no key of that person, or was made otherwise than here and now.
        """
        assertion = Assertion(*(_bytes(told, name) for name in ("authenticator_data", "client_data", "signature")))
        keys = [pending.key] if pending.key else self.passkeys_of(desk, person, pending.namespace) if person else []
        last = SignatureError(
            "This passkey is not in the registry for that.",
            "Have its line reviewed and added; make one under Enroll if you have none.",
        )
        for key in keys:
            try:
                armored = sign_by_passkey(key, pending.namespace, assertion)
                check_signature(pending.data, armored, key, pending.namespace, (self.origin,))
            except SignatureError as error:
                last = error
                continue
            return pending.finish(key, armored)
        raise last


def form_of(call: Call) -> dict[str, str]:
    """
    Read the fields of a form, each once.

    Raises:
        UsageError: It is no form.
    """
    try:
        fields = parse_qs(_body_of(call).decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=40)
    except ValueError:
        fields = {}
    if any(len(values) != 1 for values in fields.values()):
        raise UsageError("A field of the form stands twice.", "Open the page again.")
    return {name: values[0] for name, values in fields.items()}


def json_of(call: Call) -> dict[str, str]:
    """
    Read what the script sends: text by name.

    Raises:
        UsageError: It is something else.
    """
    try:
        told = json.loads(_body_of(call))
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise UsageError("This is not the answer of a ceremony.", "Open the page again.")
    return told


def answered(office: Office, act: Callable[[], dict[str, str]]) -> Response:
    """Answer the script: with what *act* says, or with what is wrong."""
    try:
        return JSONResponse(act())
    except ManualPayoutError as error:
        clean = office.desk.redactor_at_hand.redact
        web_log.warning("refused: %s", clean(shown(error.message)))
        told = {"error": clean(shown(error.message)), "remedy": clean(shown(error.remedy))}
        return JSONResponse(told, 400 if isinstance(error, UsageError) else 409)


def encoded(data: bytes) -> str:
    """Write bytes as WebAuthn does."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """
    Read bytes as WebAuthn writes them.

    Raises:
        UsageError: They are not.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise UsageError("This is not the answer of a ceremony.", "Open the page again.") from None


def require(condition: object, message: str, remedy: str) -> None:
    """
    Refuse unless something holds.

    Raises:
        ApprovalError: It does not.
    """
    if not condition:
        raise ApprovalError(message, remedy)


def _bytes(told: Mapping[str, str], name: str) -> bytes:
    return decoded(told.get(name, ""))


def _body_of(call: Call) -> bytes:
    body: bytes = call.scope.get("body", b"")
    return body


def _visible(value: Any) -> Any:
    # Markup of ours keeps its class; hostile text becomes visible here and is escaped by the template.
    return shown(value, keep="\n") if type(value) is str else value
