"""The database is away when the answer comes: what was made is noted on this machine, found again, and asked of Stripe."""

from __future__ import annotations

import json
from types import SimpleNamespace

import psycopg
import pytest

from crash.simulation.memory_spool import MemorySpool
from manual_payout.database.spool import Spool
from manual_payout.domain.errors import DatabaseError, EvidenceError, ManualPayoutError, UnknownOutcomeError
from manual_payout.domain.models import State
from payout_rehearsal.demo import incident


def record_of(key="key-1"):
    return SimpleNamespace(incident_id="INC-1", ledger_payout_id="payout", idempotency_key=key)


@pytest.fixture(name="spool")
def _spool(tmp_path):
    return Spool(tmp_path / "spool")


@pytest.fixture(params=["on disk", "in memory"], name="any_spool")
def _any_spool(request, spool):
    return spool if request.param == "on disk" else MemorySpool()


def test_note_is_found_until_it_is_set_aside(any_spool):
    """By its own key only; noted twice it is one note, and setting aside what is not there is no error."""
    one, other = record_of(), record_of("key-2")
    found = [any_spool.find(one)]
    any_spool.close(one)
    for _ in range(2):
        any_spool.note(one, "tr_1")
    found += [any_spool.find(one), any_spool.find(other)]
    any_spool.close(one)
    found.append(any_spool.find(one))

    assert [None, "tr_1", None, None] == found


def test_note_that_was_recorded_stays_on_disk(spool):
    """Nothing that was said of money is thrown away."""
    path = spool.note(record_of(), "tr_1")
    spool.close(record_of())

    assert ["key-1.recorded"] == [one.name for one in path.parent.iterdir()]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"stripe_id": "tr_1"}', '{"idempotency_key": "key-2", "stripe_id": "tr_1"}',
             '{"idempotency_key": "key-1", "stripe_id": 7}', "\udcff"],
)  # fmt: skip
def test_damaged_note_is_one_sentence(spool, text):
    """It may name a transfer, so it is not passed over."""
    spool.note(record_of(), "tr_1").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EvidenceError, match=r"The note .*key-1\.json cannot be read"):
        spool.find(record_of())


# ---------------------------------------------------------------------------------------------- the database is away


class Server:
    """The scene's database on a real PostgreSQL, which can be taken away and given back."""

    def __init__(self, scene, server):
        self._scene, self._server = scene, server
        self._name = scene.engine.url.database

    def __call__(self, *, away):
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS {str(not away).lower()}")
            if away:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._name]
                )


@pytest.fixture(name="server")
def _server(any_scene, postgresql_server):
    return Server(any_scene, postgresql_server)


on_postgresql = pytest.mark.parametrize("any_demo_url", ["postgresql"], indirect=True)


def send(scene):
    with pytest.raises(ManualPayoutError) as raised:
        scene.send()
    return raised.value


def going_away(scene, server, monkeypatch, *, after):
    """Have the database go before or after the one HTTP attempt, while it is under way for this machine."""
    create = scene.desk.gateway.create_transfer

    def create_and_lose(*args, **kwargs):
        if not after:
            server(away=True)
        answer = create(*args, **kwargs)
        if after:
            server(away=True)
        return answer

    monkeypatch.setattr(scene.desk.gateway, "create_transfer", create_and_lose)


@on_postgresql
def test_database_away_before_the_call_sends_nothing(any_scene, server):
    """No intent, no call; when it is back, the same command pays."""
    server(away=True)
    error = send(any_scene)

    assert (DatabaseError, []) == (type(error), any_scene.posts)
    server(away=False)
    assert State.PAID is any_scene.send(any_scene.new_desk()).state


@on_postgresql
@pytest.mark.parametrize("after", [False, True])
def test_database_away_when_the_answer_comes_leaves_a_note(any_scene, server, monkeypatch, after):
    """The transfer and its key are told and noted; when the database is back, they are recorded and the note set aside."""
    scene = any_scene
    going_away(scene, server, monkeypatch, after=after)
    error = send(scene)
    made = scene.transfers[0].id
    (path,) = (scene.settings.outputs_dir / "spool").iterdir()
    noted = json.loads(path.read_text("utf-8"))
    monkeypatch.undo()
    server(away=False)
    record = scene.reconcile(scene.new_desk()).record

    assert UnknownOutcomeError is type(error)
    assert [True] * 3 == [text in error.message for text in (made, record.idempotency_key, str(path))]
    assert (made, record.idempotency_key, incident.INCIDENT_ID) == (
        noted["stripe_id"], noted["idempotency_key"], noted["incident_id"],
    )  # fmt: skip
    assert (State.PAID, made, 1) == (record.state, record.stripe_transfer_id, len(scene.transfers))
    assert [f"{record.idempotency_key}.recorded"] == [one.name for one in path.parent.iterdir()]


def away_for_the_outcome(scene, monkeypatch):
    def fails(*_args, **_kwargs):
        raise DatabaseError("the disk is full.", "")

    with monkeypatch.context() as patch:
        patch.setattr(scene.desk.store, "record_outcome", fails)
        return send(scene)


def test_noted_transfer_is_found_where_the_listing_does_not_show_it(scene, monkeypatch):
    """It is asked for by its name: nothing is sent again, though the group is empty."""
    away_for_the_outcome(scene, monkeypatch)
    monkeypatch.setattr(scene.desk.gateway, "transfers_in_group", lambda _group: [])
    record = scene.reconcile().record

    assert (State.PAID, scene.transfers[0].id) == (record.state, record.stripe_transfer_id)
    assert 1 == len(scene.posts)


def test_note_that_names_another_transfer_is_not_believed(scene, monkeypatch):
    """Whoever can write the note cannot have a foreign transfer taken for this one."""
    away_for_the_outcome(scene, monkeypatch)
    foreign = dict(scene.desk.gateway.get_transfer(scene.transfers[0].id), id="tr_other", metadata={})
    scene.desk.spool.note(scene.record, "tr_other")
    monkeypatch.setattr(scene.desk.gateway, "transfers_in_group", lambda _group: [])
    monkeypatch.setattr(scene.desk.gateway, "get_transfer", lambda _id: foreign)
    with pytest.raises(UnknownOutcomeError, match="tr_other"):
        scene.reconcile()

    assert State.NEEDS_HUMAN is scene.record.state


def test_disk_that_takes_no_note_is_told_too(scene, monkeypatch):
    """Then the screen and the notebook are all there is."""
    (scene.settings.outputs_dir).mkdir(exist_ok=True)
    (scene.settings.outputs_dir / "spool").write_text("in the way", "utf-8")
    error = away_for_the_outcome(scene, monkeypatch)

    assert scene.transfers[0].id in error.message
    assert "Nor could it be noted on this machine: File exists." in error.message
