"""Hand a sealed folder over to the ticket, or to a folder of the reviewers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_json
from manual_payout.cli.options import Incident, Json, LedgerPayoutId, Operator
from manual_payout.cli.values import folder_of, open_operators_desk, required
from manual_payout.domain.errors import NotFinishedError, ParameterError

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.evidence.attaching import Archive
    from manual_payout.evidence.folder import Folder

_JIRA = "jira"


def attach(
    incident: Incident,
    to: Annotated[str, typer.Option("--to", metavar="WHERE", help="A folder that is there, or: jira.")],
    ledger_payout_id: LedgerPayoutId = None,
    issue: Annotated[str, typer.Option(metavar="KEY", help="Of the issue, where it is not the incident's id.")] = "",
    operator: Operator = "",
    as_json: Json = False,
) -> None:
    """Attach the sealed evidence to the ticket in Jira, or copy it to a folder, as one archive.

    The folder is compared with its seal and searched for secrets before. Doing it again changes nothing. Exit code 6
    says that Jira did not answer: run it again; or that what was attached is incomplete, since another machine has the rest.

    \b
    Examples:
      manual-payout attach INC-123 --to jira --operator tomas
      manual-payout attach INC-123 --to /mnt/evidence --operator tomas
    """
    from manual_payout.domain.parameters import check
    from manual_payout.evidence.attaching import archive_of
    from manual_payout.evidence.holding import reading
    from manual_payout.evidence.whole import missing_in, sentence_of

    incident = check("incident_id", incident)
    desk = open_operators_desk()
    money.about(desk, incident, ledger_payout_id)
    who = required("operator", operator or desk.settings.operator)
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    if issue and to != _JIRA:
        raise ParameterError("issue", issue, "nothing, where the evidence goes to a folder")
    folder = folder_of(desk, incident, ledger_payout_id)
    with reading(folder.path, who=who, what="attaching"):
        archive = archive_of(folder, desk.settings.mode)
        missing = missing_in(folder, desk.store.events_of(folder.stream))
    told = (_to_jira if to == _JIRA else _to_folder)(desk, folder, archive, to, issue)
    receipt = {"archive": archive.name, "archive_sha256": archive.sha256, "manifest_sha256": archive.head} | told
    receipt |= {"incomplete": sentence_of(missing)} if missing else {}
    _record(desk, folder, person.person_id, receipt)
    if as_json:
        show_json(receipt)
    else:
        typer.echo("\n".join(f"{name.replace('_', ' '):<16} {value}" for name, value in receipt.items()))
    if missing:
        raise NotFinishedError(
            f"What was attached is incomplete. {sentence_of(missing)}",
            "Bring in the rest with `manual-payout evidence add FOLDER`, seal, and attach again.",
        )


def _to_folder(desk: Desk, folder: Folder, archive: Archive, to: str, issue: str) -> dict[str, str]:  # noqa: ARG001  # one shape for both places
    from manual_payout.evidence.attaching import write_archive

    place = Path(to)
    if not place.is_dir():
        raise ParameterError("to", to, "a folder that is there, or: jira")
    if place.resolve().is_relative_to(folder.path.resolve()):
        raise ParameterError("to", to, "a folder outside of the evidence, which a new file would spoil")
    path, new = write_archive(archive, place.resolve())
    return {"to": str(path), "written": "now" if new else "before"}


def _to_jira(desk: Desk, folder: Folder, archive: Archive, to: str, issue: str) -> dict[str, str]:
    from manual_payout.evidence.attaching import comment_text, issue_of, open_jira
    from manual_payout.evidence.verifier import Folder as Sealed
    from manual_payout.evidence.verifier import check_complete, check_files, verdict_line

    key = issue_of(desk.settings, folder.path.parent.name, issue)
    jira = open_jira(desk.settings)
    sealed = Sealed(folder.path)
    mark = "" if archive.name[:9] != "REHEARSAL" else "REHEARSAL. "
    comment = comment_text(
        archive,
        f"{mark}Files compared with the seal: {verdict_line(sealed, [*check_files(sealed), check_complete(sealed)])}",
    )
    done = jira.attach(key, archive, comment)
    return {
        "to": f"{to} {done.issue}",
        "attachment": f"{done.attachment_id} ({'now' if done.uploaded else 'before'})",
        "comment": f"{done.comment_id} ({'now' if done.commented else 'before'})",
    }


def _record(desk: Desk, folder: Folder, person_id: str, receipt: dict[str, str]) -> None:
    last = desk.store.find_event(folder.stream, "evidence_attached", lambda data: data == receipt)
    if last is None:
        desk.store.record_event(folder.stream, "evidence_attached", person_id, dict(receipt))
