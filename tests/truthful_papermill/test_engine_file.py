"""The notebook on disk, without a kernel: whole at every moment, this run's only, and read for what it proves."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import threading
import time
from unittest import mock

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from manual_payout.evidence.folder import Folder
from truthful_papermill.durable import remove_left_parts
from truthful_papermill.engine import read_status
from truthful_papermill.engine.recording import Run
from truthful_papermill.engine.saving import OutputFile
from truthful_papermill.errors import EvidenceError
from truthful_papermill.redaction import Redactor, redact_notebook
from truthful_papermill.templates import read_notebook


def build(size=10):
    """A notebook of about *size* bytes."""
    return new_notebook(cells=[new_markdown_cell("x" * size)])


def output_file(folder):
    """The file of a run that is about to begin."""
    return OutputFile(folder / "out.ipynb", Redactor())


@given(data=st.data())
def test_the_file_is_what_nbformat_writes_of_the_redacted_notebook(data, tmp_path_factory):
    """Byte by byte, however the notebook changes between one save and the next."""
    redactor = Redactor(["a secret of sixteen"])
    output = OutputFile(tmp_path_factory.mktemp("any") / "out.ipynb", redactor)
    texts = st.one_of(st.text(max_size=20), st.sampled_from(["a secret of sixteen", "a\nb", '{\n "cells": []\n ],\n']))
    cells = st.lists(
        st.one_of(
            st.builds(new_markdown_cell, texts),
            st.builds(
                lambda source, text: new_code_cell(source, outputs=[new_output("stream", text=text)]), texts, texts
            ),
        ),
        max_size=4,
    )
    for _ in range(3):
        nb = new_notebook(cells=data.draw(cells), metadata={"title": data.draw(texts)})
        output.save(nb)

        assert nbformat.writes(redact_notebook(nb, redactor)) == output.path.read_text("utf-8")


def test_readers_never_see_half_a_notebook(tmp_path):
    """From the first moment on, whoever opens the file reads valid JSON."""
    output, done, bad, good = output_file(tmp_path), threading.Event(), [], []

    def read():
        while not done.is_set():
            try:
                good.append(len(json.loads(output.path.read_bytes())))
            except FileNotFoundError:
                continue
            except ValueError as error:
                bad.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for size in range(100):
        output.save(build(size * 1000))
    done.set()
    reader.join()

    assert [] == bad
    assert good


def test_what_a_save_writes_first_is_no_evidence(tmp_path, monkeypatch):
    """Another run may seal the folder meanwhile, and a kill leaves the file behind: it breaks neither seal."""
    seen, real = [], os.fsync

    def synced(descriptor):
        seen.extend(Folder(tmp_path, Redactor()).files())
        seen.append(len(list(tmp_path.iterdir())))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    output_file(tmp_path).save(build())

    assert [1] == seen[:1]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_shot_while_saving_leaves_a_whole_notebook(tmp_path):
    """Stock papermill left empty and truncated files."""
    chance = random.Random(1)
    for trial in range(20):
        folder = tmp_path / str(trial)
        folder.mkdir()
        child = os.fork()
        if child == 0:
            output = output_file(folder)
            while True:
                output.save(build(2_000_000))
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (folder / "out.ipynb").exists():
            nbformat.read(folder / "out.ipynb", as_version=4)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_a_process_leaves_that_is_shot_while_saving_is_removed_by_the_next(tmp_path):
    """Only once it is dead: the system holds the file for it, whatever its age."""
    child = os.fork()
    if child == 0:
        output = output_file(tmp_path)
        real = os.fsync
        os.fsync = lambda descriptor: (os.utime(descriptor, (0, 0)), time.sleep(60), real(descriptor))
        output.save(build())
    while not (left := list(tmp_path.glob(".*.part"))) or left[0].stat().st_mtime:
        time.sleep(0.01)
    try:
        remove_left_parts(tmp_path)
        assert left == list(tmp_path.iterdir())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    remove_left_parts(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_what_is_young_or_no_file_of_ours_is_left_alone(tmp_path):
    """It was made this moment, is no file, leads elsewhere, or has another name; nothing is waited for."""
    (tmp_path / "x.part").touch()
    (tmp_path / ".x.party").touch()
    (tmp_path / ".young.part").touch()
    (tmp_path / ".folder.part").mkdir()
    (tmp_path / ".link.part").symlink_to(tmp_path / "x.part")
    os.mkfifo(tmp_path / ".pipe.part")
    before = sorted(tmp_path.iterdir())
    for path in before:
        if path.name != ".young.part":
            os.utime(path, (0, 0), follow_symlinks=False)
    remove_left_parts(tmp_path)

    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(("age_s", "kept"), [(60, True), (7200, False)])
def test_where_a_file_system_knows_no_locks_age_tells(tmp_path, monkeypatch, age_s, kept):
    """No save takes an hour."""
    monkeypatch.setattr("fcntl.flock", mock.Mock(side_effect=OSError(errno.ENOTSUP, "no locks here")))
    path = tmp_path / ".x.part"
    path.touch()
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    remove_left_parts(tmp_path)

    assert kept == path.exists()


@pytest.mark.parametrize("accepted", [0, 100])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failed_write_keeps_the_good_version(tmp_path, monkeypatch, accepted, number):
    """The fault is injected at os.write, after none or some bytes: no half file, no left-over, one clear sentence."""
    output = output_file(tmp_path)
    output.save(build())
    before = output.path.read_bytes()
    real, calls = os.write, []

    def write(descriptor, content):
        calls.append(1)
        if len(calls) > 1 or not accepted:
            raise OSError(number, os.strerror(number))
        return real(descriptor, content[:accepted])

    monkeypatch.setattr(os, "write", write)

    with pytest.raises(EvidenceError, match=r"could not be saved: .* Its last saved version is unchanged"):
        output.save(build(5000))
    monkeypatch.undo()
    assert before == output.path.read_bytes()
    assert [output.path] == list(tmp_path.iterdir())
    output.save(build(5000))


def test_a_folder_that_cannot_be_synced_does_not_cost_the_run_its_file(tmp_path, monkeypatch):
    """The file is in place and this run's, so that its next save succeeds."""
    output = output_file(tmp_path)
    failing = mock.Mock(side_effect=OSError(5, "I/O error"))
    monkeypatch.setattr("truthful_papermill.engine.saving.sync_folder", failing)
    with pytest.raises(EvidenceError, match="could not be saved: I/O error"):
        output.save(build())
    monkeypatch.undo()

    assert output.save(build(20)) is None


