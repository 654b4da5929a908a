"""Keys to sign with: making one, and seeing whose are whose."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli.answers import show_json, show_table
from manual_payout.cli.options import EXIT_CODES, Json
from manual_payout.domain.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from manual_payout.desk.people import Person, Registry
    from manual_payout.desk.settings import Settings
    from manual_payout.desk.signatures import AllowedSigner

# A key that nobody looks at again ends by itself; the reviewer of the line may say otherwise.
_VALID_DAYS = 365

keys = typer.Typer(
    help="Keys to sign with: make one, show whose are whose.\n\n\b\n"
    "Example: manual-payout keys new --as priya --out ~/.ssh/manual_payout",
    short_help="Keys to sign with: make one, show whose are whose.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def new(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where it is made, with FILE.pub beside it.")],
    who: Annotated[str, typer.Option("--as", metavar="WHO", help="Whose it will be: id, handle or email.")],
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key; prints the line that has to be reviewed before it may sign.

    The passphrase is asked for twice. It is an OpenSSH key like any other: ssh-add loads it, ssh-keygen -p changes its
    passphrase. Whoever has a hardware key makes one with `ssh-keygen -t ed25519-sk` instead.

    \b
    Example: manual-payout keys new --as priya --out ~/.ssh/manual_payout
    """
    from manual_payout.desk.settings import load_settings
    from manual_payout.desk.signatures import new_key_file, signer_line

    settings = load_settings()
    person = _person(_registry(settings), who)
    entry, path = _line_for(person), out.expanduser()
    public = new_key_file(path, _new_passphrase(settings), person.email)
    line = signer_line(replace(entry, key=public))
    if as_json:
        show_json({"file": str(path), "fingerprint": public.fingerprint, "line": line})
        return
    typer.echo(f"Made {path} and {path}.pub, {public.fingerprint}.")
    typer.echo(f"\nHave this line reviewed and added to {settings.allowed_signers_path()}:\n\n{line}")


def show(as_json: Json = False) -> None:
    """Show each key that may sign: whose it is, for what, from when until when, and whether it is good now.

    \b
    Example: manual-payout keys show
    """
    from manual_payout.desk.settings import load_settings
    from manual_payout.domain.display import Table

    settings, now = load_settings(), _now()
    registry = _registry(settings)
    rows = tuple(_row(registry, entry, now) for entry in registry.signers.entries)
    names = ("person", "key", "signs for", "valid from", "valid until", "now")
    table = Table(f"Who may sign, by {settings.allowed_signers_path()}.", names, rows)
    if as_json:
        show_json(table.as_dicts())
    else:
        show_table(table)


def take(
    line: Annotated[str, typer.Argument(metavar="LINE", help="As the page under Enroll shows it.")],
    as_json: Json = False,
) -> None:
    """Take the line of a passkey into the sandbox's registry; in every other mode a reviewer does that.

    \b
    Example: manual-payout keys take 'priya.raman@marketplace.example namespaces="approval@manual-payout" sk-ecdsa-…'
    """
    import shutil

    from manual_payout.desk.people import Registry
    from manual_payout.desk.settings import SANDBOX_APPROVERS, load_settings
    from manual_payout.desk.signatures import AllowedSigners, parse_signers
    from manual_payout.domain.models import Mode

    settings = load_settings()
    if settings.mode is not Mode.SANDBOX or settings.approvers_file is not None or settings.allowed_signers_file:
        raise UsageError(
            f"Lines are taken unreviewed into the sandbox's own registry alone; this one is of {settings.mode} mode or was named.",
            "Send the line to whoever reviews allowed_signers.",
        )
    (entry,) = parse_signers(line.strip().replace("\n", " "), "the line")
    before = _registry(settings)
    Registry(before.people, before.source, AllowedSigners((*before.signers.entries, entry), frozenset(), "the line"))
    folder = settings.sandbox_registry
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("allowed_signers", "revoked_keys", SANDBOX_APPROVERS.name):
        # The people come last: with their file the folder counts.
        if not (folder / name).is_file():
            shutil.copyfile(SANDBOX_APPROVERS.with_name(name), folder / name)
    with (folder / "allowed_signers").open("a", encoding="utf-8") as file:
        file.write(line.strip() + "\n")
    if as_json:
        show_json({"registry": str(folder), "fingerprint": entry.key.fingerprint})
    else:
        typer.echo(f"{entry.principal} may sign with {entry.key.fingerprint}, by {folder / 'allowed_signers'}.")


for _command, _short in (
    (new, "Make a key; prints the line to have reviewed."),
    (show, "Show who may sign for what."),
    (take, "Take a passkey into the sandbox's registry."),
):
    keys.command(epilog=EXIT_CODES, short_help=_short)(_command)


def _registry(settings: Settings) -> Registry:
    from manual_payout.desk.people import load_registry

    return load_registry(
        settings.approvers_path(), settings.allowed_signers_path(), settings.policy.approvals.passkeys()
    )


def _person(registry: Registry, who: str) -> Person:
    found = registry.find(who)
    if found is None:
        raise ParameterError("as", who, "a registered person", f"Have them added to {registry.source} first.")
    return found


def _line_for(person: Person) -> AllowedSigner:
    """The line of a key that *person* is about to make."""
    from datetime import timedelta

    from manual_payout.desk.signatures import AllowedSigner, PublicKey

    today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
    return AllowedSigner(
        person.email, person.purposes(), PublicKey(""), today, today + timedelta(days=_VALID_DAYS), person.name
    )


def _new_passphrase(settings: Settings) -> str:
    from manual_payout.domain.models import Mode

    sandbox = settings.mode is Mode.SANDBOX
    if not sys.stdin.isatty() and not sandbox:
        raise UsageError(
            "There is no terminal on which to ask for a passphrase.",
            "Run the same command in a terminal, on the machine on which you will sign.",
        )
    text = ""
    if sys.stdin.isatty():
        text = str(
            typer.prompt(
                "Passphrase", default="", hide_input=True, show_default=False, confirmation_prompt=True, err=True
            )
        )
    if not text and not sandbox:
        raise UsageError(
            f"The passphrase is empty, in {settings.mode} mode.",
            "Choose one; without it, whoever has the file can sign.",
        )
    return text


def _row(registry: Registry, entry: AllowedSigner, now: datetime) -> tuple[str, ...]:
    from manual_payout.domain.errors import SignatureError

    try:
        registry.signers.judge(entry.key, entry.principal, entry.namespaces[0], now)
        standing = "good"
    except SignatureError as error:
        standing = error.message.removeprefix(f"The key {entry.key} ").rstrip(".")
    person = registry.find(entry.principal)
    ends = (f"{at:%Y-%m-%d %H:%M}" if at else "always" for at in (entry.valid_after, entry.valid_before))
    return (person.name if person else entry.principal, str(entry.key), ", ".join(entry.namespaces), *ends, standing)


def _now() -> datetime:
    from datetime import UTC, datetime

    # No database is opened here; whether a key may sign is judged again, by its clock, whenever one is used.
    return datetime.now(UTC)
