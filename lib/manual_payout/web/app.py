"""Every address of the server, and what answers there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as Call
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import EvidenceError, ManualPayoutError
from manual_payout.domain.models import Request
from manual_payout.web import entering, looking, signing
from manual_payout.web.guard import Guard
from manual_payout.web.office import Office, Visit, answered, json_of, web_log

_STATIC = {"style.css": "text/css", "ceremony.js": "text/javascript"}

_Open = Callable[[Office, Call], Response]
_Known = Callable[[Office, Visit], Response]
_About = Callable[[Office, Visit, Request], Response]


def web_app(desk: Desk, origin: str) -> ASGIApp:
    """
    Return the application.

    Args:
        desk: Without the key that moves money.

        origin: At which people open it, such as ``https://payouts.example.com``.
    """
    office = Office(desk, origin)
    routes = [
        Route("/static/{name}", _static),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route("/sign-in", _open(office, entering.sign_in_page), methods=["GET"]),
        Route("/sign-in", _open(office, entering.finish_sign_in), methods=["POST"]),
        Route("/sign-out", _open(office, entering.sign_out), methods=["POST"]),
        Route("/enroll", _open(office, entering.enroll), methods=["GET", "POST"]),
        Route("/enroll/key", _open(office, entering.new_key), methods=["POST"]),
        Route("/enroll/test", _open(office, entering.finish_enrolment), methods=["POST"]),
        Route("/ceremony", _open(office, _ceremony), methods=["POST"]),
        Route("/", _known(office, looking.board), methods=["GET"]),
        Route("/me", _known(office, looking.me), methods=["GET"]),
        Route("/form", _known(office, signing.form_page), methods=["GET", "POST"]),
        Route("/request/{request_id}", _about(office, signing.request_page), methods=["GET"]),
        Route("/request/{request_id}/approve", _about(office, signing.confirm_approval), methods=["POST"]),
        Route("/request/{request_id}/withdraw", _about(office, signing.confirm_withdrawal), methods=["POST"]),
        Route("/evidence/{incident_id}/{ledger_payout_id}/", _known(office, _evidence), methods=["GET"]),
        Route("/evidence/{incident_id}/{ledger_payout_id}/{name:path}", _known(office, _evidence), methods=["GET"]),
    ]
    handlers = {HTTPException: _nothing_here, Exception: _fault}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), origin)


def _open(office: Office, act: _Open) -> Callable[[Call], Response]:
    def handle(call: Call) -> Response:
        try:
            return act(office, call)
        except ManualPayoutError as error:
            return office.refusal(error)

    return handle


def _known(office: Office, act: _Known) -> Callable[[Call], Response]:
    """Answer whoever is signed in; everybody else is asked to sign in, and learns nothing of what there is."""

    def handle(call: Call) -> Response:
        visit = None
        try:
            desk = office.desk_now()
            found = office.session_of(call, desk)
            if found is None:
                return entering.sign_in_page(office, call, status=401)
            visit = Visit(call, desk, *found)
            return act(office, visit)
        except ManualPayoutError as error:
            return office.refusal(error, visit)

    return handle


def _about(office: Office, act: _About) -> Callable[[Call], Response]:
    """Answer about the request that the address names."""

    def about(office: Office, visit: Visit) -> Response:
        try:
            request = visit.desk.store.get_request(visit.call.path_params["request_id"])
        except EvidenceError as error:
            return office.refusal(error, visit, status=404)
        return act(office, visit, request)

    return _known(office, about)


def _ceremony(office: Office, call: Call) -> Response:
    """Take the assertion over a statement that this session began; whatever comes of it, the statement is used."""

    def act() -> dict[str, str]:
        told, desk = json_of(call), office.desk_now()
        found = office.session_of(call, desk)
        pending = office.memory.take(told.get("id", ""), found[0].token if found else "")
        return office.signed(desk, pending, told, found[1] if found else None)

    return answered(office, act)


def _evidence(_: Office, visit: Visit) -> Response:
    return looking.evidence(visit)


def _static(call: Call) -> Response:
    name = call.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404)
    data = (files(__package__) / "static" / name).read_bytes()
    return Response(data, media_type=_STATIC[name], headers={"cache-control": "no-cache"})


def _nothing_here(_: Call, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return PlainTextResponse("There is no such page here.\n", status)


def _fault(_: Call, error: Exception) -> Response:
    # What it says may quote anything; its kind is enough to find it by.
    web_log.error("a fault of this software: %s", type(error).__name__)
    return PlainTextResponse("This is a fault of the software. Nothing was signed by it; open the page again.\n", 500)
