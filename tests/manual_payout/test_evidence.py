"""The evidence folder: nothing in it is overwritten, everything in it is sealed, and every change to it is found."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_notebook

from local_stripe import FALLBACK_KEY
from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import Stage
from manual_payout.evidence import manifest, verifier
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.evidence.pages import notebook_page
from manual_payout.evidence.sealing import seal_folder
from manual_payout.evidence.verifier import check_files, read_folder
from manual_payout.steps.closing import _result_row
from truthful_papermill.durable import hold
from truthful_papermill.redaction import Redactor

SECRET = "rk_test_0123456789abcdef"
NAMES = ["manifest", "files_as_sealed", "nothing_missing", "nothing_extra"]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """An empty evidence folder that does not exist yet."""
    return Folder(tmp_path / "INC-1" / "payout", Redactor([SECRET]))


@pytest.fixture(name="sealed")
def _sealed(folder):
    """A folder with three files and their manifest."""
    folder.keep("a.txt", "first")
    folder.keep("b.json", json_text({"key": "ünï"}))
    folder.keep("sub/c.txt", "third")
    manifest.seal(folder, {"incident_id": "INC-1"})
    return folder.path


def failing(path):
    """The names of the checks that say no."""
    findings = check_files(read_folder(path))

    assert NAMES == [finding.name for finding in findings]
    return [finding.name for finding in findings if finding.wrong]


def test_the_same_content_is_the_same_file_and_other_content_the_next(folder):
    """A rerun adds nothing; a difference is added beside what was there, never in its place."""
    paths = [folder.keep("note.txt", text).name for text in ("one", "two", "one", "three", "two")]

    assert ["note.txt", "note-02.txt", "note.txt", "note-03.txt", "note-02.txt"] == paths
    assert "one" == (folder.path / "note.txt").read_text()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.text(max_size=5), max_size=12))
def test_everything_that_was_kept_is_still_there(folder, texts):
    """Whatever is kept in whatever order: each content is in exactly one file, and stays in it."""
    shutil.rmtree(folder.path, ignore_errors=True)
    kept = {text: folder.keep("note.txt", text) for text in texts}

    assert {path: text.encode() for text, path in kept.items()} == {path: path.read_bytes() for path in folder.files()}


@pytest.mark.parametrize("write", ["keep_redacted", "replace_redacted"])
def test_secrets_are_removed_from_what_nobody_has_digested(folder, write):
    """Only by the methods that say so."""
    kept = getattr(folder, write)("a.txt", f"key {SECRET}").read_text()

    assert SECRET not in kept
    assert "[redacted" in kept


@pytest.mark.parametrize("write", ["keep", "replace", "exact"])
def test_what_others_digested_is_saved_whole_or_not_at_all(folder, write):
    """No text reaches the folder around the redactor, and none is changed by it."""
    with pytest.raises(EvidenceError, match=r"a\.txt would hold a secret of this installation"):
        getattr(folder, write)("a.txt", f"key {SECRET}")

    assert [] == folder.files()


def test_only_pages_and_texts_from_outside_are_redacted():
    """What is compared, digested or signed elsewhere has no other way into a folder than byte by byte."""
    library = Path(manifest.__file__).parents[2]
    found = {
        str(path.relative_to(library))
        for path in library.rglob("*.py")
        if re.search(r"\.(keep|replace)_redacted\(", path.read_text("utf-8"))
    }

    assert found == {
        "manual_payout/evidence/review.py", "payout_rehearsal/notebook.py", "payout_rehearsal/play.py",  # pages
        "manual_payout/steps/closing.py", "manual_payout/steps/execution.py", "manual_payout/steps/reversing.py",  # the postmortem's draft, refusals
    }  # fmt: skip


def test_replacing_leaves_one_file(folder):
    """What is derived anew takes the place of its earlier version."""
    folder.replace("journal.json", "1")
    folder.replace("journal.json", "2")

    assert [("journal.json", "2")] == [(path.name, path.read_text()) for path in folder.files()]


def _keep(path: Path, text: str) -> None:
    Folder(path, Redactor([])).keep("note.txt", text)


def test_processes_that_keep_at_once_lose_nothing(tmp_path):
    """Two operators with one shared folder: every content has its own file."""
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_keep, args=(tmp_path, f"text {number}")) for number in range(12)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert {f"text {number}" for number in range(12)} == {path.read_text() for path in tmp_path.iterdir()}


def test_a_file_that_appears_meanwhile_is_not_replaced(folder, monkeypatch):
    """Between looking and writing somebody else took the name: theirs stays, ours gets the next."""
    folder.keep("other.txt", "x")
    real, path = Path.is_file, folder.path / "note.txt"

    def looked(self):
        found = real(self)
        if self == path and not found:
            path.write_text("theirs")
        return found

    monkeypatch.setattr(Path, "is_file", looked)
    ours = folder.keep("note.txt", "ours")

    assert ("theirs", "note-02.txt", "ours") == (path.read_text(), ours.name, ours.read_text())


@pytest.mark.parametrize("number", [1, 95])
def test_a_disk_without_links_serves_too(folder, monkeypatch, number):
    """A USB stick knows no hard links (EPERM, ENOTSUP); keeping works there with the same rule."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)

    assert ["note.txt", "note-02.txt"] == [folder.keep("note.txt", text).name for text in ("one", "two")]
    assert ["one", "two"] == sorted(path.read_text() for path in folder.path.iterdir())


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(folder, monkeypatch):
    """What cannot be saved is said by name, and nothing of it is left behind."""
    folder.keep("a.txt", "1")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        EvidenceError, match=r"^b\.txt cannot be saved in the evidence folder: No space left on device\."
    ):
        folder.keep("b.txt", "2")

    assert ["a.txt"] == [path.name for path in folder.path.iterdir()]


