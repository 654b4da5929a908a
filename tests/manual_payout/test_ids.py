"""The ledger's ids are its own: numbers, UUIDs or ULIDs, recorded as they are, and never a folder's name where they cannot be one."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.database.engines import connect
from manual_payout.desk.wiring import kernel_environment
from manual_payout.domain.errors import ParameterError
from manual_payout.domain.models import folder_name
from manual_payout.domain.parameters import check
from manual_payout.evidence import verifier
from manual_payout.ledger import Ledger
from payout_rehearsal.demo import incident
from shells import FLAGS

PROGRAM = [sys.executable, "-m", "manual_payout"]
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
LETTERS = "abcXYZ019_.:/+=@#~,%-"
IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:/+=@#~,%-]{0,63}", fullmatch=True)

# The demo's books once more, under other ids: the n-th payout and the n-th studio.
NUMBERED = """
CREATE TABLE studios AS SELECT studio_id AS was, row_number() OVER (ORDER BY studio_id) + 9007199254740990 AS number
  FROM (SELECT DISTINCT studio_id FROM manual_payout_due) AS every;
CREATE TABLE due AS SELECT row_number() OVER (ORDER BY d.ledger_payout_id) AS ledger_payout_id, s.number AS studio_id,
  d.studio_name, d.studio_email, d.studio_locale, d.amount_minor, d.currency, d.destination_account,
  d.destination_changed_at, d.period_start, d.period_end, d.due_at, d.status, d.failure_reason, d.failed_at, d.paid_at,
  d.claimed_by, d.claimed_at, d.ledger_payout_id AS was FROM manual_payout_due d JOIN studios s ON s.was = d.studio_id;
CREATE TABLE balance AS SELECT s.number AS studio_id, b.currency, b.balance_minor, b.reserve_minimum_minor, b.as_of
  FROM manual_payout_balance b JOIN studios s ON s.was = b.studio_id;
DROP TABLE manual_payout_due;
DROP TABLE manual_payout_balance;
ALTER TABLE due RENAME TO manual_payout_due;
ALTER TABLE balance RENAME TO manual_payout_balance
"""


def renumber(url):
    """Give the ledger at *url* bigint ids; return the demo payout's and its studio's."""
    engine = connect(url, name="LEDGER_DATABASE_URL").execution_options(own_schema=True)
    with engine.begin() as connection:
        for statement in NUMBERED.split(";"):
            connection.execute(sa.text(statement))
        found = connection.execute(
            sa.text(
                f"SELECT ledger_payout_id, studio_id FROM manual_payout_due WHERE was = '{incident.LEDGER_PAYOUT_ID}'"
            )
        ).one()
    engine.dispose()
    return str(found[0]), str(found[1])


@given(IDS)
def test_an_id_is_recorded_unchanged(value):
    """Neither case nor leading zeros are anybody's but the ledger's to change."""

    assert value == check("ledger_payout_id", value) == check("studio_id", value)


def test_a_number_that_papermill_has_read_is_its_digits():
    """`-p ledger_payout_id 42` arrives as a number."""

    assert "42" == check("ledger_payout_id", 42)


@pytest.mark.parametrize(
    "value", ["", " 42", "4 2", "x" * 65, "a\nb", "a\u202eb", "x' OR '1'='1", "$(reboot)", "-4", True, 4.0]
)
def test_what_is_no_id_is_refused(value):
    """One sentence says what an id is."""
    with pytest.raises(ParameterError, match="1 to 64 letters, digits"):
        check("ledger_payout_id", value)


@pytest.mark.parametrize("value", [incident.LEDGER_PAYOUT_ID, "42", "po_1a-b"])
def test_a_plain_id_is_its_own_folder(value):
    """Whoever looks for the evidence of a payout finds it by the payout's id."""

    assert value == folder_name(value)


@pytest.mark.parametrize("value", ["..", "a/../../b", "con", "com1", ULID, "a:b", "-", "_", "x.", "A" * 64])
def test_what_cannot_be_a_name_everywhere_becomes_one(value):
    """No slash, full stop at an end, capital, or device of Windows stands in a folder's name."""

    assert re.fullmatch(r"id-[a-z0-9-]*\.[0-9a-f]{16}", folder_name(value))


