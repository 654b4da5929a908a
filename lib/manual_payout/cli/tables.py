"""Our own tables."""

from __future__ import annotations

import typer

from manual_payout.cli.answers import show_json
from manual_payout.cli.options import EXIT_CODES, Json

tables = typer.Typer(
    help="Our own tables: create or migrate them.\n\n\b\nExample: manual-payout db upgrade",
    short_help="Our own tables: create or migrate them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@tables.callback()
def _group() -> None:
    """Keep ``upgrade`` a word of its own, also while it is the only one."""


@tables.command(epilog=EXIT_CODES, short_help="Create or migrate our tables.")
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
