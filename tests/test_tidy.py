"""The house rules, held against the tree: imports point one way, and what is dangerous stays in its room."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "lib"

# A package may import those that stand beside its name, and itself.
PACKAGES = {
    "local_stripe": set(),
    "truthful_papermill": set(),
    "manual_payout": {"truthful_papermill"},
    "payout_rehearsal": {"local_stripe", "truthful_papermill", "manual_payout"},
}

# A room of the product may import from the rooms before it, and from itself (docs/architecture.md).
ROOMS = [
    "domain", "database", "ledger", "gateway", "desk", "approval", "transfer", "comms", "monitoring", "evidence", "steps",
    "web", "cli", "__main__",
]  # fmt: skip

# What may be used in some places only, by the beginning of their paths, and what to use elsewhere.
ONLY_IN = {
    r"^\s*(import|from) stripe\b": (
        ["manual_payout/gateway", "payout_rehearsal/testmode"],
        "Stripe is reached through gateway; only the rehearsal seeds its test mode",
    ),
    r"^\s*(import|from) (slack_sdk|smtplib|pagerduty)\b": (["manual_payout/comms"], "people are reached through comms"),
    r"^\s*(import|from) jira\b": (["manual_payout/evidence/attaching"], "the ticket is reached through attaching"),
    r"^\s*(import|from) requests\b": (
        ["manual_payout/evidence/attaching", "manual_payout/gateway"],
        "HTTP is spoken by attaching and gateway",
    ),
    r"^\s*(import|from) asyncssh\b": (
        ["manual_payout/desk/signatures"],
        "keys and signatures are reached through signatures",
    ),
    r"datetime\.now\(|time\.time\(|utcnow": (
        [
            "manual_payout/database/clock", "local_stripe", "manual_payout/cli", "payout_rehearsal/commands",
            "manual_payout/evidence/verifier",
        ],
        "time is asked of clock.py",
    ),
    r"^\s*(import|from) sqlalchemy\b": (
        ["manual_payout/database", "manual_payout/ledger", "manual_payout/desk/wiring", "manual_payout/steps/runner", "payout_rehearsal"],
        "databases are reached through the store and the ledger",
    ),
    r"\.expires_at\b": (
        [
            "manual_payout/desk/settings", "manual_payout/domain/models", "manual_payout/database", "manual_payout/approval/approvals",
            "manual_payout/approval/policy",
        ],
        "a policy that has become stricter counts: ask policy.request.request_ends and approval_ends",
    ),
    r"store\.open_requests\(": (
        ["manual_payout/desk/wiring"],
        "ask desk.open_requests, which knows the policy as it is now",
    ),
    r"scrapbook": (
        ["manual_payout/steps", "manual_payout/evidence", "manual_payout/desk/results", "payout_rehearsal"],
        "money never reads a scrap; state is the database's",
    ),
    r"\bfloat\(": (["manual_payout/desk/settings", "local_stripe"], "money is never a float; see money.py"),
    r"^\s*print\(": ([], "the command line shows things, in cli"),
    r"except Exception:\s*(pass)?$|except:\s*$": ([], "say which error, and what becomes of it"),
    r"os\.environ": (
        # What OpenSSL itself reads there is asked for where a connection is explained.
        ["manual_payout/desk", "manual_payout/steps/runner", "manual_payout/cli", "manual_payout/domain/connections",
         "truthful_papermill", "payout_rehearsal/commands"],
        "the environment is read by settings.py",
    ),
}  # fmt: skip

# Where modules are named by a string, so that they are imported late or elsewhere.
NAMING = {"manual_payout/cli/commands.py", "manual_payout/desk/kernels.py", "payout_rehearsal/commands.py"}

# What is longer than the rule allows, and why it has not been cut. Nothing may be added.
LONG_MODULES = {
    "manual_payout/evidence/verifier.py": "an auditor runs it alone, as one file",
    "manual_payout/desk/settings.py": "each section of the policy with its reasons",
    "manual_payout/approval/policy.py": "the table of checks",
    "manual_payout/domain/models.py": "the nouns",
    "payout_rehearsal/demo/ledger.py": "a year of payouts that do not exist",
    "truthful_papermill/templates.py": "what a notebook may hold",
}
LONG_FUNCTIONS = {
    "record_adoption", "record_outcome", "request", "run", "run_stages", "ground", "execute", "execute_notebook", "upgrade",
}  # fmt: skip

# What a person or a program calls by name: a command, a cell, an endpoint, a table. It may be called like what it calls.
ENTRIES = (
    "manual_payout/cli/", "manual_payout/steps/", "manual_payout/database/schema", "manual_payout/database/migrations/",
    "payout_rehearsal/commands", "local_stripe/handlers", "manual_payout/__main__",
)  # fmt: skip

# The offline verifier does everything again by its own code, and calls it what the product calls it.
VERIFIER = "manual_payout/evidence/verifier.py"

FILES = sorted(LIBRARY.rglob("*.py"))


def path_of(file: Path) -> str:
    """Where a file lies in the library."""
    return file.relative_to(LIBRARY).as_posix()


def place_of(module: str) -> tuple[str, str]:
    """The package and the room of a module, by its dotted name or its path."""
    package, _, rest = module.removesuffix(".py").replace("/", ".").partition(".")
    return package, rest.split(".")[0] if package == "manual_payout" else ""


def imported_places(source: str) -> set[tuple[str, str]]:
    """The packages and rooms that a source imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            found |= {place_of(f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(place_of(node.module))
        elif isinstance(node, ast.Import):
            found |= {place_of(alias.name) for alias in node.names}
    return {(package, room) for package, room in found if package in PACKAGES}


def backward(place: tuple[str, str], imported: set[tuple[str, str]]) -> list[str]:
    """Those of *imported* that a module at *place* may not know."""
    package, room = place
    before = set(ROOMS[: ROOMS.index(room) + 1]) if room in ROOMS else set()
    return sorted(
        f"{other}.{its_room}".rstrip(".")
        for other, its_room in imported
        if (other != package and other not in PACKAGES[package])
        or (other == package == "manual_payout" and its_room in ROOMS and its_room not in before)
    )


def test_every_package_and_room_is_in_the_table():
    """A new one gets its place on purpose."""

    assert sorted(PACKAGES) == sorted({place_of(path_of(file))[0] for file in FILES})
    assert sorted(ROOMS) == sorted({place_of(path_of(file))[1] for file in FILES} - {"", "__init__"})


@pytest.mark.parametrize("file", FILES, ids=path_of)
def test_imports_point_one_way(file):
    """No package knows one that it stands below, and no room one that comes after it."""

    assert [] == backward(place_of(path_of(file)), imported_places(file.read_text("utf-8")))


def test_the_tables_would_catch_a_planted_import():
    """The rules have teeth."""
    late = imported_places("def late():\n    from manual_payout.database.store import Store\n")

    assert ["manual_payout.database"] == backward(("manual_payout", "domain"), late)
    assert ["manual_payout.database"] == backward(("local_stripe", ""), late)
    assert [] == backward(("payout_rehearsal", ""), late)


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_dangerous_things_stay_in_their_place(pattern):
    """Each has one place where it is done right."""
    places, instead = ONLY_IN[pattern]
    found = [
        f"{path_of(file)}:{number}: {instead}"
        for file in FILES
        if not path_of(file).startswith(tuple(places))
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]

    assert [] == found


def test_no_file_name_stands_more_than_twice_in_a_package():
    """Whoever looks for a file by its name finds it."""
    names = Counter((place_of(path_of(file))[0], file.name) for file in FILES if file.name != "__init__.py")

    assert [] == [name for name, times in names.items() if times > 2]


def public_names(source: str) -> set[str]:
    """What a module offers: its functions, classes and constants; a letter alone is a type that stands for any."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_") and len(name) > 1}


def test_a_public_name_has_one_meaning_in_a_package():
    """Who reads a name in one module knows what it is in every other."""
    places: dict[tuple[str, str], list[str]] = {}
    for file in FILES:
        path = path_of(file)
        if path != VERIFIER and not path.startswith(ENTRIES):
            for name in public_names(file.read_text("utf-8")):
                places.setdefault((place_of(path)[0], name), []).append(path)

    assert {} == {name: where for name, where in places.items() if len(where) > 1}


def imported_modules(module: str, source: str, modules: set[str]) -> set[str]:
    """Those of *modules* that a source imports, lazily or not; what only a type checker reads is left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in named}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & modules) - {module}


