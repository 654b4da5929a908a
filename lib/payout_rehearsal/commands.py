"""Rehearsal, the local Stripe, and our own tables."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli.answers import live_line, show_json, show_table
from manual_payout.cli.options import Json
from truthful_papermill.lean import leave_out_unused

if TYPE_CHECKING:
    import pandas as pd

    from manual_payout.domain.display import Table
    from payout_rehearsal.notebook import Recorded


def rehearse(
    target: Annotated[
        str, typer.Option(metavar="WHERE", help="sandbox or stripe (test mode; needs keys).")
    ] = "sandbox",
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new one; else outputs/rehearsals/<time>.")
    ] = None,
    drill: Annotated[
        bool, typer.Option("--drill/--no-drill", help="Play the faults too, or the incident alone.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Play an incident from request to sealed folder, then a drill of faults; no real money is touched.

    On the sandbox it starts and stops a local Stripe by itself and ignores every key in the environment. On stripe it
    seeds Stripe's test mode with the keys of docs/test-mode.md, refuses a live key before anything is sent, and says at
    the end what stays there. Both use a database of their own. Nothing is asked on the way. Exit code 6 says what was
    not as expected; report.html shows all of it on one page.

    \b
    Examples:
      manual-payout rehearse
      manual-payout rehearse --no-drill
      manual-payout rehearse --target stripe
    """
    from manual_payout.desk.kernels import fork_server, needed_by

    # Started now, it imports what the notebook needs while this process imports what it needs itself.
    with fork_server(later=["payout_rehearsal.play", *needed_by(["settle", "close"])]) as kernels:
        leave_out_unused()
        from payout_rehearsal.folders import new_folder
        from payout_rehearsal.grounds import find_ground
        from payout_rehearsal.notebook import play_notebook

        place = find_ground(target)
        root = new_folder(str(folder.resolve()) if folder is not None else "").resolve()
        outfit = place.outfit()
        typer.echo(f"Rehearsal on {place.title}; everything is kept in {_near(root)}", err=True)
        with _progress(as_json=as_json, drill=drill) as shown:
            played = play_notebook(root, target=target, outfit=outfit, drill=drill, kernels=kernels, progress=shown)
    if as_json:
        paths = {name: str(getattr(played, name)) for name in ("report", "notebook")}
        show_json({"folder": str(played.evidence), **paths, **played.result})
    else:
        _show(played)
    if played.error:
        raise played.error


def _show(played: Recorded) -> None:
    from manual_payout.steps.closing import read_results
    from payout_rehearsal.result import inventory_block

    result = played.result
    if played.evidence.is_dir():
        typer.echo()
        show_table(_results_table(read_results(played.evidence)))
        typer.echo()
    if result["scenes"]:
        show_table(_drill_table(result))
        typer.echo()
    response = "not reached" if result["response_s"] is None else f"{result['response_s']:.2f} s"
    counted = result["transfers"]
    typer.echo(f"Transfers in Stripe's own books: {'could not be asked' if counted is None else counted}")
    typer.echo(f"From the request to the accepted transfer: {response} of work")
    typer.echo(f"Evidence: {_near(played.evidence)}")
    typer.echo(f"Report: {_near(played.report)}")
    if result["left_behind"]:
        typer.echo(f"{result['left_behind']}.")
    if block := inventory_block(result):
        typer.echo(f"\nFor the reviewed inventory (docs/monitoring.md):\n\n{block}", nl=False)


def _near(path: Path) -> Path:
    """Show a path as seen from here where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _results_table(results: pd.DataFrame) -> Table:
    from manual_payout.domain.display import Table

    rows = tuple(tuple(map(str, row)) for row in results.itertuples(index=False))
    return Table("What each notebook came to.", tuple(results.columns), rows)


def _drill_table(result: dict[str, Any]) -> Table:
    from manual_payout.domain.display import Table

    rows = tuple(
        (
            scene["title"],
            "as expected" if scene["as_expected"] else _differing(scene),
            f"{result['seconds']['drill: ' + scene['name']]:.1f} s",
        )
        for scene in result["scenes"]
    )
    good = sum(scene["as_expected"] for scene in result["scenes"])
    caption = f"Drill: {good} of {len(rows)} faults ended as expected."
    return Table(caption, ("fault", "found", "took"), rows, frozenset({"took"}))


def _differing(scene: dict[str, Any]) -> str:
    wrong = [
        f"{f['what']}: {f['found']}, expected {f['expected']}" for f in scene["findings"] if f["found"] != f["expected"]
    ]
    return "; ".join([*([scene["trouble"]] if scene["trouble"] else []), *wrong])


@contextlib.contextmanager
def _progress(*, as_json: bool, drill: bool) -> Iterator[Callable[[str, int, int, str], None]]:
    """Show which cell is running, by its heading: one live line on a terminal, one line a cell elsewhere."""
    with live_line(as_json=as_json) as live:

        def shown(event: str, cell: int, total: int, title: str) -> None:
            # A fault that is not played has its cell all the same; nobody is told that it was.
            if title.startswith("Drill: ") and not drill:
                return
            live.update(f"{title}  {cell}/{total}")
            # The first two cells are the parameters.
            if event == "running" and cell > 2:
                live.keep(f"  {title} …")

        yield shown


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
    from local_stripe import serve
    from local_stripe.mistakes import InvalidValueError
    from manual_payout.domain.errors import ParameterError
    from payout_rehearsal import nightly_job, sandbox_books, set_up_database
    from payout_rehearsal.demo import incident

    accounts, available = sandbox_books()
    url = set_up_database(folder)

    def announce(base_url: str) -> None:
        exports = _exports(base_url, url, folder)
        if as_json:
            show_json(exports)
        else:
            typer.echo(_announcement(exports, folder))

    try:
        serve(
            "127.0.0.1",
            port,
            start=incident.NOW,
            accounts=accounts,
            available=available,
            on_ready=announce,
            on_advance=nightly_job(url),
        )
    except InvalidValueError as error:
        raise ParameterError(error.field, error.found, error.expected) from error


def _exports(base_url: str, database_url: str, folder: Path) -> dict[str, str]:
    from local_stripe import FALLBACK_KEY, READ_KEY
    from payout_rehearsal.demo.incident import OPERATOR

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
