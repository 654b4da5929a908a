"""`rehearse --target stripe`: the notebook, the drill and the relay against Stripe's test mode, which the sandbox poses as."""

from __future__ import annotations

import json
import os
import socket
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import local_stripe
import rehearsal_scenes
from grounds import ground_on, settings_with
from manual_payout.desk.kernels import fork_server
from manual_payout.desk.results import the_result
from manual_payout.desk.wiring import kernel_environment, rehearsal_environment
from manual_payout.domain.errors import SettingsError
from payout_rehearsal import SandboxGround, play
from payout_rehearsal.drill import DRILL, UNSEEN
from payout_rehearsal.drill import play as play_scene
from payout_rehearsal.ground import SceneName
from payout_rehearsal.incident import Rehearsal
from payout_rehearsal.result import Findings
from payout_rehearsal.trend import past_rehearsals
from truthful_papermill.templates import read_notebook

KEYS = {
    "STRIPE_FALLBACK_SECRET_KEY": local_stripe.FALLBACK_KEY,
    "STRIPE_READ_SECRET_KEY": local_stripe.READ_KEY,
    "STRIPE_REHEARSAL_SECRET_KEY": local_stripe.FULL_KEY,
}
LIVE = "sk_live_" + "x" * 99

# What a user has; the timeout also says how long a killed sender is waited for.
POLICY = '[stripe]\ntimeout_s = 4\n\n[messages]\nrehearsal_email = "drill@marketplace.example"\n'


@pytest.fixture(scope="module", name="stripe_books")
def _stripe_books():
    with local_stripe.running(start=None, ticking=True) as running:
        yield running


@pytest.fixture(scope="module", name="lib")
def _lib(stripe_books, tmp_path_factory):
    """The software, for which the sandbox is Stripe."""
    return rehearsal_scenes.copy_with_stripe_at(tmp_path_factory.mktemp("copy"), stripe_books.base_url)


@pytest.fixture(scope="module", name="played")
def _played(lib, tmp_path_factory):
    """The whole of it by the command line, with the user's policy file named from where the user stands."""
    root = tmp_path_factory.mktemp("whole")
    (root / "policy.toml").write_text(POLICY)
    rehearsal_scenes.write_past(root / "earlier", rehearsal_scenes.result(target="sandbox"))
    run = rehearsal_scenes.rehearse(
        "--target", "stripe", "--folder", root / "played",
        lib=lib, MANUAL_PAYOUT_POLICY=os.path.relpath(root / "policy.toml"), **KEYS,
    )  # fmt: skip
    assert (root / "played" / "rehearse.ipynb").is_file(), run.stderr
    book = read_notebook(root / "played" / "rehearse.ipynb")
    return SimpleNamespace(run=run, root=root, folder=root / "played", book=book, result=the_result(book.cells))


def test_whole_rehearsal_is_green_against_test_mode(played):
    """Every scene as expected over real HTTP and in real time, every check passed, one transfer."""
    found = played.result

    assert 0 == played.run.returncode, played.run.stdout + played.run.stderr
    assert [(scene.name, True) for scene in DRILL] == [(s["name"], s["as_expected"]) for s in found["scenes"]]
    assert {"ok"} == {check["status"] for check in found["checks"]}
    assert (True, 1, True, []) == (found["green"], found["transfers"], found["automation_skipped"], found["wrong"])


def test_scenes_moved_what_they_say_at_stripe(played, stripe_books):
    """By the books behind the relay: four incidents paid once each, and nothing else."""
    with stripe_books.books.lock:
        groups = [transfer.transfer_group for transfer in stripe_books.books.transfers]
    scenes = {scene["name"]: scene["folder"] for scene in played.result["scenes"]}
    paid = [scenes["answer-lost"], scenes["killed-kernel"], scenes["failing-later"], played.result["evidence"]]

    assert len(groups) == 4
    assert sorted(folder.split("/")[1] for folder in paid) == sorted(group[-36:] for group in groups)


def test_inventory_and_report_say_stripe_and_test_mode(played):
    """So that a policy that asks for a rehearsal at Stripe can find one."""
    out = played.run.stdout
    [block] = tomllib.loads(out[out.index("[[rehearsal]]") :])["rehearsal"]
    page = (played.folder / "report.html").read_text("utf-8")

    assert ("stripe", "test") == (played.result["target"], played.result["mode"])
    assert ("stripe", True) == (block["target"], block["green"])
    assert "REHEARSAL · target stripe, test mode" in page