def test_evidence_is_readable_for_reviewers(folder):
    """Others than the operator read the folder."""

    assert 0o644 == folder.keep("a.txt", "1").stat().st_mode & 0o777


def test_notebooks_are_numbered_and_listed_in_order(folder):
    """The next attempt gets the next number, also past ninety-nine; what has no number is a notebook as well."""
    for name in ("1-verify-01", "1-verify-99", "1-verify-100", "2-execute-02", "notes"):
        folder.keep(f"{name}.ipynb", name)

    assert "1-verify-101.ipynb" == folder.next_notebook(Stage.VERIFY).name
    assert "2-execute-03.ipynb" == folder.next_notebook("2-execute").name
    assert "3-log-01.ipynb" == folder.next_notebook(Stage.LOG).name
    assert [1, 99, 100, 2, 0] == [number for _, number, _ in folder.notebooks()]


def manifest_files(folder):
    """The names that the manifest lists."""
    return [subject["name"] for subject in json.loads((folder / "manifest.json").read_text())["subject"]]


def test_a_folder_as_it_was_sealed_is_accepted(sealed):
    """The manifest lists every file, in folders too, and fits."""

    assert [] == failing(sealed)
    assert ["a.txt", "b.json", "sub/c.txt"] == sorted(manifest_files(sealed))


@pytest.mark.parametrize(
    ("change", "expected", "named"),
    [
        (lambda p: (p / "a.txt").write_text("First"), ["files_as_sealed"], "a.txt"),
        (lambda p: (p / "a.txt").write_text(""), ["files_as_sealed"], "a.txt"),
        (lambda p: (p / "sub/c.txt").unlink(), ["nothing_missing"], "sub/c.txt"),
        (lambda p: (p / "d.txt").write_text("new"), ["nothing_extra"], "d.txt"),
        (lambda p: (p / ".hidden").write_text("new"), ["nothing_extra"], ".hidden"),
        (lambda p: (p / "sub/manifest.json").write_text("{}"), ["nothing_extra"], "sub/manifest.json"),
        (lambda p: (p / "a.txt").rename(p / "z.txt"), ["nothing_missing", "nothing_extra"], "z.txt"),
        (lambda p: _swap(p / "a.txt", p / "b.json"), ["files_as_sealed"], "a.txt, b.json"),
        (lambda p: _link(p / "a.txt"), ["files_as_sealed"], "a.txt"),
        (lambda p: (p / "dangling").symlink_to("nowhere"), ["nothing_extra"], "dangling"),
        (lambda p: _edit(p, lambda m: m["subject"].pop(0)), ["nothing_extra"], "a.txt"),
        (lambda p: _edit(p, lambda m: m.update(extra=1.5)), ["manifest"], "manifest.json"),
        (lambda p: _edit(p, lambda m: m.update(predicateType="urn:other")), ["manifest"], "manifest.json"),
        (lambda p: _edit(p, lambda m: m["subject"].append(m["subject"][0])), ["manifest"], "manifest.json"),
        (lambda p: _write_twice(p, '  "_type": "urn:other",'), ["manifest"], "manifest.json"),
        (lambda p: _edit(p, lambda m: m["subject"][0].update(digest={})), ["files_as_sealed"], "a.txt"),
        (lambda p: _edit(p, lambda m: m["subject"].append({"name": "../x", "digest": {}})), ["nothing_missing"], "../x"),
    ],
)  # fmt: skip
def test_every_change_is_found_and_named(sealed, change, expected, named):
    """A changed, missing, added, moved, swapped or linked file, and a touched manifest: the right check says which."""
    change(sealed)
    found = [", ".join(finding.wrong) for finding in check_files(read_folder(sealed))]

    assert expected == failing(sealed)
    assert any(named in text for text in found)


