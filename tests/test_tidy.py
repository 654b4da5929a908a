"""The house rules, held against the tree: imports point one way, and what is dangerous stays in its room."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lib" / "manual_payout"

# A room may import from the rooms before it, and from itself.
ROOMS = [
    "verifier", "errors", "money", "canonical", "lean", "signatures", "models", "account", "alerts", "plain_text", "rendering", "parameters", "terminal", "display", "durable",
    "pauses", "messengers", "settings", "inventory", "reviewed", "warm", "secret_settings", "redaction", "templates", "people", "signing", "machine", "schema", "migrations", "postgresql", "database",
    "clock", "waiting", "journal", "spool", "store", "approvals", "ledger", "intent", "policy", "gateway",
    "privileges", "desk", "others", "books", "requesting", "verification", "approving", "reversal", "transfer", "settlement", "comms", "closing",
    "monitoring", "evidence", "attaching", "parameter_file", "steps", "engine", "endings", "runner", "sandbox",
    "demo", "relay", "testmode", "rehearsal", "cli", "console",
]  # fmt: skip

# What may be used in one place only, and what to use elsewhere.
ONLY_IN = {
    r"^\s*(import|from) stripe\b": ({"gateway"}, "Stripe is reached through gateway"),
    r"^\s*(import|from) (slack_sdk|smtplib|pagerduty)\b": ({"comms"}, "people are reached through comms"),
    r"^\s*(import|from) jira\b": ({"attaching"}, "the ticket is reached through attaching"),
    r"^\s*(import|from) requests\b": ({"attaching", "gateway"}, "HTTP is spoken by attaching and gateway"),
    r"^\s*(import|from) asyncssh\b": ({"signatures"}, "keys and signatures are reached through signatures"),
    r"datetime\.now\(|time\.time\(|utcnow": ({"clock", "sandbox", "cli"}, "time is asked of clock.py"),
    r"^\s*(import|from) sqlalchemy\b": (
        {
            "clock",
            "schema",
            "migrations",
            "postgresql",
            "database",
            "journal",
            "store",
            "ledger",
            "desk",
            "runner",
            "demo",
        },
        "databases are reached through store.py and ledger.py",
    ),
    r"\.expires_at\b": (
        {"settings", "models", "schema", "store", "approvals", "policy"},
        "a policy that has become stricter counts: ask policy.request.request_ends and approval_ends",
    ),
    r"store\.open_requests\(": ({"desk"}, "ask desk.open_requests, which knows the policy as it is now"),
    r"scrapbook": (
        {"steps", "evidence", "verifier", "rehearsal"},
        "money never reads a scrap; state is the database's",
    ),
    r"\bfloat\(": ({"settings", "sandbox"}, "money is never a float; see money.py"),
    r"^\s*print\(": (set(), "the command line shows things, in cli"),
    r"except Exception:\s*(pass)?$|except:\s*$": (set(), "say which error, and what becomes of it"),
    r"os\.environ": (
        {"settings", "runner", "engine", "redaction", "desk", "cli", "warm", "signatures"},
        "the environment is read by settings.py",
    ),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room a file belongs to: its module, or its package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(source: str) -> set[str]:
    """The rooms of this package that a source imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "manual_payout":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manual_payout."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("manual_payout.")}
    return found & set(ROOMS)


def test_every_room_is_in_the_table():
    """A new room gets its place on purpose."""

    assert sorted(ROOMS) == sorted({room_of(path) for path in FILES} - {"__init__"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    """No room imports a room that comes after it."""
    room = room_of(path)
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else []

    assert set() == imported_rooms(path.read_text("utf-8")) - set(allowed)


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_dangerous_things_stay_in_their_room(pattern):
    """Each has one place where it is done right."""
    rooms, instead = ONLY_IN[pattern]
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {instead}"
        for path in FILES
        if room_of(path) not in rooms
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]

    assert [] == found


def test_the_table_would_catch_a_planted_import():
    """The rule has teeth."""

    assert {"store"} == imported_rooms("def late():\n    from manual_payout.database.store import Store\n") - set(
        ROOMS[:3]
    )


def test_no_unfinished_marks():
    """What is not done is not there."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

    assert [] == [str(path) for path in FILES if marks.search(path.read_text("utf-8"))]