def test_what_stays_at_stripe_is_said_at_the_end(played):
    """On the terminal, in the report and in the notebook."""
    said = f"Left at Stripe, in test mode under {local_stripe.PLATFORM_ACCOUNT}: 7 connected accounts"

    assert said in played.run.stdout
    assert said in (played.folder / "report.html").read_text("utf-8")
    assert said in json.dumps(played.book)


def test_binding_says_who_stands_between_and_what_of_the_policy_is_different(played):
    """Before the first step, for whoever reads the notebook afterwards."""
    told = json.dumps(played.book.cells[5:7])

    assert "a relay on this machine, test mode" in told
    assert "7 made" in told
    assert "settlement: done at settled_on_platform" in told
    assert "messages: to nobody" not in told


def test_response_times_of_two_targets_are_not_compared(played):
    """The sandbox's rehearsal beside it is in no trend of this one, and is there for the sandbox's."""
    page = (played.folder / "report.html").read_text("utf-8")

    assert "7.25 s" not in page
    assert ["earlier"] == [
        row.folder for row in past_rehearsals(played.root, but=played.folder, target="sandbox").timed()
    ]
    assert ["played"] == [row.folder for row in past_rehearsals(played.root, but=played.root, target="stripe").timed()]


def test_no_key_is_left(played):
    """Neither notebook, report, evidence nor database holds a key, and no private key of a person is left."""
    files = [path for path in played.folder.rglob("*") if path.is_file()]

    assert len(files) > 100
    assert [] == [path for path in files for key in KEYS.values() if key.encode() in path.read_bytes()]
    assert [] == [path for path in files if b"PRIVATE KEY" in path.read_bytes()]


# Without sight of the bank.


@pytest.fixture(scope="module", name="blind")
def _blind(stripe_books, tmp_path_factory):
    """The scene of the failing payout without a read key."""
    root = tmp_path_factory.mktemp("blind")
    settings = settings_with(read_key=None)
    with (
        ground_on(stripe_books, root, settings, scenes=("incident", "payout_fails")) as ground,
        fork_server() as kernels,
    ):
        scene = next(scene for scene in DRILL if scene.name is SceneName.FAILING_LATER)
        before = len(stripe_books.books.payouts)
        played = play_scene(scene, ground, kernels)
        yield SimpleNamespace(scene=played, payouts=len(stripe_books.books.payouts) - before)


def test_what_no_key_can_see_is_said_to_be_unseen(blind):
    """Neither green nor failed by guess; the rest of the scene is looked at, and no payout is made to fail for nobody."""
    found = {finding.what: finding.found for finding in blind.scene.findings}

    assert {"settlement": UNSEEN, "studio told": UNSEEN} == {
        name: found[name] for name in ("settlement", "studio told")
    }
    assert ("exit 0", "exit 0", "1") == (found["live run"], found["same command again"], found["transfers at Stripe"])
    assert 0 == blind.payouts


def test_what_is_unseen_is_not_green_and_says_what_to_grant(blind):
    """The key, the permission and the page."""
    rehearsal = Rehearsal(Path(), (), True, 1)
    wrong = Findings(rehearsal, {}, (blind.scene.name,), (blind.scene,), ()).wrong()
    [said] = [sentence for sentence in wrong if sentence.startswith(blind.scene.title)]

    assert not blind.scene.as_expected
    assert "STRIPE_READ_SECRET_KEY is not set" in said
    assert "Connect → Payouts and Balance transactions: Read (docs/test-mode.md)" in said
    assert UNSEEN in said


def test_key_that_may_not_read_a_studios_payouts_is_as_blind_as_none(stripe_books, tmp_path):
    """Found out by asking Stripe, not by whether a key is set; and all other scenes can be seen."""
    settings = settings_with(read_key=local_stripe.FALLBACK_KEY)
    with ground_on(stripe_books, tmp_path, settings, scenes=("incident", "payout_fails")) as ground:
        assert "STRIPE_READ_SECRET_KEY may not read payouts" in ground.unseen(SceneName.FAILING_LATER)
        assert {""} == {ground.unseen(scene) for scene in SceneName if scene is not SceneName.FAILING_LATER}