def _swap(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _link(path):
    outside = path.parent.parent / "outside.txt"
    path.rename(outside)
    path.symlink_to(outside)


def _edit(path, change):
    content = json.loads((path / "manifest.json").read_text())
    change(content)
    (path / "manifest.json").write_text(json_text(content))


def _write_twice(path, line):
    """One key two times: programs read the last one, people the first."""
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("{\n", "{\n" + line + "\n", 1))


def _socket(path):
    # A socket's name has at most 107 bytes.
    with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(path.parent):
        one.bind(path.name)


NO_REGULAR_FILE = {
    "a symbolic link": lambda path: path.symlink_to("/dev/zero"),
    "a named pipe": os.mkfifo,
    "a socket": _socket,
}


@pytest.mark.parametrize("kind", NO_REGULAR_FILE)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("manifest.json", "has no readable manifest.json: it is KIND, not a regular file."),
        ("manifest.json.sig", "manifest.json.sig is KIND, not a regular file"),
        ("a.txt", "FAIL  files_as_sealed  Is every file as it was sealed? a.txt (not a regular file: KIND)"),
        ("new", "FAIL  nothing_extra    Is nothing added? new (not a regular file: KIND)"),
        ("2-execute-01.ipynb", "nothing_extra    Is nothing added? 2-execute-01.ipynb (not a regular file: KIND)"),
        ("seals/001.json", "nothing_extra    Is nothing added? seals/001.json (not a regular file: KIND)"),
    ],
)
def test_what_is_no_regular_file_fails_at_once_wherever_it_stands(sealed, kind, name, expected):
    """An auditor's command never waits for a writer, reads what a device makes up, or follows a link out of the folder."""
    (sealed / name).parent.mkdir(exist_ok=True)
    (sealed / name).unlink(missing_ok=True)
    NO_REGULAR_FILE[kind](sealed / name)
    root = Path(__file__).parents[2]
    command = [
        sys.executable,
        verifier.__file__,
        sealed,
        "--templates",
        root / "runbooks",
        "--registry",
        root / "lib/manual_payout/desk/sandbox/approvers.toml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert 5 == done.returncode
    assert expected.replace("KIND", kind) in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_no_manifest_can_vouch_for_what_is_no_regular_file(sealed):
    """Whoever forges it writes what the verifier would say of the pipe."""
    (sealed / "a.txt").unlink()
    os.mkfifo(sealed / "a.txt")
    _edit(sealed, lambda m: m["subject"][0].update(digest={"sha256": "no regular file: a named pipe"}))

    assert ["files_as_sealed"] == failing(sealed)


@pytest.mark.parametrize("name", [".tmpabc.part", "sub/.2-execute-01.ipynb.0f.part", "x.part"])
def test_what_a_save_left_half_done_is_an_addition_and_is_never_sealed(sealed, name):
    """Whoever can hide a file by its name hides what they like; the sentence says what takes it away."""
    (sealed / name).write_text("x")
    found = next(finding for finding in check_files(read_folder(sealed)) if finding.wrong)

    assert ["nothing_extra"] == failing(sealed)
    assert (
        f"{name} (left where a save was cut short: the next run or `manual-payout seal` removes it)",
    ) == found.wrong


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_every_changed_byte_is_found(sealed, data):
    """One byte of any file, the manifest's meaning included, set to anything else fails the check."""
    path = data.draw(st.sampled_from(sorted(p for p in sealed.rglob("*") if p.is_file() and p.name != "manifest.json")))
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != before[at]))
    path.write_bytes(before[:at] + bytes([byte]) + before[at + 1 :])
    found = failing(sealed)
    path.write_bytes(before)

    assert ["files_as_sealed"] == found