@given(IDS, IDS)
def test_two_ids_have_two_folders_where_capitals_do_not_count(one, other):
    """On a share that knows no capitals, two payouts do not share their evidence."""

    assert (one == other) == (folder_name(one).lower() == folder_name(other).lower())


@given(st.text(LETTERS, min_size=1, max_size=64).filter(lambda text: text[0] not in ".:/+=@#~,%-"))
def test_the_verifier_derives_the_same_name(value):
    """By its own code it expects the journal of the name that the folder has."""

    assert folder_name(value) == verifier._folder_name(value)


def test_an_id_is_asked_for_as_the_ledger_writes_it(any_scene):
    """PostgreSQL takes 042 for 42 and capitals for a uuid; everything that is recorded uses one form."""
    payout_id, _ = renumber(any_scene.url)
    reader = Ledger(any_scene.engine)
    with pytest.raises(ParameterError, match=f"found '0{payout_id}', expected {payout_id}, as the ledger writes it"):
        reader.find_payout_due(f"0{payout_id}")

    assert payout_id == reader.get_payout_due(payout_id).ledger_payout_id


@pytest.mark.parametrize("absent", ["9", "B8E4F6A0", "x", "99999999999999999999999", ULID])
def test_an_id_that_the_column_cannot_hold_is_of_no_payout(any_scene, absent):
    """A word asked of a column of numbers is an answer, not an error of the database."""
    renumber(any_scene.url)

    assert Ledger(any_scene.engine).find_payout_due(absent if absent != "9" else "999999") is None


def night(scene, cwd, payout_id, studio_id):
    """File, approve, dry run, live run, seal again, attach and verify through the command line; return the folder."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"COLUMNS": "100"}
    environment = kernel_environment(scene.settings) | kept

    def run(*arguments):
        done = subprocess.run(
            [*PROGRAM, *arguments], check=False, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120
        )
        assert 0 == done.returncode, done.stderr
        return done.stdout

    flags = FLAGS | {"--ledger-payout-id": payout_id, "--studio-id": studio_id, "--incident-id": "INC-500"}
    run("request", "--as", "maya", *itertools.chain(*flags.items()))
    for person in ("priya", "amara"):
        run("approve", "INC-500", "--as", person, "--amount", "1250.75", "--destination-last4", "_123")
    where = ("run", "INC-500", "--operator", "tomas")
    run(*where, "--confirm", re.findall(r"[A-Z2-7]{4}-[A-Z2-7]{4}", run(*where))[-1])
    folder = scene.settings.outputs_dir / "INC-500" / folder_name(payout_id)
    run("seal", "INC-500", "--operator", "tomas")
    (cwd / "ticket").mkdir()
    run("attach", "INC-500", "--operator", "tomas", "--to", str(cwd / "ticket"))
    run("verify", str(folder))
    return folder


def test_a_night_on_a_ledger_of_numbers(any_scene, tmp_path):
    """With bigint ids from the form to the ticket."""
    payout_id, studio_id = renumber(any_scene.url)
    folder = night(any_scene, tmp_path, payout_id, studio_id)

    assert payout_id in (folder / "index.html").read_text("utf-8")
    assert [payout_id] == [row.ledger_payout_id for row in any_scene.desk.store.payouts_of(incident_id="INC-500")]


def test_a_night_on_a_ledger_of_ulids(scene, tmp_path):
    """With ids that no folder is called by: page, seal and journal are of the id, the folder's name is derived from it."""
    scene.tamper("UPDATE manual_payout_due SET ledger_payout_id = :new WHERE ledger_payout_id = :old",
                 new=ULID, old=incident.LEDGER_PAYOUT_ID)  # fmt: skip
    folder = night(scene, tmp_path, ULID, incident.STUDIO_ID)

    assert folder.name != ULID
    assert ULID in (folder / "index.html").read_text("utf-8")
    assert "Harbor Light Pottery" in (folder / "index.html").read_text("utf-8")
    assert [ULID] == [row.ledger_payout_id for row in scene.desk.store.payouts_of(incident_id="INC-500")]
