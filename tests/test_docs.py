"""The documents say what the software does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from manual_payout.approval.requesting import ticket_text
from payout_rehearsal import file_and_approve, stage_set
from payout_rehearsal.drill import DRILL
from payout_rehearsal.trend import past_rehearsals

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    """Every command of the command line, with its parent's name."""
    from manual_payout.cli import app

    top = get_command(app)
    for name, command in top.commands.items():
        children = getattr(command, "commands", None)
        yield from ((f"{name} {child}", made) for child, made in children.items()) if children else [(name, command)]


def test_incident_template_is_what_request_prints(tmp_path):
    """The page shows the demo incident's ticket to the letter."""
    page = (ROOT / "docs" / "incident-template.md").read_text("utf-8")
    shown = re.search(r"<!-- ticket -->\n(.*)<!-- /ticket -->", page, re.DOTALL).group(1)
    with stage_set(tmp_path) as (desk, _):
        printed = ticket_text(desk, file_and_approve(desk))

    assert printed.strip() == shown.strip()


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_is_in_the_readme_and_has_help_with_an_example(name, command):
    """Nobody has to read the source to find a command."""

    assert f"manual-payout {name}" in README
    assert "Example" in command.help


def test_rehearsal_playbook_lists_the_scenes_that_are_played():
    """The table is the drill's own."""
    page = (ROOT / "docs" / "rehearsal-playbook.md").read_text("utf-8")
    shown = re.search(r"<!-- scenes -->\n.*?\|---\|---\|---\|\n(.*)<!-- /scenes -->", page, re.DOTALL).group(1)

    assert [f"| `{scene.name}` | {scene.title} | {scene.teaches} |" for scene in DRILL] == shown.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_that_a_page_shows_exist(page):
    """Whoever copies a line gets no usage error: each command is there, and takes each flag that stands behind it."""
    known = dict(commands())
    lines = re.findall(r"^ *\$ manual-payout (.*(?:\\\n.*)*)", page.read_text("utf-8"), re.MULTILINE)
    for line in lines:
        words = line.replace("\\\n", " ").split()
        name = next(name for name in (" ".join(words[:2]), words[0]) if name in known)
        flags = {option for parameter in known[name].params for option in (*parameter.opts, *parameter.secondary_opts)}

        assert set() == {word for word in words if word.startswith("-")} - flags, line


def test_papermill_line_of_the_playbook_works(tmp_path):
    """A purist's rehearsal: plain papermill, in a folder that later rehearsals find."""
    page = (ROOT / "docs" / "rehearsal-playbook.md").read_text("utf-8")
    [line] = re.findall(r"^\$ (papermill .*)", page, re.MULTILINE)
    words = line.replace("outputs/", f"{tmp_path}/").split()
    (tmp_path / "rehearsals" / "by-hand").mkdir(parents=True)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", *words, "-p", "drill", "False"]
    run = subprocess.run(
        command, cwd=ROOT, env=kept | {"MANUAL_PAYOUT_OUTPUTS": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    [past] = past_rehearsals(tmp_path / "rehearsals", but=tmp_path).timed()

    assert 0 == run.returncode, run.stderr[-2000:]
    assert ("by-hand", True, False) == (past.folder, past.green, past.drill)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    """No link to a file is broken."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_every_file_that_messages_point_to_exists():
    """A remedy that names a page names one that is there."""
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "lib").rglob("*.py"))

    assert [] == [name for name in set(re.findall(r"docs/[a-z-]+\.md", sources)) if not (ROOT / name).is_file()]


def test_list_of_commands_says_of_each_what_it_says_itself():
    """The list is written without building the commands."""
    from manual_payout.cli import app
    from manual_payout.cli.commands import COMMANDS

    top = get_command(app)

    assert {name: short for name, (_, short) in COMMANDS.items()} == {
        name: command.short_help for name, command in top.commands.items()
    }
