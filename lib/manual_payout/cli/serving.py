"""The form and the approvals in a browser: the command that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from manual_payout.domain.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from manual_payout.desk.settings import Settings

PORT = 8700


def web(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens; this machine alone unless told.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="On which it listens.")] = PORT,
    origin: Annotated[
        str, typer.Option(metavar="URL", help="At which people open it: https://payouts.example.com.")
    ] = "",
    proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="A proxy whose X-Forwarded-For is believed; repeatable.")
    ] = None,
) -> None:
    """Serve the form and the approver's pages in the foreground, signed with passkeys; Ctrl-C ends it.

    It cannot move money: given the fallback key it refuses to start. For a team it stands behind a proxy with TLS, and
    --origin names what people type; docs/web.md shows nginx and Caddy.

    \b
    Examples:
      env -u STRIPE_FALLBACK_SECRET_KEY manual-payout web
      manual-payout web --origin https://payouts.example.com --proxy 127.0.0.1
    """
    from manual_payout.desk.settings import load_settings
    from manual_payout.desk.wiring import open_desk

    settings = load_settings()
    _refuse_fallback_key(settings)
    place = _origin(settings, origin, port)
    desk = open_desk(settings)

    from manual_payout.web.serving import serve_pages

    typer.echo(f"Open {place}; Ctrl-C ends it.", err=True)
    serve_pages(desk, place, host, port, proxies=proxy or [])


def _refuse_fallback_key(settings: Settings) -> None:
    if settings.fallback_key is not None or settings.fallback_key_command:
        name = "STRIPE_FALLBACK_SECRET_KEY" + ("" if settings.fallback_key is not None else "_COMMAND")
        raise SettingsError(
            f"{name} is set, and whoever answers browsers never holds the key that moves money.",
            f"Run `env -u {name} manual-payout web`; a read-only key in STRIPE_READ_SECRET_KEY is enough.",
        )


def _origin(settings: Settings, given: str, port: int) -> str:
    """Say at which origin people open the pages: the one that was given, and one of the policy's."""
    from manual_payout.desk.settings import ApprovalsPolicy
    from manual_payout.desk.signatures import ANY_LOCALHOST

    allowed = settings.policy.approvals.origins
    named = [one for one in allowed if one != ANY_LOCALHOST]
    origin = given or (named[0] if len(named) == 1 else f"http://localhost:{port}")
    try:
        ApprovalsPolicy(origins=[origin])
    except ValueError:
        raise UsageError(
            f"--origin is {origin!r}, expected scheme, host and port as browsers write them.",
            "Write it like https://payouts.example.com; on this machine http://localhost:8700, never an address.",
        ) from None
    local = ANY_LOCALHOST in allowed and urlsplit(origin).hostname == "localhost"
    if origin not in allowed and not local:
        raise SettingsError(
            f"{origin} is none of the policy's origins ({', '.join(allowed) or 'it names none'}).",
            "Have it added to approvals.origins in the reviewed policy file: what is signed elsewhere counts nowhere.",
        )
    return origin