def test_everything_can_be_seen_with_the_read_key(stripe_books, tmp_path):
    """With what docs/test-mode.md asks for; and on the sandbox ground always."""
    with ground_on(stripe_books, tmp_path, scenes=("incident", "payout_fails")) as ground:
        assert "" == ground.unseen(SceneName.FAILING_LATER)
    assert {""} == {SandboxGround.unseen(None, scene) for scene in SceneName}


def test_incident_alone_needs_no_sight_of_the_bank(lib, tmp_path):
    """Without the drill one studio is seeded, the two keys will do, and it is green; the inventory does not take it."""
    keys = {name: key for name, key in KEYS.items() if name != "STRIPE_READ_SECRET_KEY"}
    run = rehearsal_scenes.rehearse(
        "--target", "stripe", "--no-drill", "--json", "--folder", tmp_path / "r", lib=lib, **keys
    )
    found = json.loads(run.stdout)

    assert (0, True, "stripe", 1) == (run.returncode, found["green"], found["target"], found["transfers"]), run.stderr
    assert "one connected account, which the next rehearsal uses again" in found["left_behind"]
    assert "cannot be seen" not in (tmp_path / "r" / "rehearse.ipynb").read_text("utf-8")


# Before anything begins.


def _refused(tmp_path, **keys):
    """Run the command with *keys* against a Stripe that only listens; returns the run, once nobody has knocked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        lib = rehearsal_scenes.copy_with_stripe_at(tmp_path, address)
        run = rehearsal_scenes.rehearse("--target", "stripe", "--folder", tmp_path / "r", lib=lib, **keys)
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not (tmp_path / "r").exists()
    return run


@pytest.mark.parametrize("name", KEYS)
def test_live_key_is_refused_by_the_command_before_a_socket_is_opened(tmp_path, name):
    """Whichever of the three it is; the sentence shows none of it, and nothing is written."""
    run = _refused(tmp_path, **KEYS | {name: LIVE})

    assert 2 == run.returncode, run.stderr
    assert f"{name} is a live key, which a rehearsal never uses; nothing was sent" in run.stderr
    assert "docs/test-mode.md" in run.stderr
    assert "xxxxx" not in run.stdout + run.stderr


def test_no_keys_at_all_says_which_variable_and_which_kind_of_key(tmp_path):
    """What to export, and the page that says where to make it."""
    run = _refused(tmp_path)

    assert 2 == run.returncode, run.stderr
    assert "STRIPE_REHEARSAL_SECRET_KEY is not set" in run.stderr
    assert "the secret test key (sk_test_…)" in run.stderr
    assert "docs/test-mode.md" in run.stderr


def test_live_key_is_refused_by_the_notebook_too(tmp_path, monkeypatch):
    """Whoever runs it by hand has no command before it."""
    for name, key in (KEYS | {"STRIPE_REHEARSAL_SECRET_KEY": LIVE}).items():
        monkeypatch.setenv(name, key)
    parameters = {"target": "stripe", "folder": str(tmp_path / "r"), "drill": True}

    with pytest.raises(SettingsError, match="is a live key"):
        play.begin(parameters)


def test_only_the_rehearsals_own_kernel_is_given_the_key_that_seeds(monkeypatch, tmp_path):
    """By value, without the command that printed it; files as seen from here are found from anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.toml").write_text(POLICY)
    monkeypatch.setenv("STRIPE_REHEARSAL_SECRET_KEY_COMMAND", "vault read it")
    settings = settings_with(policy_file=Path("policy.toml"))
    given = rehearsal_environment(settings, {"rehearsal_key": local_stripe.FULL_KEY})

    assert local_stripe.FULL_KEY == given["STRIPE_REHEARSAL_SECRET_KEY"]
    assert str(tmp_path / "policy.toml") == given["MANUAL_PAYOUT_POLICY"]
    assert [] == [name for name in given if name.endswith("_SECRET_KEY_COMMAND") or name == "STRIPE_READ_SECRET_KEY"]
    assert local_stripe.FULL_KEY not in kernel_environment(settings).values()


def test_books_that_cannot_be_asked_are_not_taken_for_none():
    """At the very end Stripe may be away; that is not green, and no count is made up."""
    rehearsal = Rehearsal(Path(), (), True, None)
    wrong = Findings(rehearsal, {}, (), (), ()).wrong()

    assert "Stripe's own books could not be asked for the incident's transfers" in wrong
    assert not any("0 transfers" in sentence for sentence in wrong)
    assert not rehearsal.green
