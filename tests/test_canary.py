"""No byte of a secret is told, whatever goes wrong: a small part of the campaign, and the search that it relies on."""

from __future__ import annotations

import base64
import html
import io
import json
import sqlite3
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import quote

import nbformat
import psycopg
import pytest
from pydantic import SecretStr
from tests.canary.campaign import Tally, campaign
from tests.canary.canaries import PASSPHRASE, make_canaries
from tests.canary.scenes import DEFECTS, FEW
from tests.canary.search import WRITINGS, Search
from tests.canary.stage import written

from manual_payout.desk.settings import Settings

CANARIES = make_canaries("test", "http://127.0.0.1:40000")
SEARCH = Search(CANARIES.values())

# How a whole secret is written, beyond what becomes of each of its blocks.
WHOLE = {
    "raw": str,
    "url": lambda secret: quote(secret, safe=""),
    "json": json.dumps,
    "json in json": lambda secret: json.dumps(json.dumps({"a": secret})),
    "html": html.escape,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 behind one letter": lambda secret: base64.b64encode(b"x" + secret.encode()).decode(),
    "base64 behind two letters": lambda secret: base64.urlsafe_b64encode(b"xy" + secret.encode()).decode(),
    "mime": lambda secret: base64.encodebytes(b"x" * 50 + secret.encode()).decode(),
    "first half": lambda secret: secret[: len(secret) // 2 + 2],
    "second half": lambda secret: secret[len(secret) // 2 - 2 :],
    "broken lines": lambda secret: "\n".join(secret[at : at + 10] for at in range(0, len(secret), 10)),
    "coloured": lambda secret: f"{secret[:-12]}\x1b[1m{secret[-12:]}",
    **{name: lambda secret, write=write: write(secret) for name, write in WRITINGS.items()},
}


def as_notebook(path: Path, text: str) -> None:
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text=f"it said {text}")])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path / "out.ipynb")


def as_database(path: Path, text: str) -> None:
    with sqlite3.connect(path / "state.sqlite") as connection:
        connection.execute("CREATE TABLE events (data TEXT)")
        connection.execute("INSERT INTO events VALUES (?)", [json.dumps({"message": text})])
    connection.close()


def as_archive(path: Path, text: str) -> None:
    with zipfile.ZipFile(path / "evidence.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("journal.json", f"x{text}y")


def as_upload(path: Path, text: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("journal.json", f"x{text}y")
    (path / "request").write_bytes(
        b"--boundary\r\nContent-Type: application/zip\r\n\r\n" + buffer.getvalue() + b"\r\n--boundary--\r\n"
    )


def as_page(path: Path, text: str) -> None:
    (path / "page.html").write_text(f"<pre>{html.escape(text)}</pre>", "utf-8")


def as_stream(path: Path, text: str) -> None:
    (path / "001.err").write_bytes(b"\xff\x00" + text.encode())


ARTEFACTS = [as_notebook, as_database, as_archive, as_upload, as_page, as_stream]


PLANTED = [(form, artefact) for form in WHOLE for artefact in (ARTEFACTS if form not in WRITINGS else ARTEFACTS[:2])]


@pytest.mark.parametrize(("form", "artefact"), PLANTED)
def test_search_finds_every_secret_in_every_writing_and_artefact(tmp_path, form, artefact):
    """Planted one at a time, each is found, and no other."""
    for name, canary in CANARIES.items():
        folder = tmp_path / name
        folder.mkdir()
        artefact(folder, WHOLE[form](canary.hidden))
        found = {finding.canary for file, data in written(folder) for finding in SEARCH.find(file, data)}

        assert {name} == found


def test_search_finds_a_secret_in_a_name_and_in_a_table_of_postgresql(tmp_path, postgresql_server):
    """A file may be named after one, and a server's tables are files of its own."""
    word = CANARIES["PAGERDUTY_ROUTING_KEY"].value
    (tmp_path / word).touch()
    with psycopg.connect(postgresql_server) as connection:
        connection.execute("CREATE TEMPORARY TABLE told AS SELECT %s::text AS what", [word])
        with connection.cursor().copy("COPY told TO STDOUT") as rows:
            data = b"".join(bytes(part) for part in rows)

    assert ["PAGERDUTY_ROUTING_KEY"] == [finding.canary for finding in SEARCH.find("table", data)]
    assert ["PAGERDUTY_ROUTING_KEY"] == [
        finding.canary for file, text in written(tmp_path) for finding in SEARCH.find(file, text)
    ]


def test_search_leaves_alone_what_may_be_shown():
    """Mode, last four characters and eight digits of the digest of a key; the address of a webhook's host."""
    key = CANARIES["STRIPE_FALLBACK_SECRET_KEY"].value
    shown = f"[redacted rk_test …{key[-4:]} sha256:01234567] {'*' * 80}{key[-4:]} http://127.0.0.1:40000/services/ rk_test_51"

    assert [] == SEARCH.find("x", shown.encode())


def test_every_secret_of_the_settings_has_a_canary():
    """A new secret that nobody has added here would be searched for by nobody."""
    secret = {
        str(field.validation_alias) for field in Settings.model_fields.values() if "SecretStr" in str(field.annotation)
    }

    assert SecretStr.__name__ in str(Settings.model_fields["fallback_key"].annotation)
    assert secret | {PASSPHRASE} == set(CANARIES)


def test_no_byte_of_a_secret_is_told():
    """A payment that meets a quotation of the key, messages, wrong settings, secrets typed by mistake: on SQLite."""
    tally = play(FEW)

    assert [] == [str(finding) for finding in tally.findings]
    assert 15 < sum(map(len, tally.faults.values()))
    assert {"notebooks", "pages", "database files", "standard error", "requests", "command lines"} <= set(
        tally.artefacts
    )


@pytest.mark.parametrize("defect", DEFECTS)
def test_planted_defect_is_noticed(defect):
    """The campaign has teeth."""
    code, scene = DEFECTS[defect]
    tally = play([scene], defect=code)

    assert tally.findings
    assert tally.violated


def play(names, **options) -> Tally:
    """Play a small part of some scenes."""
    # Short: the paths of sockets are limited to about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="cny") as folder:
        return campaign(Path(folder), "sqlite", names=names, few=True, **options)
