"""From flags, a parameter file and the environment to valid parameters, before anything is opened or started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manual_payout.domain.errors import EvidenceError, ParameterError, PolicyRefusedError, UsageError

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import Stage
    from manual_payout.domain.parameters import Parameters
    from manual_payout.evidence.folder import Folder


def open_operators_desk() -> Desk:
    """Wire the desk from the environment."""
    from manual_payout.desk.settings import load_settings
    from manual_payout.desk.wiring import open_desk

    return open_desk(load_settings())


def flags_given(**flags: Any) -> dict[str, Any]:
    """Return those of a command's *flags*, each under the name of its parameter, that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def values_of(file: Path | None, flags: Mapping[str, Any], incident: str | None = None) -> dict[str, Any]:
    """
    Read the parameter file, if any, and let the flags win.

    Args:
        incident: The incident as it was named without a flag.

    Raises:
        ParameterError: A name is unknown, a value holds a secret, or YAML would read one as something else than was typed.

        UsageError: The file cannot be read, or two incidents are named.
    """
    from manual_payout.cli.parameter_file import read_parameter_file
    from manual_payout.desk.secret_settings import refuse_typed_secret
    from manual_payout.domain.parameters import check, refuse_unknown

    values = (read_parameter_file(file) if file is not None else {}) | dict(flags)
    named = values.setdefault("incident_id", incident) if incident is not None else None
    refuse_typed_secret(values)
    refuse_unknown(values)
    # A ticket id has no case, here as wherever it is checked.
    if incident is not None and check("incident_id", named) != (once := check("incident_id", incident)):
        raise UsageError(f"Two incidents are named: {once} and {named}.", "Name the incident once.")
    return values


def check_given(values: Mapping[str, Any]) -> bool:
    """
    Check what was given of a run's parameters, each by itself, before anything is opened.

    Returns:
        Whether everything was given but the notes; what is left out is as it was filed.

    Raises:
        ParameterError: One is wrong, or no incident is named.
    """
    from manual_payout.domain.parameters import FILED_PARAMETERS, check

    if "incident_id" not in values:
        raise _missing("incident_id")
    wanted = ("incident_id", "ledger_payout_id", *FILED_PARAMETERS)
    for name in wanted:
        if name in values:
            check(name, values[name])
    return {*wanted} - {"notes"} <= set(values)


def as_filed(desk: Desk, values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Fill in what was left out of a run's parameters from the request that was filed, on whatever machine.

    Raises:
        UsageError: The incident has several payouts, and none is named.

        PolicyRefusedError: Nothing was filed for the incident.
    """
    from manual_payout.domain.models import Kind
    from manual_payout.domain.parameters import check, filed_values

    incident_id, named = check("incident_id", values["incident_id"]), values.get("ledger_payout_id")
    named = check("ledger_payout_id", named) if named is not None else None
    requested = {
        line.ledger_payout_id
        for request in desk.open_requests(incident_id)
        if request.kind is Kind.TRANSFER
        for line in request.lines
    }
    begun = {row.ledger_payout_id for row in desk.store.payouts_of(incident_id=incident_id)}
    if named is None and len(requested | begun) > 1:
        raise UsageError(
            f"{incident_id} has {len(requested | begun)} payouts: {', '.join(sorted(requested | begun))}.",
            "Name one with --ledger-payout-id.",
        )
    request = desk.store.find_request(incident_id, named or next(iter(requested | begun), None))
    if request is None:
        which = f" for ledger payout {named}" if named else ""
        raise PolicyRefusedError(
            f"{incident_id} has no fallback request{which}.", "Check the id, or file one with `manual-payout request`."
        )
    line = request.line_for(named or "")
    return {"ledger_payout_id": line.ledger_payout_id, **filed_values(request, line), **values}


def form_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check what was typed of the request form, each value by itself; what the ledger knows may be left out.

    Raises:
        ParameterError: One is wrong, or one that the ledger does not know is missing.
    """
    from manual_payout.domain.parameters import FILED_PARAMETERS, check

    for name in ("incident_id", "ledger_payout_id", "reason"):
        if name not in values:
            raise _missing(name)
    return {
        name: check(name, values[name])
        for name in ("incident_id", "ledger_payout_id", *FILED_PARAMETERS)
        if name in values
    }


def _missing(name: str) -> ParameterError:
    return ParameterError(
        f"--{name.replace('_', '-')}", "nothing", "a value", "Give the flag, or a parameter file with --file."
    )


def parameters_from(values: Mapping[str, Any], *, operator: str, dry_run: bool, confirm: str) -> Parameters:
    """
    Validate the stage parameters among *values*.

    Raises:
        ParameterError: One is missing or wrong.
    """
    from manual_payout.domain.parameters import CLOSE_PARAMETERS, STAGE_PARAMETERS, validate

    fixed = {"operator": operator, "dry_run": dry_run, "confirm": confirm}
    found = {"notes": ""} | {name: value for name, value in values.items() if name not in CLOSE_PARAMETERS} | fixed
    for name in STAGE_PARAMETERS:
        if name not in found:
            raise _missing(name)
    return validate(found)


def operator_from(flag: str, values: Mapping[str, Any], environment: str) -> str:
    """
    Say who operates: the flag, else the parameter file, else the environment.

    Raises:
        ParameterError: Nobody is named, or file and environment name two.
    """
    named = values.get("operator", "")
    if flag:
        return flag
    if named and environment and named != environment:
        raise ParameterError(
            "operator",
            named,
            f"{environment!r}, which MANUAL_PAYOUT_OPERATOR says",
            "Say which of them you are with --operator.",
        )
    return required("operator", str(named or environment))


def required(name: str, value: str) -> str:
    """
    Return the person that *name* says.

    Raises:
        ParameterError: Nobody is named.
    """
    if not value:
        raise ParameterError(
            f"--{name}", "nothing", "a registered person", "Give the flag, or set MANUAL_PAYOUT_OPERATOR."
        )
    return value


def stage_named(name: str) -> Stage:
    """
    Return the stage of that name, short or long.

    Raises:
        ParameterError: There is none.
    """
    from manual_payout.domain.models import CHECKLIST

    for stage in CHECKLIST:
        if name in {stage.short, stage.value}:
            return stage
    raise ParameterError("stage", name, f"one of {', '.join(stage.short for stage in CHECKLIST)}")


def folder_of(desk: Desk, incident_id: str, ledger_payout_id: str | None) -> Folder:
    """
    Return the one evidence folder of an incident, or the one of the payout that is named.

    Raises:
        ParameterError: The payout's name cannot be one.

        EvidenceError: There is no folder.

        UsageError: There are several, and none is named.
    """
    from manual_payout.domain.models import folder_name
    from manual_payout.domain.parameters import check
    from manual_payout.evidence.folder import Folder

    below = desk.settings.outputs_dir / incident_id
    wanted = folder_name(check("ledger_payout_id", ledger_payout_id)) if ledger_payout_id is not None else None
    payouts = [wanted] if wanted else sorted(path.name for path in below.glob("*") if path.is_dir())
    if not payouts or not (below / payouts[0]).is_dir():
        raise EvidenceError(
            f"{below / (wanted or '')} holds no folder.",
            "Check the incident, the ledger payout and MANUAL_PAYOUT_OUTPUTS.",
        )
    if len(payouts) > 1:
        raise UsageError(
            f"{incident_id} has {len(payouts)} folders.", "Name the ledger payout with --ledger-payout-id."
        )
    return Folder(below / payouts[0], desk.redactor_at_hand)
