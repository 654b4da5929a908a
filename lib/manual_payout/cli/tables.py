"""Our own tables."""

from __future__ import annotations

from typing import Annotated

import typer

from manual_payout.cli.answers import show_json
from manual_payout.cli.options import EXIT_CODES, Json

tables = typer.Typer(
    help="Our own tables: create, migrate or move them.\n\n\b\nExample: manual-payout db upgrade",
    short_help="Our own tables: create, migrate or move them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@tables.command(epilog=EXIT_CODES, short_help="Create or migrate our tables.")
def upgrade(as_json: Json = False) -> None:
    """Create or migrate our tables in DATABASE_URL; doing it again changes nothing.

    \b
    Example: manual-payout db upgrade
    """
    from manual_payout.database import engines
    from manual_payout.desk.settings import load_settings

    engine = engines.connect(load_settings().database_text(), name="DATABASE_URL")
    try:
        revision = engines.upgrade_database(engine)
    finally:
        engine.dispose()
    if as_json:
        show_json({"migration": revision})
    else:
        typer.echo(f"The database is at migration {revision}.")


@tables.command(epilog=EXIT_CODES, short_help="Use an SQLite database that was moved to this machine.")
def adopt(
    left: Annotated[str, typer.Option("--from", metavar="MACHINE", help="The machine on which it was used until now.")],
    as_json: Json = False,
) -> None:
    """Make an SQLite database, whose file was moved here for good, this machine's.

    SQLite serves one machine: two that share its file, or have a copy each, could both pay. Where several machines
    work, use PostgreSQL.

    \b
    Example: manual-payout db adopt --from ops-laptop-1
    """
    from manual_payout.database import engines
    from manual_payout.desk.settings import load_settings

    engine = engines.connect(load_settings().database_text(), name="DATABASE_URL")
    try:
        engines.adopt_database(engine, left)
    finally:
        engine.dispose()
    if as_json:
        show_json({"adopted_from": left})
    else:
        typer.echo(f"The database was {left}'s, and is used on this machine from now on.")
