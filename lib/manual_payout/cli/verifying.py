"""An evidence folder, checked again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli.answers import show_json
from manual_payout.cli.options import Json
from manual_payout.domain.errors import NotFinishedError, ParameterError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manual_payout.evidence.verifier import Finding, Folder, Judge
    from manual_payout.evidence.verifier import Registry as Reviewed


def verify(
    folder: Annotated[Path, typer.Argument(help="An evidence folder.", exists=True, file_okay=False)],
    anchor: Annotated[
        str, typer.Option(metavar="DIGEST", help="A digest kept elsewhere: of the manifest or of an event.")
    ] = "",
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="Refuse evidence of another mode: live, test, sandbox.")
    ] = "",
    registry: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="The reviewed people, keys beside it; else the settings'."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="A policy file to compare the rules of money with."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Re-check an evidence folder, offline.

    Signatures by the reviewed keys, files against the manifest, code against the reviewed notebooks, and journal,
    notebooks, request and Stripe's answer against each other.

    \b
    Examples:
      manual-payout verify outputs/INC-123/b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541
      manual-payout verify --mode live --anchor 81331c8112cf2e84 FOLDER
    """
    from manual_payout.desk.reviewed import reviewed_digests
    from manual_payout.evidence.verifier import MODES, check_all, ended_keys, verdict_line

    if mode and mode not in MODES:
        raise ParameterError("mode", mode, f"one of {', '.join(MODES)}")
    sealed = _read(folder)
    people, judge, signers = _who_signs(registry, sealed.facts.get("mode"))
    findings = check_all(
        sealed, people, judge, reviewed_digests(), mode=mode, anchor=anchor, policy=_policy(policy),
        ended=ended_keys(signers, datetime.now(UTC)),
    )  # fmt: skip
    if as_json:
        show_json([found.as_dict() for found in findings])
    else:
        typer.echo("\n".join([*(found.line() for found in findings), verdict_line(sealed, findings)]))
    _require_sound(folder, findings)


def _read(folder: Path) -> Folder:
    from manual_payout.domain.errors import EvidenceError
    from manual_payout.evidence.verifier import MANIFEST, read_folder

    sealed = read_folder(folder)
    if isinstance(sealed, str):
        raise EvidenceError(
            f"{folder} has no readable {MANIFEST}: {sealed}.", "Get the folder again from the ticket; change nothing."
        )
    return sealed


def _require_sound(folder: Path, findings: Sequence[Finding]) -> None:
    from manual_payout.domain.errors import EvidenceError

    if failing := [found.name for found in findings if found.wrong and found.grave]:
        raise EvidenceError(
            f"{folder} does not pass: {', '.join(failing)}.",
            "Get the folder again from the ticket; if it fails there too, keep it as it is and call Security.",
        )
    if lacks := [what for found in findings for what in found.wrong]:
        raise NotFinishedError(
            f"{folder} is incomplete here: {', '.join(lacks)}.",
            "Bring in what those machines executed with `manual-payout evidence add FOLDER`, or give up what never comes back with "
            "`manual-payout seal INCIDENT --lost FILE --because TEXT`.",
        )


def _policy(file: Path | None) -> dict[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(file.read_text("utf-8-sig")) if file is not None else None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError("policy", str(file), f"a policy file in TOML ({error})") from None


def _who_signs(file: Path | None, mode: object) -> tuple[Reviewed, Judge, Path]:
    """
    Read people and keys: those that are named, else the settings'; the demo's for the sandbox where the settings name none.

    Args:
        mode: What the evidence says it is, whatever stands there.

    Raises:
        UsageError, SettingsError: It is not of the sandbox, and the people or keys at hand are.
    """
    from manual_payout.desk.people import load_registry
    from manual_payout.desk.settings import SANDBOX_APPROVERS, load_settings
    from manual_payout.desk.signing import judge_of, refuse_sandbox_keys
    from manual_payout.domain.errors import SettingsError
    from manual_payout.domain.models import Mode
    from manual_payout.evidence.verifier import Registry

    settings = None
    if file is None:
        try:
            settings = load_settings()
        except SettingsError:
            # Sandbox evidence is checked wherever it lies, whatever is configured there.
            if mode != Mode.SANDBOX:
                raise
    # In the sandbox passkeys that were taken, and people who were configured, sign beside the demo's.
    if (
        settings is not None
        and mode == Mode.SANDBOX
        and settings.mode is not Mode.SANDBOX
        and not settings.approvers_file
    ):
        settings = None
    path = settings.approvers_path() if settings else file or SANDBOX_APPROVERS
    real = mode in (Mode.TEST, Mode.LIVE)
    if real and path.resolve() == SANDBOX_APPROVERS:
        raise UsageError(
            f"This is {mode} evidence, and the only people known here are the sandbox's, whose keys anybody can make.",
            "Name the reviewed people with --registry, their keys beside them, or set MANUAL_PAYOUT_APPROVERS.",
        )
    signers = settings.allowed_signers_path() if settings else path.with_name("allowed_signers")
    reviewed = load_registry(path, signers)
    if real:
        refuse_sandbox_keys(reviewed.signers, Mode(str(mode)))
    return Registry(path), judge_of(reviewed.signers), signers