def test_no_two_modules_import_one_another():
    """A module is understood after those that it imports, and never before one of them."""
    names = {path_of(file).removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}
    arrows = {name: imported_modules(name, file.read_text("utf-8"), {*names}) for name, file in names.items()}
    while ready := {name for name, imported in arrows.items() if not imported}:
        arrows = {name: imported - ready for name, imported in arrows.items() if name not in ready}

    assert {} == arrows


def test_modules_are_named_by_strings_in_few_places():
    """What a search for imports does not find stands in the commands and in what kernels need."""
    names = {path_of(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in FILES} - {
        *PACKAGES
    }
    found = [
        f"{path_of(file)}: {node.value}"
        for file in FILES
        if path_of(file) not in NAMING
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition(":")[0] in names
    ]

    assert [] == found


def test_modules_and_functions_can_be_read_in_one_go():
    """A module has at most 400 lines, a function at most 60; what is longer stands in a table that only shrinks."""
    modules = {path_of(file) for file in FILES if len(file.read_text("utf-8").splitlines()) > 400}
    functions = {
        node.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    }

    assert set(LONG_MODULES) == modules
    assert functions == LONG_FUNCTIONS


def test_no_unfinished_marks():
    """What is not done is not there."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

    assert [] == [path_of(file) for file in FILES if marks.search(file.read_text("utf-8"))]
