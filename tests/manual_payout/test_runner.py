"""The chain of notebooks stops where it must and leaves evidence whatever happens."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import scrapbook

from manual_payout import transfer
from manual_payout.desk import settings as settings_module
from manual_payout.desk.people import Registry
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.desk.settings import load_settings
from manual_payout.desk.wiring import kernel_environment
from manual_payout.domain.errors import RefusedError, SignatureError
from manual_payout.domain.models import Stage
from manual_payout.evidence.verifier import check_contents, check_files, read_folder
from manual_payout.steps.runner import DRY_RUN, LIVE_RUN, run_stages
from payout_rehearsal import demo_parameters, file_and_approve, stage_set
from proofs import leave_dry_run


@pytest.fixture(scope="module", name="refused")
def _refused(tmp_path_factory):
    """A live run of an incident that nobody requested: the folder, the results, and what reached the sandbox."""
    with stage_set(tmp_path_factory.mktemp("refused")) as (desk, sandbox):
        folder = desk.settings.outputs_dir / "INC-123"
        (folder / demo_parameters().ledger_payout_id).mkdir(parents=True)
        # A run that was killed left a notebook without its page, and one that is damaged.
        damaged = folder / demo_parameters().ledger_payout_id / "1-verify-01.ipynb"
        damaged.write_text('{"cells": [', "utf-8")
        results = run_stages(desk, LIVE_RUN, demo_parameters(dry_run=False, confirm="ABCD-2345"))
        posts = [request for request in sandbox.requests if request.method == "POST"]
        yield damaged.parent, results, posts


def test_an_operator_without_a_key_is_refused_before_anything_runs(tmp_path):
    """Not at the end, when the money has moved and nobody can sign for it."""
    with stage_set(tmp_path) as (desk, sandbox):
        keyless = dataclasses.replace(desk, registry=Registry(desk.registry.people, "approvers.toml"))
        with pytest.raises(SignatureError, match="has no key of tomas"):
            run_stages(keyless, LIVE_RUN, demo_parameters(dry_run=False, confirm="ABCD-2345"))

    assert [] == sandbox.requests
    assert not (desk.settings.outputs_dir / "INC-123").exists()


def test_chain_stops_at_the_first_refusal_with_reason_and_remedy(refused):
    """NO-GO is exit code 3, the later stages do not run, and the person is told what to do."""
    _, results, posts = refused

    assert [3] == [result.exit_code for result in results]
    assert "NO-GO" in results[0].message
    assert "manual-payout request" in results[0].remedy
    assert [] == posts


def failing_checks(folder):
    """The names of the verifier's checks that fail."""
    sealed = read_folder(folder)
    findings = check_files(sealed) + check_contents(sealed, reviewed_digests(), "", "")
    return [finding.name for finding in findings if finding.wrong]


def test_refused_run_is_evidence_too(refused):
    """Its notebook is numbered after what was there, has a page, and the folder is sealed and verifies."""
    folder, results, _ = refused

    assert "1-verify-02.ipynb" == results[0].notebook.name
    assert (folder / "1-verify-02.html").is_file()
    assert [] == failing_checks(folder)


def test_damaged_notebook_of_a_killed_run_stays_and_is_called_damaged(refused):
    """Nothing is deleted, and its page says what it is."""
    folder, _, _ = refused

    assert '{"cells": [' == (folder / "1-verify-01.ipynb").read_text("utf-8")
    assert "damaged" in (folder / "1-verify-01.html").read_text("utf-8")


def test_result_of_a_refused_stage_can_be_read_back(refused):
    """The glued result says why, so that a summary need not parse a traceback."""
    _, results, _ = refused

    assert "PolicyRefusedError" == results[0].result["findings"]["refusal"]["error"]
    assert scrapbook.read_notebook(str(results[0].notebook)).scraps["result"].data == results[0].result
    assert "NO-GO" == results[0].verdict


def test_changed_template_is_not_run(tmp_path):
    """A notebook whose digest is not the reviewed one is refused, and nothing is executed."""
    with stage_set(tmp_path) as (desk, _):
        home = tmp_path / "home"
        (home / "runbooks").mkdir(parents=True)
        for path in desk.settings.runbooks_dir.glob("*.ipynb"):
            book = json.loads(path.read_text("utf-8"))
            book["cells"][0]["source"] = ["# Something else"]
            (home / "runbooks" / path.name).write_text(json.dumps(book), "utf-8")
        desk.settings = desk.settings.model_copy(update={"home": home})
        with pytest.raises(RefusedError, match="digest"):
            run_stages(desk, DRY_RUN, demo_parameters())

        assert [] == list(desk.settings.outputs_dir.rglob("*-01.ipynb"))


def test_kernel_sees_only_the_settings_of_the_run(tmp_path, monkeypatch):
    """A key of the operator's shell does not reach a rehearsal's kernels."""
    monkeypatch.setenv("STRIPE_FALLBACK_SECRET_KEY", "rk_live_" + "x" * 30)
    monkeypatch.setenv("STRIPE_FALLBACK_SECRET_KEY_COMMAND", "echo secret")
    with stage_set(tmp_path) as (desk, _):
        environment = kernel_environment(desk.settings)

    assert environment["STRIPE_FALLBACK_SECRET_KEY"].startswith("rk_test_")
    assert "STRIPE_FALLBACK_SECRET_KEY_COMMAND" not in environment


def test_unsettled_payout_is_not_finished_and_no_error(tmp_path):
    """While the money is on its way, 5-settle ends with exit code 6 and says when to look again; later it ends well."""
    with stage_set(tmp_path) as (desk, sandbox):
        policy = Path(settings_module.__file__).parent / "sandbox" / "policy.toml"
        impatient = tmp_path / "policy.toml"
        impatient.write_text(policy.read_text("utf-8").replace("poll_limit_s = 864000", "poll_limit_s = 0"), "utf-8")
        desk.settings = load_settings(**{**_values(desk.settings), "policy_file": impatient})
        _pay(desk)
        first = run_stages(desk, (Stage.SETTLE,), demo_parameters(dry_run=False))
        sandbox.advance(3 * 86_400)
        then = run_stages(desk, (Stage.SETTLE,), demo_parameters(dry_run=False))

    assert [6] == [result.exit_code for result in first]
    assert "Still on its way" == first[0].verdict
    assert "2026-03-03" in first[0].remedy
    assert [0] == [result.exit_code for result in then]
    assert "Arrived" == then[0].verdict


def _values(settings):
    """The settings by name, for making others from them."""
    return {name: getattr(settings, name) for name in type(settings).model_fields if name != "policy"}


def _pay(desk):
    """Request, approve and send the demo's payout by library calls."""
    request = file_and_approve(desk)
    operator = desk.registry.find("tomas")
    code = leave_dry_run(desk, request)
    transfer.send(desk, demo_parameters(dry_run=False, confirm=code), operator)