@pytest.mark.parametrize("name", [".DS_Store", ".ipynb_checkpoints/a-checkpoint.ipynb", "sub/.DS_Store"])
def test_what_looking_at_a_folder_leaves_behind_is_no_tampering(sealed, name):
    """A Finder or JupyterLab: neither sealed nor called an addition."""
    (sealed / name).parent.mkdir(exist_ok=True)
    (sealed / name).write_text("x")

    assert [] == failing(sealed)
    assert name not in manifest.seal(Folder(sealed, Redactor([])), {}).read_text()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b"{}", b'{"files": []}', b'{"files": {"a": 1}}', b"\xff", b"[" * 99_999]
)
def test_a_manifest_that_cannot_be_read_is_damaged_evidence(tmp_path, content):
    """One sentence, whatever is wrong with it; nothing is changed."""
    (tmp_path / "manifest.json").write_bytes(content)
    found = read_folder(tmp_path)

    assert re.fullmatch(r"it is damaged \(\w+\)", found)
    assert content == (tmp_path / "manifest.json").read_bytes()


def test_no_manifest_is_said_to_be_missing(tmp_path):
    """A folder that was never sealed is not called damaged."""

    assert "it is missing" == read_folder(tmp_path)


def test_the_newest_of_a_thousand_seals_is_the_thousandth(sealed):
    """By its number, not by its name; what a crash left kept already is not kept a second time."""
    (sealed / "seals").mkdir()
    for number in range(1, 1000):
        (sealed / f"seals/{number:03}.json").write_text(str(number))
    (sealed / "seals/1000.json").write_bytes((sealed / "manifest.json").read_bytes())
    manifest.seal(Folder(sealed, Redactor()), {"incident_id": "INC-2"})

    assert not (sealed / "seals/1001.json").exists()


def test_sealing_writes_journal_and_head_and_can_be_repeated(quiet_shell):
    """The manifest names the journal's head and length as the database has them; sealing again at the same time changes nothing."""
    desk = quiet_shell.desk
    folder = Folder(quiet_shell.root / "INC-7" / "payout", Redactor([]))
    desk.store.record_event("INC-7/payout", "verified", "tomas", {"verdict": "GO"})
    first = seal_folder(desk, folder, "INC-7", "payout").read_bytes()
    again = seal_folder(desk, folder, "INC-7", "payout").read_bytes()
    facts, journal = json.loads(first)["predicate"]["facts"], json.loads((folder.path / "journal.json").read_text())

    assert first == again
    assert ("sandbox", 1, journal["events"][-1]["digest"]) == (
        facts["mode"],
        facts["journal_length"],
        facts["journal_head"],
    )
    assert [] == failing(folder.path)


def _planted(desk, root, name, content):
    """A folder of the evidence with one file that somebody put there by hand."""
    folder = Folder(root / "INC-8" / "payout", desk.redactor)
    folder.keep("a.txt", "first")
    (folder.path / name).write_bytes(content)
    return folder


_KEY = "rk_live_51Habcdefgha91f"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("notes.txt", f"the key: {_KEY}".encode(), "a Stripe key"),
        ("notes.bin", b"\xff\x00" + FALLBACK_KEY.encode() + b"\xff", "a secret of this installation"),
        ("auth.txt", base64.b64encode(f"{FALLBACK_KEY}:".encode()), "a secret of this installation"),
        ("url.txt", FALLBACK_KEY.replace("_", "%5F").encode(), "a secret of this installation"),
        ("hook.json", b'{"to": "https:\\/\\/hooks.slack.com\\/services\\/T0\\/B0\\/x1y2"}', "a Slack webhook"),
        (f"{_KEY}.txt", b"", "a Stripe key"),
        ("export.csv", f"the key: {_KEY}".encode("utf-16"), "a Stripe key"),
        ("export.txt", FALLBACK_KEY.encode("utf-16-be"), "a secret of this installation"),
    ],
)
def test_a_folder_with_a_secret_in_it_is_not_sealed(quiet_shell, tmp_path, name, content, kind):
    """By value in any encoding, or by its looks, in a file or in its name: the file and the kind are said, never the value."""
    folder = _planted(quiet_shell.desk, tmp_path, name, content)
    with pytest.raises(EvidenceError) as refused:
        seal_folder(quiet_shell.desk, folder, "INC-8", "payout")

    assert 5 == refused.value.exit_code
    assert f"{name.replace(_KEY, '[redacted rk_live …a91f sha256:e8e106fe]')} in the evidence" in refused.value.message
    assert f"holds {kind};" in refused.value.message
    assert [] == [value for value in (_KEY, FALLBACK_KEY, "x1y2") if value in str(refused.value)]
    assert not (folder.path / "manifest.json").exists()