def test_two_runs_with_one_name_do_not_meet(tmp_path):
    """The first to save has the name; the other one is refused, however late it comes."""
    first, second = output_file(tmp_path), output_file(tmp_path)
    first.save(build())

    with pytest.raises(EvidenceError, match="already exists"):
        second.save(build())
    first.save(build(20))


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_file_that_somebody_else_changed_is_not_overwritten(tmp_path, change):
    """A run replaces what it saved itself, and nothing else."""
    output = output_file(tmp_path)
    output.save(build())
    (tmp_path / "other").write_text("other")
    if change == "replaced":
        (tmp_path / "other").replace(output.path)
    else:
        output.path.unlink()

    with pytest.raises(EvidenceError, match="was replaced or removed by somebody else"):
        output.save(build())
    assert change == "removed" or output.path.read_text() == "other"


def test_a_link_with_the_name_is_not_followed(tmp_path):
    """A symbolic link that waits at the name of the output is an existing output."""
    (tmp_path / "out.ipynb").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(EvidenceError, match="already exists"):
        output_file(tmp_path).save(build())
    assert not (tmp_path / "elsewhere").exists()


def test_without_hard_links_the_name_is_still_exclusive(tmp_path, monkeypatch):
    """A USB stick has no hard links."""

    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    output = output_file(tmp_path)
    output.save(build())
    output.save(build(20))

    with pytest.raises(EvidenceError, match="already exists"):
        output_file(tmp_path).save(build())


def test_a_missing_folder_is_a_clear_error(tmp_path):
    """The folder belongs to whoever makes the evidence; the engine does not invent one."""
    with pytest.raises(EvidenceError, match="could not be saved: No such file or directory"):
        output_file(tmp_path / "missing").save(build())


REPLY = {"shell.execute_reply": "2026-01-01T00:00:00Z"}
BEGAN = {"start_time": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("status", "cell", "expected"),
    [
        ("completed", {"execution_count": 1, "execution": REPLY}, "completed"),
        ("completed", {"execution_count": 1, "execution": {}}, "unknown"),  # stock papermill after a dead kernel
        ("completed", {"execution_count": None, "execution": {}}, "unknown"),  # sent, and died at once
        ("completed", {"execution_count": None, "execution": None}, "not_run"),  # skipped, or never reached
        ("completed", {"execution_count": 1, "execution": REPLY, "ename": "ValueError"}, "failed"),
        ("completed", {"execution_count": 1, "execution": {}, "ename": "KeyboardInterrupt"}, "unknown"),
        ("running", {"execution_count": None, "execution": None}, "unknown"),
        ("pending", {"execution_count": None, "execution": None}, "not_run"),
        ("failed", {"execution_count": 1, "execution": REPLY}, "failed"),
        ("unknown", {"execution_count": 1, "execution": REPLY}, "unknown"),
        ("not_run", {"execution_count": None, "execution": None}, "not_run"),
        (None, {"execution_count": None, "execution": None}, "not_run"),
        (None, {"execution_count": 7, "execution": None}, "unknown"),
    ],
)
def test_good_news_needs_proof_and_bad_news_does_not(status, cell, expected):
    """A cell is completed only if the kernel's reply is on record, whatever its status says."""
    code = new_code_cell("1", execution_count=cell["execution_count"])
    if status is not None:
        code.metadata["papermill"] = {"status": status, **BEGAN}
    if cell["execution"] is not None:
        code.metadata["execution"] = cell["execution"]
    if "ename" in cell:
        code.outputs = [new_output("error", ename=cell["ename"], evalue="", traceback=[])]

    assert expected == read_status(new_notebook(cells=[code])).status


class Watched(OutputFile):
    """A file that remembers the statuses of each version saved in it."""

    def save(self, nb):
        super().save(nb)
        saved = read_notebook(self.path)
        self.versions = [*getattr(self, "versions", []), [cell.metadata.papermill.status for cell in saved.cells]]


def test_text_is_saved_with_the_next_code(tmp_path):
    """Nothing can happen to it, and a save takes longer; whatever code was begun is on disk, with all before it and the banner."""
    nb = new_notebook(cells=[new_markdown_cell("# Title"), new_markdown_cell("Text"), new_code_cell("1")])
    for cell in nb.cells:
        cell.metadata["papermill"] = {}
    nb.metadata["papermill"] = {}
    output = Watched(tmp_path / "out.ipynb", Redactor())
    run = Run(nb, output, Redactor(), progress_bar=False)
    run.notebook_start()
    for index, cell in enumerate(nb.cells):
        run.cell_start(cell, index)
        run.cell_complete(cell, index)

    assert [
        ["completed", "pending", "pending", "pending"],
        ["completed", "completed", "completed", "running"],
        ["completed", "completed", "completed", "completed"],
    ] == output.versions
