"""Keep watch: one round, or one every so many seconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli.answers import show_answer, show_error, show_table
from manual_payout.cli.options import Json
from manual_payout.cli.values import open_operators_desk
from manual_payout.domain.errors import EvidenceError, ManualPayoutError, NotFinishedError, UsageError

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.display import Table
    from manual_payout.monitoring import Watch

_COLUMNS = ("severity", "rule", "about", "found", "since", "what")


def monitor(
    once: Annotated[bool, typer.Option("--once", help="One round, then end; the default.")] = False,
    every: Annotated[
        int | None, typer.Option(metavar="S", min=1, help="A round every S seconds, until stopped.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look: record nothing, tell nobody.")] = False,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write gauges in Prometheus's text format.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow every unfinished payout, evaluate the alert rules, raise and resolve alerts. Moves no money.

    What is new goes to Slack and PagerDuty once; what is over resolves itself. Exit code 0 says that nothing is
    firing, 6 that something is, 5 that the database did not answer or, after a whole round, that the metrics cannot be
    written. With --every nothing of this ends the watch: the round says it, and the next one begins in time.

    \b
    Examples:
      manual-payout monitor --once --metrics /var/lib/node_exporter/manual_payout.prom
      manual-payout monitor --every 900
    """
    if once and every is not None:
        raise UsageError("--once and --every exclude each other.", "Give one of them.")
    desk = open_operators_desk()
    if every is None:
        _round(desk, metrics, dry_run=dry_run, as_json=as_json)
        return
    while True:
        try:
            _round(desk, metrics, dry_run=dry_run, as_json=as_json)
        except NotFinishedError:
            # What is firing was shown; the watch goes on.
            pass
        except ManualPayoutError as error:
            # A database that is restarted is back for the next round, and a full disk has room again; the metrics' time
            # stamp says that one was missed.
            show_error(error, as_json=as_json)
        except Exception as error:  # noqa: BLE001  # a watch that ends at night by a fault of ours watches nothing until morning
            sentence = f"This round ended in a fault of the software: {type(error).__name__}."
            show_error(EvidenceError(sentence, "The next round goes on; report this sentence."), as_json=as_json)
        # The pause is the world's, not the sandbox's: there, to wait would be to move its clock.
        time.sleep(every)


def _round(desk: Desk, metrics: Path | None, *, dry_run: bool, as_json: bool) -> None:
    from manual_payout.monitoring import silent_channels, watch_round, write_metrics

    seen = watch_round(desk, dry_run=dry_run)
    silent, firing = silent_channels(desk), len(seen.alerts.firing)
    error: ManualPayoutError | None = None
    if firing:
        sentence = f"{firing} {'alert is' if firing == 1 else 'alerts are'} firing."
        error = NotFinishedError(sentence, "Look each up by its rule in docs/monitoring.md, the gravest first.")
    # What was found, and who was told, is said whatever becomes of the file.
    try:
        if metrics is not None:
            write_metrics(metrics, seen.facts, seen.alerts.firing)
    except EvidenceError as unwritable:
        error = unwritable
    if as_json:
        show_answer(_as_dict(seen, silent), error)
    else:
        _show(seen, silent)
    if error is not None:
        raise error


def _show(seen: Watch, silent: list[str]) -> None:
    table = _table(seen)
    show_table(table)
    new, over = len(seen.alerts.raised), len(seen.alerts.resolved)
    told = "dry run, nobody was told" if seen.delivered is None else f"{seen.delivered.delivered} messages delivered"
    looked = f"{seen.followed.looked} payouts looked at, " if seen.followed else ""
    typer.echo(f"{looked}{new} raised, {over} resolved, {told}.")
    if silent:
        typer.echo(f"Not configured, so not told: {', '.join(silent)}.")


def _table(seen: Watch) -> Table:
    from manual_payout.domain.display import Table

    firing = seen.alerts.firing
    rows = tuple(
        (a.severity.value, a.rule, a.subject, a.value, f"{a.raised_at:%Y-%m-%d %H:%M} UTC", a.summary) for a in firing
    )
    count = len(firing)
    caption = f"{count} {'alert is' if count == 1 else 'alerts are'} firing." if count else "Nothing is firing."
    return Table(f"{seen.facts.at:%Y-%m-%d %H:%M:%S} UTC: {caption}", _COLUMNS, rows)


def _as_dict(seen: Watch, silent: list[str]) -> dict[str, Any]:
    def shown(alerts: Any) -> list[dict[str, str]]:
        return [
            {
                "rule": alert.rule,
                "subject": alert.subject,
                "severity": alert.severity.value,
                "value": alert.value,
                "summary": alert.summary,
                "since": alert.raised_at.isoformat(),
            }
            for alert in alerts
        ]

    return {
        "at": seen.facts.at.isoformat(),
        "mode": seen.facts.mode.value,
        "firing": shown(seen.alerts.firing),
        "raised": shown(seen.alerts.raised),
        "resolved": shown(seen.alerts.resolved),
        "looked_at": seen.followed.looked if seen.followed else 0,
        "delivered": seen.delivered.delivered if seen.delivered else 0,
        "not_configured": silent,
    }
