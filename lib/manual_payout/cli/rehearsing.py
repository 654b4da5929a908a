"""Rehearsal, the local Stripe, and our own tables."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from manual_payout.cli.answers import progress, show_json
from manual_payout.cli.options import Json
from manual_payout.errors import NotFinishedError, ParameterError
from manual_payout.lean import leave_out_unused


def rehearse(
    target: Annotated[str, typer.Option(metavar="WHERE", help="sandbox: the local Stripe.")] = "sandbox",
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new one; else outputs/rehearsals/<time>.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the demo incident from request to sealed folder; nothing real is touched.

    It starts and stops the local sandbox by itself, uses a database of its own, and ignores every key in the
    environment.

    \b
    Example: manual-payout rehearse
    """
    if target != "sandbox":
        raise ParameterError("target", target, "sandbox, the only target of this release")
    leave_out_unused()
    from manual_payout.rehearsal import failed_stage
    from manual_payout.rehearsal import rehearse as play
    from manual_payout.steps.closing import read_results

    root = _new_folder(folder)
    with progress(as_json=as_json) as shown:
        played = play(root, say=lambda sentence: typer.echo(sentence, err=True), progress=shown)
    if as_json:
        show_json({"folder": str(played.folder), "green": played.green, "transfers": played.transfers})
    else:
        typer.echo(f"\n{read_results(played.folder).to_string(index=False)}\n")
        typer.echo(f"Transfers in the sandbox's own books: {played.transfers}")
        typer.echo(f"Evidence: {played.folder}")
    if error := failed_stage(played):
        raise error
    if not played.green:
        raise NotFinishedError("The rehearsal did not end as it should.", f"Open {played.folder} to see where.")


def sandbox(
    port: Annotated[int, typer.Option(metavar="PORT", help="On 127.0.0.1; 0 takes a free one.")] = 12111,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the demo's database is made.")] = Path(
        "outputs/sandbox"
    ),
    as_json: Json = False,
) -> None:
    """Run a local Stripe in the foreground, with the demo's accounts and ledger; prints what to export.

    It keeps everything in memory and forgets it when Ctrl-C ends it (exit 0); its database stays. Its clock stands at
    the demo's night and moves on only when a run waits.

    \b
    Example: manual-payout sandbox
    """
    from manual_payout.demo import incident
    from manual_payout.rehearsal import sandbox_books, set_up_database
    from manual_payout.sandbox import serve

    accounts, available = sandbox_books()
    url = set_up_database(folder)

    def announce(base_url: str) -> None:
        exports = _exports(base_url, url, folder)
        if as_json:
            show_json(exports)
        else:
            typer.echo(_announcement(exports, folder))

    serve("127.0.0.1", port, start=incident.NOW, accounts=accounts, available=available, on_ready=announce)


def upgrade(as_json: Json = False) -> None:
    """Create or migrate our tables in DATABASE_URL; doing it again changes nothing.

    \b
    Example: manual-payout db upgrade
    """
    from manual_payout import database
    from manual_payout.settings import load_settings

    engine = database.connect(load_settings().database_text(), name="DATABASE_URL")
    try:
        revision = database.upgrade(engine)
    finally:
        engine.dispose()
    if as_json:
        show_json({"migration": revision})
    else:
        typer.echo(f"The database is at migration {revision}.")


def _new_folder(folder: Path | None) -> Path:
    from datetime import UTC, datetime

    from manual_payout.settings import Policy, load_settings

    if folder is None:
        # Only where outputs go is asked of the environment: no policy file, no address.
        settings = load_settings(stripe_api_base="https://api.stripe.com", policy=Policy())
        folder = settings.outputs_dir / "rehearsals" / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError("folder", str(folder), "a new or empty folder; evidence is never overwritten")
    return folder


def _exports(base_url: str, database_url: str, folder: Path) -> dict[str, str]:
    from manual_payout.demo.incident import OPERATOR
    from manual_payout.sandbox import FALLBACK_KEY, READ_KEY

    return {
        "STRIPE_API_BASE": base_url,
        "STRIPE_FALLBACK_SECRET_KEY": FALLBACK_KEY,
        "STRIPE_READ_SECRET_KEY": READ_KEY,
        "DATABASE_URL": database_url,
        "LEDGER_DATABASE_URL": database_url,
        "MANUAL_PAYOUT_OUTPUTS": str(folder.resolve()),
        "MANUAL_PAYOUT_OPERATOR": OPERATOR,
    }


def _announcement(exports: dict[str, str], folder: Path) -> str:
    lines = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports.items())
    return f"""The local Stripe is ready; Ctrl-C stops it. In another shell:

unset MANUAL_PAYOUT_POLICY MANUAL_PAYOUT_APPROVERS MANUAL_PAYOUT_ALLOWED_SIGNERS MANUAL_PAYOUT_SIGNING_KEY
{lines}

To begin afresh another time, remove {folder} first: its database outlives this process, the money does not."""