@pytest.mark.parametrize("name", [b"m\xe4rz.txt", b"sub\xe4/a.txt", b"\xe4-01.ipynb"])
def test_a_file_whose_name_is_no_utf_8_is_named(quiet_shell, tmp_path, name):
    """A manifest is text: one sentence instead of a traceback after the money has moved."""
    folder = _planted(quiet_shell.desk, tmp_path, "notes.txt", b"x")
    path = Path(os.fsdecode(os.fsencode(folder.path) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    with pytest.raises(EvidenceError, match="a name that is not UTF-8; nothing was sealed") as refused:
        seal_folder(quiet_shell.desk, folder, "INC-8", "payout")

    assert refused.value.message.encode()
    assert r"\udce4" in refused.value.message


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_notebook_whose_name_is_no_utf_8_has_a_page(tmp_path, content):
    """Pages are made before the seal names the file."""
    path = tmp_path / os.fsdecode(b"3-log\xe4-01.ipynb")
    path.write_bytes(nbformat.writes(new_notebook()).encode() if content is None else content)

    assert rb"3-log\udce4-01" in notebook_page(path).encode()


def test_a_seal_removes_what_killed_saves_have_left_and_nothing_else(quiet_shell, tmp_path):
    """In every folder of the evidence; what somebody writes this moment stays, is not sealed, and is called an addition."""
    folder = _planted(quiet_shell.desk, tmp_path, "notes.txt", b"x")
    (folder.path / "seals").mkdir()
    left = [folder.path / ".3-log-01.ipynb.0f.part", folder.path / "seals/.abc.part", folder.path / ".written.part"]
    for path in left:
        path.write_text("x")
        os.utime(path, (0, 0))
    with left[-1].open() as written:
        hold(written.fileno())
        seal_folder(quiet_shell.desk, folder, "INC-8", "payout")

        assert left[-1:] == [path for path in left if path.exists()]
        assert ["nothing_extra"] == failing(folder.path)
    seal_folder(quiet_shell.desk, folder, "INC-8", "payout")
    assert (False, []) == (left[-1].exists(), failing(folder.path))


def test_nothing_but_regular_files_is_sealed(quiet_shell, tmp_path):
    """The verifier would refuse them, and a pipe would wait for its writer: they are named, and nothing is sealed."""
    folder = _planted(quiet_shell.desk, tmp_path, "notes.txt", b"x")
    for name, make in NO_REGULAR_FILE.items():
        make(folder.path / "3-log-07.ipynb")
        with pytest.raises(EvidenceError, match=rf"^3-log-07\.ipynb in the evidence folder is {name}, and evidence is"):
            seal_folder(quiet_shell.desk, folder, "INC-8", "payout")
        (folder.path / "3-log-07.ipynb").unlink()
        assert not (folder.path / "manifest.json").exists()


def test_a_file_that_cannot_be_read_is_named(quiet_shell, tmp_path, monkeypatch):
    """With what to do."""
    folder = _planted(quiet_shell.desk, tmp_path, "notes.txt", b"x")
    real = Path.open

    def refuse(self, *given, **more):
        if self.name == "notes.txt":
            raise PermissionError(13, "Permission denied")
        return real(self, *given, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EvidenceError, match=r"^notes\.txt in the evidence folder cannot be read \(Permission denied\)"):
        seal_folder(quiet_shell.desk, folder, "INC-8", "payout")


@pytest.mark.parametrize(
    "content",
    [
        b"{}", b"[]", b"5", b"null", b"", b"\xff", b'{"cells": 5, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        b'{"cells": [5], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', b"[" * 99_999,
        b'{"cells": [{"cell_type": "code"}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        b'{"worksheets": [{}], "nbformat": 3, "nbformat_minor": 0, "metadata": {}}',
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_is_only_named_like_a_notebook_is_damaged_and_sealed(quiet_shell, tmp_path, content):
    """It is evidence of something: its page says so, the manifest calls it unreadable, close shows it."""
    folder = _planted(quiet_shell.desk, tmp_path, "3-log-01.ipynb", content)
    path = folder.path / "3-log-01.ipynb"
    page, row = notebook_page(path), _result_row(path)
    sealed = json.loads(seal_folder(quiet_shell.desk, folder, "INC-8", "payout").read_bytes())

    assert "3-log-01.ipynb is damaged (" in page
    assert ["3-log-01.ipynb", "no result"] == [row[0], row[1].partition(" (")[0]]
    assert "unreadable" == sealed["predicate"]["facts"]["notebooks"]["3-log-01.ipynb"]["status"]
    assert [] == failing(folder.path)


def test_a_folder_whose_secret_was_taken_out_is_sealed(quiet_shell, tmp_path):
    """The remedy works."""
    folder = _planted(quiet_shell.desk, tmp_path, "notes.txt", _KEY.encode())
    (folder.path / "notes.txt").unlink()
    seal_folder(quiet_shell.desk, folder, "INC-8", "payout")

    assert [] == failing(folder.path)
