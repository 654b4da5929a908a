"""
Re-check an evidence folder, offline. This one file needs only Python 3.11 and OpenSSH 9.1; copy it and run it alone:

    python3 verifier.py FOLDER --templates runbooks --registry approvers.toml [--anchor DIGEST] [--mode live] [--json]

It imports nothing of the software that made the folder, so that both would have to be wrong in the same way. It is
longer than other files here because an auditor is given one file. Who may sign is read from the reviewed registry and
from ``allowed_signers`` and ``revoked_keys`` beside it, never from the folder. What it cannot find: that a whole newer
seal was taken away together with what it covered; a digest that was kept elsewhere does (``--anchor``).
"""

from __future__ import annotations

import argparse
import ast
import base64
import errno
import hashlib
import io
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
SEALS = "seals"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:manual-payout:evidence:v1"
APPROVAL_TYPE = "urn:manual-payout:approval:v2"
DRY_RUN_TYPE = "urn:manual-payout:dry-run:v1"
SEAL_NAMESPACE, APPROVAL_NAMESPACE = "seal@manual-payout", "approval@manual-payout"
REQUEST_NAMESPACE, WITHDRAWAL_NAMESPACE = "request@manual-payout", "withdrawal@manual-payout"
MODES = ("sandbox", "test", "live")
# Of a passkey, and of an OpenSSH key on hardware, told apart by the application; the sandbox's pages.
_SSHSIG = b"SSHSIG\x00\x00\x00\x01"
_SK_ECDSA = b"sk-ecdsa-sha2-nistp256@openssh.com"
_ANY_LOCALHOST = "http://localhost:*"
# A number is what a run gives it; without one it is a notebook all the same.
_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_NOTEBOOK = re.compile(r"(?P<stage>.+?)(-\d{2,})?\.ipynb")
_PAGE = re.compile(r"(?P<stage>.+?)(-\d{2,})?\.html")
_SCRAP = "application/scrapbook.scrap.json+json"
_BANNERS = {"truthful-papermill-banner", "papermill-error-cell-tag"}
_INJECTED = "injected-parameters"
_DIGEST = re.compile("[0-9a-f]{64}")
_EARLIER_SEAL = re.compile(rf"{SEALS}/\d{{3,}}\.json")
# What is derived from the database again at each seal, or each time a stage runs.
_MADE_ANEW = {"journal.json", "index.html", "timeline.png", "postmortem.md"}
# Shorter, an anchor read aloud would fit by chance.
_ANCHOR_LENGTH_MIN = 12
# The public keys of the sandbox, as allowed_signers writes them. Anybody can make the private ones.
_SANDBOX_KEYS = frozenset(
    f"AAAAC3NzaC1lZDI1NTE5AAAAI{rest}"
    for rest in (
        "EjuONunVhUraNc3Rw/GKTc8otr/FRTJdi10SaF9W3fp",
        "OUA4HT1KLMjriRmRYidxexxlMbNCwJeZ20joYMRGphl",
        "BhP0qp6MGVaOK4FbvN2yDDtf8rmkeUGfcAc26zSPChE",
        "OMAhW21TAsRHTphFYW8locBsULGuJXMMPP/SFBNV22x",
        "MPkKKMaiprom5KZdD5mhvZ0SQeAHe/Khp3pb86GIa9s",
        "DKMnEzchQQtvKz6diX1e562ZHd/iBjGFqc8CtkT4qb0",
        "AhFu93hPm4KVGIDQPRlUtUJPYoxtGBXlKRb4oZ/R1gH",
        "NYaRqXY2qLM7YYSxIQcw5sVV0GZlzpwmhAmnansfV3l",
    )
)
# What a file that somebody edited can make of reading it.
_DAMAGE = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, SyntaxError, OSError, OverflowError,
    MemoryError,
)  # fmt: skip

# What can stand where a file is expected.
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip

# What the rules of money are where a policy file does not say.
RULES_UNLESS_SAID: dict[str, dict[str, Any]] = {
    "request": {
        "request_lifetime_s": 86_400, "approval_lifetime_s": 14_400, "amount_minor_max": {}, "reserve_minimum_minor": {},
    },
    "approvals": {"passkeys_max": 1, "origins": []},
    "ledger": {
        "payouts_relation": "manual_payout_due", "balances_relation": "manual_payout_balance", "claim_relation": "",
        "failed_status": "failed", "claimed_status": "claimed_by_fallback", "paid_status": "paid", "balance_age_max_s": 93_600,
    },
}  # fmt: skip
SANDBOX_APPROVALS = {"passkeys_max": 2, "origins": [_ANY_LOCALHOST]}

# The events at which approvals had to stand: an attempt is begun, and its key is allowed to be sent again.
_ALLOWING = ("intent_recorded", "resend_allowed")

# A notebook begins; notebooks and pages were sealed on a machine; one was given up for lost.
_BEGUN, _KEPT, _LOST = "notebook_begun", "evidence_kept", "evidence_lost"

# The decision that a transfer which was made by hand is the payout's; how far two clocks may disagree about when that was.
_ADOPTED = "transfer_adopted"
_CLOCKS = timedelta(minutes=1)

# Judges a signature: (data, armored signature, principal, namespace, instant) to what is wrong, empty when it is good.
Judge = Callable[[bytes, str, str, str, str], str]


@dataclass(frozen=True)
class Finding:
    """
    One check: its stable name, the question for a person, what is wrong (nothing when it passed), what is right.

    Attributes:
        wrong: One short sentence or file name for each thing that is wrong.

        right: What was found where nothing is wrong.

        grave: Whether it spoils the folder; one that is only incomplete here can be whole elsewhere.
    """

    name: str
    question: str
    wrong: tuple[str, ...]
    right: str
    grave: bool = True

    @property
    def status(self) -> str:
        """``ok``, ``fail`` or ``incomplete``."""
        return ("fail" if self.grave else "incomplete") if self.wrong else "ok"

    def as_dict(self) -> dict[str, Any]:
        """Write the check for programs."""
        return {"name": self.name, "status": self.status, "wrong": list(self.wrong)}

    def line(self) -> str:
        """Write the check as one line, without control characters that a forged name may hold."""
        text = ", ".join(self.wrong) or self.right
        word = {"ok": "ok", "fail": "FAIL", "incomplete": "LACKS"}[self.status]
        return _printable(f"{word:<5} {self.name:<16} {self.question} {text}")


@dataclass(frozen=True)
class Notebook:
    """
    What an executed notebook says about itself, and what its cells prove.

    Attributes:
        digest: Of the template, put together again from the cells (type, source and tags of each, in order).

        status: ``completed``, ``failed``, ``unknown`` or ``not_run``; bad news is believed, good news needs the
            kernel's reply on record.

        result: What the stage glued; empty when it came to nothing.

        blemishes: What is wrong with its injected parameters, its own record of how cells ended, or its banner.
    """

    stage: str
    digest: str
    status: str
    parameters: Mapping[str, Any]
    result: Mapping[str, Any]
    blemishes: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """What the manifest says of it."""
        return {"template": self.digest, "status": self.status, "verdict": str(self.result.get("verdict", ""))}


def canonical(value: Any) -> bytes:
    """Write *value* as the bytes that digests are taken over: keys sorted, no white space, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of *value*, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


# --- Notebooks -------------------------------------------------------------------------------------------------------


def read_executed(path: Path) -> Notebook:
    """
    Read an executed notebook.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OSError: It is damaged.
    """
    match = _NOTEBOOK.fullmatch(path.name)
    book = json.loads(read_file(path))
    cells = [_cell(cell) for cell in book["cells"]]
    kept = [cell for cell in cells if not _is_banner(cell)]
    about = book["metadata"].get("papermill", {})
    parameters = about.get("parameters", {})
    statuses = [_status(cell) for cell in kept if cell["type"] == "code" and cell["source"].strip()]
    scraps = [output.get("data", {}).get(_SCRAP, {}) for cell in kept for output in cell["outputs"]]
    names = [str(scrap["name"]) for scrap in scraps if "name" in scrap]
    results = [scrap["data"] for scrap in scraps if scrap.get("name") == "result"]
    status = next((worst for worst in ("unknown", "failed", "not_run") if worst in statuses), "completed")
    only = results[0] if len(results) == 1 else {}
    return Notebook(
        stage=match["stage"] if match else path.stem,
        digest=template_digest(kept),
        status=status,
        parameters=dict(parameters),
        result=dict(results[-1]) if results else {},
        blemishes=(
            *_injected(kept, parameters), *_flattery(kept), *_prepared(about, kept), *_glued_twice(names),
            *_banner(cells, status, statuses, only),
        ),
    )  # fmt: skip


def notebook_facts(path: Path) -> dict[str, str]:
    """Return what a manifest says of an executed notebook; of a damaged one, that it is."""
    try:
        return read_executed(path).facts()
    except _DAMAGE:
        return {"template": "", "status": "unreadable", "verdict": ""}


def template_digest(cells: list[dict[str, Any]]) -> str:
    """Digest what was reviewed: type, source and tags of every cell that is not of the run itself."""
    told = [[cell["type"], cell["source"], sorted(cell["tags"])] for cell in cells if _INJECTED not in cell["tags"]]
    return hashlib.sha256(json.dumps(told, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    source = cell["source"]
    return {
        "type": cell["cell_type"],
        "source": source if isinstance(source, str) else "".join(source),
        "tags": list(cell["metadata"].get("tags", [])),
        "papermill": cell["metadata"].get("papermill", {}),
        "timing": cell["metadata"].get("execution"),
        "count": cell.get("execution_count"),
        "outputs": cell.get("outputs", []),
    }


def _status(cell: Mapping[str, Any]) -> str:
    said, errors = cell["papermill"].get("status"), _errors(cell)
    if said == "unknown" or "KeyboardInterrupt" in errors:
        return "unknown"
    if said == "failed" or errors:
        return "failed"
    if said == "completed" and "shell.execute_reply" in (cell["timing"] or {}):
        return "completed"
    sent = cell["timing"] is not None or cell["count"] is not None or said == "running"
    return "unknown" if sent else "not_run"


def _errors(cell: Mapping[str, Any]) -> list[Any]:
    return [output.get("ename") for output in cell["outputs"] if output.get("output_type") == "error"]


def _flattery(cells: list[dict[str, Any]]) -> list[str]:
    """Find cells that are called completed although they show an error."""
    flattered = (c for c in cells if c["type"] == "code" and _errors(c) and c["papermill"].get("status") == "completed")
    return [f"a cell is called completed and shows {_errors(cell)[0]}" for cell in flattered]


def _prepared(about: Mapping[str, Any], cells: list[dict[str, Any]]) -> list[str]:
    """Find a notebook that ``papermill --prepare-only`` wrote: it never ran, and shows what its template shows."""
    never_ran = bool(about) and not about.get("start_time")
    return ["papermill prepared it and never ran it"] if never_ran and any(cell["outputs"] for cell in cells) else []


def _glued_twice(names: Sequence[str]) -> list[str]:
    """Find results that are there more than once: of those, the last one would count for whoever reads them."""
    return [f"{name!r} is glued {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1]


def _banner(cells: list[dict[str, Any]], status: str, statuses: list[str], result: Mapping[str, Any]) -> list[str]:
    """Find a banner that is missing, stands elsewhere, or says something else than the cells and the result show."""
    banners = [at for at, cell in enumerate(cells) if _is_banner(cell)]
    if banners != [0]:
        return [
            "it does not begin with one banner that says how it ended"
            if not banners
            else "a banner stands where none belongs"
        ]
    ending = "unknown" if status == "unknown" else _ending(result)
    ending = ending or {"completed": "every cell ran", "failed": "an error"}.get(status, "not finished")
    first, *rest = cells[0]["source"].split("\n\n")
    if first != f"**How it ended: {ending}.**":
        return [f"its banner says {first!r}, its cells and result show {ending!r}"]
    # Behind the first line stands why it stopped, and nothing where it did not.
    bad = next((at for at, one in enumerate(statuses, 1) if one in ("failed", "unknown")), None)
    where = f"Stopped in cell {bad}" if bad else f"Stopped before cell {[*statuses, 'not_run'].index('not_run') + 1}"
    told = re.match(rf"{where}\b", rest[0]) if rest else None
    if bool(rest) != (status != "completed") or (rest and not told):
        return [f"its banner goes on with {' '.join(rest)!r}" if rest else f"its banner does not say {where!r}"]
    return []


def _is_banner(cell: Mapping[str, Any]) -> bool:
    return cell["type"] == "markdown" and bool(_BANNERS & set(cell["tags"]))


def _ending(result: Mapping[str, Any]) -> str:
    if "verdict" not in result:
        return ""
    kind = {"True": " (dry run)", "False": " (live)"}.get(str(result.get("dry_run")), "")
    return f"{result['verdict']}{kind}" + (
        f"; the money: {result.get('state')}" if result.get("ledger_payout_id") else ""
    )


def _injected(cells: list[dict[str, Any]], recorded: Mapping[str, Any]) -> list[str]:
    """Find injected code that is not plain assignments of the parameters on record, right below their defaults."""
    found = [at for at, cell in enumerate(cells) if _INJECTED in cell["tags"]]
    defaults = [at for at, cell in enumerate(cells) if "parameters" in cell["tags"]]
    if not found:
        return ["parameters are on record but not in a cell"] if recorded else []
    if len(found) != 1 or len(defaults) != 1 or found[0] != defaults[0] + 1 or cells[found[0]]["type"] != "code":
        return ["injected parameters stand where none belong"]
    values: dict[str, Any] = {}
    for statement in ast.parse(cells[found[0]]["source"]).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = ast.literal_eval(value)
            case _:
                return ["injected parameters hold something other than plain assignments"]
    # 1, 1.0 and True are equal in Python; in evidence they are not.
    if repr(sorted(values.items())) != repr(sorted(recorded.items())):
        return ["injected parameters are not those on record"]
    return []


# --- Checks ----------------------------------------------------------------------------------------------------------


class Folder:
    """
    A folder, read once.

    Args:
        path: Of the evidence folder.

        about_to_be: Manifest and signature as they would be written; without them, those that lie there.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OSError: There is no readable manifest.
    """

    def __init__(self, path: Path, about_to_be: tuple[bytes, str] | None = None) -> None:
        self.path = path
        self.about_to_be = about_to_be
        self.sealed = about_to_be[0] if about_to_be else read_file(path / MANIFEST)
        self.manifest = json.loads(self.sealed)
        self.claimed = hashlib.sha256(self.sealed).hexdigest()
        self.files = {_text(subject["name"]): subject["digest"].get("sha256") for subject in self.manifest["subject"]}
        self.predicate = dict(self.manifest["predicate"])
        self.facts = dict(self.predicate["facts"])
        own = {path / MANIFEST, path / SIGNATURE}
        self.present = {
            file.relative_to(path).as_posix(): _digest_of_file(file)
            for file in files_below(path)
            if file not in own and not _by_product(file, path)
        }

    def notebooks(self) -> dict[str, Notebook]:
        """Return every executed notebook by its file name, those left out that were sealed as unreadable."""
        sealed = self.facts.get("notebooks", {})
        names = (name for name in self.present if _NOTEBOOK.fullmatch(name))
        whole = (name for name in names if sealed.get(name, {}).get("status") != "unreadable")
        return {name: read_executed(self.path / name) for name in whole}

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events of these kinds, all when none is named, in the order of the journal."""
        events: list[dict[str, Any]] = self._json("journal.json")["events"]
        return [event for event in events if not kinds or event["kind"] in kinds]

    def stream(self) -> str:
        """Return the name of the journal."""
        return str(self._json("journal.json")["stream"])

    def objects(self, stem: str) -> list[tuple[str, Any]]:
        """Return the saved JSON files ``<stem>.json``, ``<stem>-02.json`` and so on, with their content."""
        pattern = re.compile(rf"{re.escape(stem)}(-\d{{2,}})?\.json")
        return [(name, self._json(name)) for name in self.present if pattern.fullmatch(name)]

    def _json(self, name: str) -> Any:
        return json.loads(read_file(self.path / name))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _by_product(file: Path, root: Path) -> bool:
    return ".ipynb_checkpoints" in file.relative_to(root).parts or file.name == ".DS_Store"


def files_below(root: Path) -> list[Path]:
    """
    Return everything below *root* that is no folder, sorted; no link is followed.

    Raises:
        OSError: A folder cannot be looked into.
    """
    found = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found += [Path(folder, name) for name in (*links, *names)]
    return sorted(found)


def _raise(error: OSError) -> None:
    # Of a folder that is not there, or no longer, nothing is below.
    if not isinstance(error, FileNotFoundError):
        raise error


def kind_of(file: Path) -> str:
    """
    Return what *file* is instead of a regular file, such as a named pipe; empty for a regular one.

    Raises:
        OSError: It is not there.
    """
    mode = file.lstat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((name for is_one, name in _KINDS if is_one(mode)), "something unknown")


def read_file(file: Path) -> bytes:
    """
    Read a file of the folder, never anything that would answer for it: a pipe, a device, or what a link points at.

    Raises:
        OSError: It is not there, cannot be read, or is no regular file.
    """
    with open(file, "rb", opener=_open_regular) as data:  # a Path has no opener
        return data.read()


def _open_regular(name: str, flags: int) -> int:
    # A pipe would wait for its writer, and a link lead out of the folder; by its own word after it was opened.
    descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", name)
    return descriptor


def _digest_of_file(file: Path) -> str:
    """Return the digest of a regular file, and of anything else a sentence, which is no digest that was sealed."""
    try:
        if kind := kind_of(file):
            return f"not a regular file: {kind}"
        with open(file, "rb", opener=_open_regular) as data:  # a Path has no opener
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def read_folder(path: Path) -> Folder | str:
    """Read the folder at *path*; where it has no readable manifest, return why."""
    try:
        return Folder(path)
    except _DAMAGE as error:
        if isinstance(error, FileNotFoundError):
            return "it is missing"
        return f"it is {_otherwise(path / MANIFEST) or f'damaged ({type(error).__name__})'}"


def _otherwise(file: Path) -> str:
    try:
        kind = kind_of(file)
    except OSError:
        return ""
    return f"{kind}, not a regular file" if kind else ""


def check_all(
    folder: Folder,
    registry: Registry,
    judge: Judge,
    reviewed: Mapping[str, str],
    *,
    mode: str = "",
    anchor: str = "",
    policy: Mapping[str, Any] | None = None,
    ended: Mapping[str, datetime] = {},  # read only
) -> list[Finding]:
    """
    Make every check: of the files, of the signatures, of what the files say; arguments as of the three.

    Args:
        policy: A reviewed policy file's content, with which the rules of money on record are compared; None to leave it out.

        ended: Keys that are valid no more, as `ended_keys` reads them.
    """
    found = check_files(folder) + check_signatures(folder, registry, judge)
    found += check_contents(folder, reviewed, mode, anchor)
    if policy is not None:
        asked, right = "Was it paid under the rules of the policy file?", "It was."
        found.append(_asked("policy", asked, lambda: _by_policy(folder, policy), right))
    return [*found, check_keys(folder, ended, anchor), check_complete(folder)]


def check_files(folder: Folder) -> list[Finding]:
    """Compare the files with the manifest: each as sealed, nothing missing, nothing added."""
    files, present = folder.files, folder.present
    # What has no digest is never as it was sealed, whatever a forged manifest says of it.
    whole = {name: digest for name, digest in present.items() if _DIGEST.fullmatch(digest)}
    changed = tuple(
        _told(name, present) for name in sorted(files) if name in present and whole.get(name) != files[name]
    )
    missing = tuple(sorted(set(files) - set(present)))
    extra = tuple(_told(name, present) for name in sorted(set(present) - set(files)))
    return [
        _asked("manifest", "Is the manifest whole?", lambda: _whole(folder), "It is an in-toto statement."),
        Finding("files_as_sealed", "Is every file as it was sealed?", changed, f"{len(files)} files unchanged."),
        Finding("nothing_missing", "Is nothing missing?", missing, "No file missing."),
        Finding("nothing_extra", "Is nothing added?", extra, "No file added."),
    ]


def _told(name: str, present: Mapping[str, str]) -> str:
    if not _DIGEST.fullmatch(present[name]):
        return f"{name} ({present[name]})"
    left = name.endswith(".part")
    return (
        f"{name} (left where a save was cut short: the next run or `manual-payout seal` removes it)" if left else name
    )


def check_contents(folder: Folder, reviewed: Mapping[str, str], mode: str, anchor: str) -> list[Finding]:
    """
    Compare what the files say with each other.

    Args:
        reviewed: The digest of each reviewed template by its name; empty where none are known.

        mode: Expected; empty for whatever the folder says it is.

        anchor: A digest that was kept elsewhere, or its beginning; empty where there is none.
    """
    found = [
        _asked("templates", "Is the code that ran the reviewed code?", lambda: _templates(folder, reviewed), "It is."),
        _asked("statuses", "Is every notebook called what it is?", lambda: _statuses(folder), "Each is."),
        _asked("journal", "Is the journal unbroken, up to its sealed head?", lambda: _journal(folder), "It is."),
        _asked("stages", "Does the journal tell what the notebooks tell?", lambda: _stages(folder), "It does."),
        _asked("money", "Do request, payload, journal and Stripe's answer agree?", lambda: _money(folder), "They do."),
        _asked("approvals", "Was each sending approved by two other people?", lambda: _approvals(folder), "Each was."),
        _asked("mode", "Is everything of one mode, the expected one?", lambda: _mode(folder, mode), "It is."),
    ]
    if anchor:
        found.append(
            _asked("anchor", "Is the digest kept elsewhere in here?", lambda: _anchored(folder, anchor), "Yes.")
        )
    return found


def check_complete(folder: Folder) -> Finding:
    """Find what the journal knows to have been executed for this payout, here or elsewhere, and is not in this folder."""
    question, right = "Is everything here that was executed?", "It is."
    try:
        if given_up := [event["data"] for event in folder.events(_LOST)]:
            right = f"All but what was lost: {'; '.join(_lost(data) for data in given_up)}."
        return Finding("complete", question, tuple(_missing(folder)), right, grave=False)
    except _DAMAGE as error:
        return Finding("complete", question, (f"cannot be read ({type(error).__name__})",), right)


def _lost(data: Mapping[str, Any]) -> str:
    return f"{data['name']} of {data['machine']}, because: {data['because']}"


def _missing(folder: Folder) -> list[str]:
    """Hold what is here against what was sealed anywhere, by digest, and what was begun anywhere, by name and number of times."""
    sealed: dict[str, dict[str, str]] = {}
    for event in folder.events(_KEPT):
        for name, digest in event["data"]["files"].items():
            sealed.setdefault(name, {}).setdefault(digest, event["data"]["machine"])
    begun: dict[str, list[str]] = {}
    for event in folder.events(_BEGUN):
        begun.setdefault(event["data"]["notebook"], []).append(event["data"]["machine"])
    given_up = {(event["data"]["name"], event["data"]["digest"]) for event in folder.events(_LOST)}
    wrong, here = [], set(folder.present.values())
    for name in sorted(sealed.keys() | begun.keys()):
        digests, machines = sealed.get(name, {}), begun.get(name, [])
        gone = [one for digest, one in digests.items() if digest not in here and (name, digest) not in given_up]
        never_sealed = len(machines) - len(digests)
        if name in folder.present and folder.present[name] not in digests:
            never_sealed -= 1
        for one in digests.values():
            if one in machines:
                machines.remove(one)
        if never_sealed > 0 and (name, "") not in given_up:
            gone += machines[:never_sealed]
        wrong += [f"{name} (on {machine})" for machine in gone]
    return wrong


def _asked(name: str, question: str, answer: Callable[[], list[str]], right: str) -> Finding:
    try:
        wrong = answer()
    except _DAMAGE as error:
        wrong = [f"cannot be read ({type(error).__name__})"]
    return Finding(name, question, tuple(wrong), right)


def _whole(folder: Folder) -> list[str]:
    """Take it in one form only, so that no second meaning hides in it, such as a key that is there twice."""
    statement = folder.manifest
    names = [subject["name"] for subject in statement["subject"]]
    whole = (
        (statement["_type"], statement["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
        and len(set(names)) == len(names)
        and not _has_float(statement)
        and json_bytes(statement) == folder.sealed
    )
    return [] if whole else [MANIFEST]


def json_bytes(value: Any) -> bytes:
    """Write *value* as a manifest is written: sorted, indented, ending in a line break."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)


# --- Signatures ------------------------------------------------------------------------------------------------------


class Registry:
    """
    Who may do what, as reviewed: people by their id, from the TOML file that names them.

    Raises:
        ValueError, KeyError, TypeError, OSError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        people = tomllib.loads(path.read_text("utf-8-sig"))["person"]
        self.people = {str(uuid.UUID(person["id"])): person | _in_force(person) for person in people}

    def email_of(self, person_id: str, right: str, at: str, team: str = "") -> str:
        """
        Return the email of a person who held *right* (for *team*, where given) at the instant *at*.

        Raises:
            ValueError: There is no such person, or they did not.
        """
        person = self.people.get(person_id)
        if person is None:
            raise ValueError(f"{person_id} is nobody in the registry")
        instant = _instant(at)
        begun, ended = (
            person["valid_from"] <= instant,
            instant >= person.get("valid_until", datetime.max.replace(tzinfo=UTC)),
        )
        if not begun or ended or right not in person["may"] or (team and team not in person["teams"]):
            raise ValueError(f"{person['email']} could not {right}{f' for {team}' if team else ''} then")
        return str(person["email"])


def _in_force(person: Mapping[str, Any]) -> dict[str, datetime]:
    """Read from when until when a person is in force; a date is its first instant, and what has no zone is in UTC."""
    written = {name: person[name] for name in ("valid_from", "valid_until") if name in person}
    read = {
        name: value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        for name, value in written.items()
    }
    return {name: at if at.tzinfo else at.replace(tzinfo=UTC) for name, at in read.items()}


def sandbox_lines(allowed_signers: Path) -> list[int]:
    """
    Return the numbers of the lines with a key of the sandbox, which vouches for nothing but sandbox evidence.

    Raises:
        ValueError, OSError: The file cannot be read.
    """
    lines = allowed_signers.read_text("utf-8-sig").splitlines()
    return [number for number, line in enumerate(lines, 1) if _SANDBOX_KEYS & set(line.split())]


def check_signatures(folder: Folder, registry: Registry, judge: Judge) -> list[Finding]:
    """
    Check who signed the newest seal, the seals before it, and the approvals of everything that was sent.

    Args:
        judge: Checks one signature by the keys that were reviewed: `by_ssh_keygen`, or the software's own.
    """
    sealer = folder.predicate.get("sealed_by")
    who = str(sealer.get("email", "")) if isinstance(sealer, dict) else ""
    return [
        _asked("seal", "Did somebody who may operate sign it?", lambda: _seal(folder, registry, judge), f"{who} did."),
        _asked(
            "seals", "Are the earlier seals those it builds on?", lambda: _seals(folder, registry, judge), "They are."
        ),
        _asked("signatures", "Did the approvers sign?", lambda: _signed(folder, registry, judge), "They did."),
        _asked("filing", "Did who filed or withdrew it sign?", lambda: _filed(folder, registry, judge), "They did."),
        _asked(
            "operator", "Did the operator sign a dry run first?", lambda: _proved(folder, registry, judge), "They did."
        ),
    ]


def check_keys(folder: Folder, ended: Mapping[str, datetime], anchor: str) -> Finding:
    """
    Say which keys that signed here have ended since: what they signed before stays good, if it was signed before.

    That a thief did not sign afterwards and date it back, only a digest shows that was told elsewhere before the end. A key
    that was revoked for misuse vouches for nothing, whenever it signed: `check_signatures` finds it.
    """
    question, told = "Is every key that signed still in force?", []
    try:
        at = _anchored_at(folder, anchor)
        for key in sorted(_keys_used(folder) & ended.keys()):
            before = f"{ended[key]:%Y-%m-%d %H:%M} UTC"
            proof = "the anchor is older" if at and at < ended[key] else "ask for an --anchor that was kept before then"
            told.append(f"one ended at {before}: what it signed earlier stays good; {proof}")
    except _DAMAGE as error:
        return Finding("keys", question, (f"cannot be read ({type(error).__name__})",), "")
    return Finding("keys", question, (), "; ".join(told) or "Each is.")


def ended_keys(allowed_signers: Path, at: datetime) -> dict[str, datetime]:
    """
    Return the keys whose line says that they were valid before some instant earlier than *at* only, with that instant.

    Raises:
        ValueError, OSError: The file cannot be read.
    """
    found: dict[str, datetime] = {}
    for line in allowed_signers.read_text("utf-8-sig").splitlines():
        before = re.search(r'valid-before="(\d{8})(\d{4})?(\d{2})?Z"', line)
        key = re.search(r" (?:ssh-|ecdsa-|sk-)\S+ (\S+)", line)
        if before and key and not line.startswith("#"):
            digits = before[1] + (before[2] or "0000") + (before[3] or "00")
            ends = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            found |= {key[1]: ends} if ends <= at else {}
    return found


def _keys_used(folder: Folder) -> set[str]:
    armored = [event["data"].get("signature") for event in folder.events()]
    armored += [
        read_file(folder.path / name).decode()
        for name in folder.present
        if name.startswith(f"{SEALS}/") and name.endswith(".sig")
    ]
    if (folder.path / SIGNATURE).exists():
        armored.append(read_file(folder.path / SIGNATURE).decode())
    blobs = (base64.b64decode("".join(one.splitlines()[1:-1])) for one in armored if one)
    return {base64.b64encode(_strings(blob[len(_SSHSIG) :], 1)[0][0]).decode() for blob in blobs}


def _anchored_at(folder: Folder, anchor: str) -> datetime | None:
    """Return when what the anchor names was written, or None."""
    if len(anchor) < _ANCHOR_LENGTH_MIN:
        return None
    events = [event["at"] for event in folder.events() if event["digest"].startswith(anchor.lower())]
    seals = [
        name
        for name in folder.present
        if _EARLIER_SEAL.fullmatch(name) and folder.present[name].startswith(anchor.lower())
    ]
    events += [json.loads(read_file(folder.path / name))["predicate"]["facts"]["sealed_at"] for name in seals]
    return min(map(_instant, events), default=None)


def by_ssh_keygen(allowed_signers: Path, revoked_keys: Path) -> Judge:
    """Judge signatures with stock OpenSSH, by the reviewed files."""

    def judge(data: bytes, armored: str, principal: str, namespace: str, at: str) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".sig") as signature:
            signature.write(armored)
            signature.flush()
            command = ["ssh-keygen", "-Y", "verify", "-f", str(allowed_signers), "-r", str(revoked_keys)]
            command += ["-I", principal, "-n", namespace, "-s", signature.name]
            command += ["-O", f"verify-time={_instant(at):%Y%m%d%H%M%SZ}"]
            try:
                # A list of words and no shell; the principal comes from the registry, not from the folder.
                ran = subprocess.run(command, input=data, capture_output=True, check=False)  # noqa: S603
            except FileNotFoundError:
                return "cannot be checked: ssh-keygen is not installed"
        told = (ran.stderr or ran.stdout).decode(errors="replace").strip().splitlines()
        return "" if ran.returncode == 0 else f"is not good: {told[0] if told else 'ssh-keygen says no more'}"

    return judge


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found.astimezone(UTC)


def _seal(folder: Folder, registry: Registry, judge: Judge) -> list[str]:
    if folder.about_to_be:
        return _sealed_by(*folder.about_to_be, MANIFEST, registry, judge)
    signature = folder.path / SIGNATURE
    if not os.path.lexists(signature):
        return [f"{SIGNATURE} is missing: nobody has signed this seal; have the operator run `manual-payout seal`"]
    if otherwise := _otherwise(signature):
        return [f"{SIGNATURE} is {otherwise}"]
    return _sealed_by(folder.sealed, read_file(signature).decode(), MANIFEST, registry, judge)


def _sealed_by(sealed: bytes, signature: str, name: str, registry: Registry, judge: Judge) -> list[str]:
    predicate = json.loads(sealed)["predicate"]
    by, at = predicate["sealed_by"]["person_id"], predicate["facts"]["sealed_at"]
    try:
        email = registry.email_of(by, "operate", at)
    except ValueError as error:
        return [f"{name}: {error}"]
    if wrong := judge(sealed, signature, email, SEAL_NAMESPACE, at):
        return [f"{name}: the signature of {email} {wrong}"]
    if _passkey(signature) is not None:
        return [f"{name}: a passkey seals no folder"]
    return []


def _seals(folder: Folder, registry: Registry, judge: Judge) -> list[str]:
    """Follow the chain back: each seal names the digest of the one before it. One that was cut short has no signature."""
    names = earlier_seals(folder.present)[::-1]
    expected, wrong = folder.predicate["previous"], []
    for number, name in zip(range(len(names), 0, -1), names, strict=True):
        if name != f"{SEALS}/{number:03}.json" or folder.present[name] != expected:
            return [f"{name} is not the seal that the next one builds on"]
        sealed = read_file(folder.path / name)
        expected = json.loads(sealed)["predicate"]["previous"]
        if f"{name}.sig" in folder.present:
            wrong += _sealed_by(sealed, read_file(folder.path / f"{name}.sig").decode(), name, registry, judge)
    return wrong + ([f"the first seal builds on {expected[:16]}, which is not here"] if expected else [])


def earlier_seals(names: Iterable[str]) -> list[str]:
    """Return those of *names* that are earlier seals, such as ``seals/012.json``, in the order of their numbers."""
    return sorted(filter(_EARLIER_SEAL.fullmatch, names), key=lambda name: int(Path(name).stem))


def _signed(folder: Folder, registry: Registry, judge: Judge) -> list[str]:
    wrong, sandbox = [], folder.facts["mode"] == "sandbox"
    for event, rules in _used_approvals(folder):
        statement = event["data"]["statement"]
        predicate = statement["predicate"]
        at = predicate["approved_at"]
        try:
            email = registry.email_of(predicate["approver_id"], "approve", at, predicate["team"])
        except ValueError as error:
            wrong.append(f"event {event['seq']}: {error}")
            continue
        armored = event["data"]["signature"]
        said = judge(canonical(statement), armored, email, APPROVAL_NAMESPACE, at)
        if said := said or _unlike_its_page(armored, rules, sandbox=sandbox):
            wrong.append(f"event {event['seq']}: the signature of {email} {said}")
    return wrong


def _filed(folder: Folder, registry: Registry, judge: Judge) -> list[str]:
    """Judge who filed each request, and who withdrew one; only in the sandbox may either be unsigned."""
    wrong, events, sandbox = [], folder.events(), folder.facts["mode"] == "sandbox"
    rules = {str(_request_digest(event)): _rules(event) for event in folder.events("intent_recorded")}
    for event, following in itertools.zip_longest(events, events[1:]):
        data, seq = event["data"], event["seq"]
        if event["kind"] == "request_filed":
            by, text, namespace, right = (
                data["statement"]["requested_by"],
                data["statement"],
                REQUEST_NAMESPACE,
                "request",
            )
        elif event["kind"] == "request_withdrawn" and "statement" in data:
            by, text, namespace = data["statement"]["withdrawn_by"], data["statement"], WITHDRAWAL_NAMESPACE
            right = "request" if "request" in registry.people.get(by, {"may": ()})["may"] else "approve"
            if data["request_id"] != text["request_id"]:
                wrong.append(f"event {seq}: the withdrawal is of another request")
        elif event["kind"] == "request_withdrawn":
            # It was replaced: the request that follows says so, and that one is signed.
            new = following["data"]["statement"] if following and following["kind"] == "request_filed" else {}
            if new.get("replaces") != data["request_id"]:
                wrong.append(f"event {seq}: nobody signed the withdrawal, and no request replaced it")
            continue
        else:
            continue
        armored = data.get("signature", "")
        if event["actor"] != by:
            wrong.append(f"event {seq} is by another person than it says")
        if armored or not sandbox:
            page = rules.get(str(data.get("digest"))) if right == "request" else None
            wrong += _own(
                seq, registry, judge, (by, right, event["at"]), (text, armored, namespace), page, sandbox=sandbox
            )
    return wrong


def _own(
    seq: int,
    registry: Registry,
    judge: Judge,
    who: tuple[str, str, str],
    signed: tuple[Any, str, str],
    rules: Mapping[str, Any] | None,
    *,
    sandbox: bool,
) -> list[str]:
    (by, right, at), (statement, armored, namespace) = who, signed
    if not armored:
        return [f"event {seq} is not signed"]
    try:
        email = registry.email_of(by, right, at)
    except ValueError as error:
        return [f"event {seq}: {error}"]
    said = judge(canonical(statement), armored, email, namespace, at)
    # At which pages passkeys might sign is on record where something was sent.
    said = said or (_unlike_its_page(armored, rules, sandbox=sandbox) if rules is not None else "")
    return [f"event {seq}: the signature of {email} {said}"] if said else []


def _request_digest(intent: Mapping[str, Any]) -> str:
    return str(json.loads(intent["data"]["payload"])["metadata"]["request_digest"])


def _proved(folder: Folder, registry: Registry, judge: Judge) -> list[str]:
    """Find a first attempt before which its operator had sealed no dry run of that request, under those rules."""
    wrong, filed = (
        [],
        {event["data"]["digest"]: event["data"]["request_id"] for event in folder.events("request_filed")},
    )
    begun: set[str] = set()
    made_by_hand = {event["seq"] - 1 for event in folder.events(_ADOPTED)}
    for intent in folder.events("intent_recorded"):
        digest = _request_digest(intent)
        first, seq = digest not in begun, intent["seq"]
        begun.add(digest)
        if not first or seq in made_by_hand:
            continue
        made = [
            event["data"] | {"at": event["at"], "seq": event["seq"]}
            for event in folder.events("dry_run_sealed")
            if event["seq"] < seq and (event["actor"], event["data"]["request_id"]) == (intent["actor"], filed[digest])
        ]
        if not made:
            wrong.append(f"event {seq} was begun by somebody who had sealed no dry run of it")
            continue
        last = made[-1]
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": MANIFEST, "digest": {"sha256": last["manifest_sha256"]}}],
            "predicateType": DRY_RUN_TYPE,
            "predicate": {
                "request_id": filed[digest], "request_digest": digest, "operator_id": intent["actor"],
                "rules_digest": last["rules_digest"],
            },
        }  # fmt: skip
        if last["signed_text"].encode() != canonical(statement):
            wrong.append(f"event {last['seq']} does not say what its operator signed")
        if last["rules_digest"] != _rules(intent).get("rules_digest"):
            wrong.append(f"event {seq} was begun under other rules than its dry run")
        who = (intent["actor"], "operate", last["at"])
        wrong += _own(
            last["seq"], registry, judge, who, (statement, last["signature"], SEAL_NAMESPACE), None, sandbox=False
        )
    return wrong


def _used_approvals(folder: Folder) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each approval that something was sent by, with the rules of that moment as they are on record."""
    given = {_said(event)["approval_id"]: event for event in folder.events("approved")}
    allowing = folder.events(*_ALLOWING)
    named = {number: _rules(event) for event in allowing for number in event["data"]["approval_ids"]}
    return ((given[number], named[number]) for number in sorted(named))


@dataclass(frozen=True)
class Passkey:
    """
    What a passkey's signature says of the page and the moment at which it was made; OpenSSH compares none of it.

    Attributes:
        application: The host that the key belongs to, which `ssh-keygen` has held against the authenticator's own word.

        client: What the browser wrote: ``type``, ``challenge``, ``origin``, and whether the page stood in a frame.
    """

    application: str
    kind: str
    flags: int
    origin: str
    client: Mapping[str, Any]


def _passkey(armored: str) -> Passkey | None:
    """
    Take apart the signature of a key that is on hardware or in a browser; None for any other.

    Raises:
        ValueError: It is cut short, or not written as it should be.
    """
    blob = base64.b64decode("".join(armored.splitlines()[1:-1]))
    (key, *_, signature), _ = _strings(blob[len(_SSHSIG) :], 5)
    (algorithm, *rest), _ = _strings(key, 4 if key[4:].startswith(_SK_ECDSA) else 1)
    (kind,), _ = _strings(signature, 1)
    if algorithm != _SK_ECDSA:
        return None
    application = rest[-1].decode("ascii")
    if application.startswith("ssh:") and kind == _SK_ECDSA:
        return None
    if kind != b"webauthn-" + _SK_ECDSA:
        return Passkey(application, kind.decode(), 0, "", {})
    (_, _), tail = _strings(signature, 2)
    (origin, client, _), _ = _strings(tail[5:], 3)
    pairs: list[tuple[str, Any]] = json.loads(client, object_pairs_hook=list)
    return Passkey(application, kind.decode(), tail[0], origin.decode("ascii"), _once(pairs))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _strings(blob: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Take length-prefixed strings from the beginning of SSH's binary form; returns them and the rest."""
    found = []
    for _ in range(count):
        end = 4 + int.from_bytes(blob[:4], "big")
        if not 4 <= end <= len(blob):
            raise ValueError("it ends too early")
        found.append(blob[4:end])
        blob = blob[end:]
    return found, blob


def _unlike_its_page(armored: str, rules: Mapping[str, Any], *, sandbox: bool) -> str:
    """Say what `ssh-keygen` does not ask of a passkey: which page, in no frame, and that its user was verified."""
    try:
        signed = _passkey(armored)
    except _DAMAGE as error:
        return f"cannot be taken apart ({type(error).__name__})"
    if signed is None:
        return ""
    origins, host = rules.get("origins", []), re.escape(signed.application)
    port = r"(:[1-9][0-9]{0,4})?"
    page = rf"http://localhost{port}" if sandbox and signed.application == "localhost" else rf"https://{host}{port}"
    local = sandbox and _ANY_LOCALHOST in origins and re.fullmatch(rf"http://localhost{port}", signed.origin)
    wrong = {
        "is of another kind than its key": signed.application.startswith("ssh:") or not signed.kind.startswith("web"),
        f"was made at {signed.origin!r}, for {signed.application!r}": not re.fullmatch(page, signed.origin),
        f"was made at {signed.origin!r}, which the policy did not name": not local and signed.origin not in origins,
        "names two pages": signed.client.get("origin") != signed.origin,
        "was not made to sign in a browser": signed.client.get("type") != "webauthn.get",
        "was made in a frame": signed.client.get("crossOrigin", False) is not False or "topOrigin" in signed.client,
        "was made without its user's verification": signed.flags & 0x05 != 0x05,
    }
    return next((f"is not good: it {what}" for what, found in wrong.items() if found), "")


# --- Contents --------------------------------------------------------------------------------------------------------


def _templates(folder: Folder, reviewed: Mapping[str, str]) -> list[str]:
    if not reviewed:
        return ["no reviewed templates are known: name them with --templates"]
    books, names = folder.notebooks(), [(name, _PAGE.fullmatch(name)) for name in folder.present]
    orphans = [
        name for name, page in names if page and page["stage"] in reviewed and _book_of(name) not in folder.present
    ]
    wrong = [
        f"{name} is not the reviewed {book.stage}"
        for name, book in books.items()
        if reviewed.get(book.stage) != book.digest
    ]
    wrong += [f"{name} is the page of no notebook here" for name in orphans]
    return wrong + [f"{name}: {blemish}" for name, book in books.items() for blemish in book.blemishes]


def _book_of(page: str) -> str:
    return f"{page.removesuffix('.html')}.ipynb"


def _statuses(folder: Folder) -> list[str]:
    told = folder.facts["notebooks"]
    books = {name: notebook_facts(folder.path / name) for name in folder.present if _NOTEBOOK.fullmatch(name)}
    wrong = [f"{name} is not told of" for name in sorted(set(books) ^ set(told))]
    for name in sorted(set(books) & set(told)):
        wrong += [
            f"{name}: {at} is {shown!r}, sealed as {told[name].get(at)!r}"
            for at, shown in books[name].items()
            if shown != told[name].get(at)
        ]
    readable = {name: book for name, book in folder.notebooks().items() if name in told}
    return wrong + [
        f"{name} holds a refusal and is called completed"
        for name, book in readable.items()
        if book.status == "completed" and book.result.get("findings", {}).get("refusal")
    ]


def _journal(folder: Folder) -> list[str]:
    previous, stream = "", folder.stream()
    for number, event in enumerate(folder.events(), 1):
        told = {name: event[name] for name in ("seq", "kind", "at", "actor", "data", "previous")}
        statement = told | {"version": 1, "stream": stream}
        if (event["seq"], event["previous"]) != (number, previous) or digest_of(statement) != event["digest"]:
            return [f"broken at event {number}"]
        previous = event["digest"]
    sealed = (folder.facts["journal_length"], folder.facts["journal_head"])
    if sealed != (len(folder.events()), previous):
        return [f"ends at event {len(folder.events())}, sealed at event {sealed[0]}"]
    expected = f"{folder.facts['incident_id']}/{_folder_name(str(folder.facts['ledger_payout_id']))}"
    return [] if stream == expected else [f"is of {stream}"]


def _folder_name(ledger_payout_id: str) -> str:
    """Derive the name by which journal and folder go: an id that may not be a file's name stands in it as far as it can be read."""
    plain = set(ledger_payout_id) <= _NAME_LETTERS and ledger_payout_id[0] not in "_-" and len(ledger_payout_id) <= 64
    if plain and ledger_payout_id not in _DEVICES:
        return ledger_payout_id
    letters = [letter if letter in _NAME_LETTERS - {*"_-"} else " " for letter in ledger_payout_id.lower()]
    digest = hashlib.sha256(ledger_payout_id.encode()).hexdigest()
    return f"id-{'-'.join(''.join(letters).split())[:40]}.{digest[:16]}"


def _stages(folder: Folder) -> list[str]:
    """Find results that no event tells of; each event vouches for one notebook, in order."""
    wrong, left = [], folder.events("stage_finished", "stage_refused")
    for name, book in folder.notebooks().items():
        if not book.result:
            continue
        at = next((at for at, event in enumerate(left) if _vouches(event, book)), None)
        if at is None:
            wrong.append(f"{name}: no event tells of {book.result['verdict']!r}")
        else:
            del left[at]
    return wrong


def _vouches(event: Mapping[str, Any], book: Notebook) -> bool:
    data, result = event["data"], book.result
    same = (data["stage"], data["dry_run"], event["actor"]) == (book.stage, result["dry_run"], result["operator"])
    if event["kind"] == "stage_finished":
        return same and bool(data["verdict"] == result["verdict"])
    refusal = result.get("findings", {}).get("refusal", {})
    return same and (data["error"], data["message"]) == (refusal.get("error"), refusal.get("message"))


def _money(folder: Folder) -> list[str]:
    requests = {}
    for event in folder.events("request_filed"):
        if digest_of(event["data"]["statement"]) != event["data"]["digest"]:
            return [f"request {event['data']['request_id']} does not have its digest"]
        requests[event["data"]["digest"]] = event["data"]["statement"]
    wrong, sent = [], {}
    for event in folder.events("intent_recorded"):
        payload = json.loads(event["data"]["payload"])
        sent[event["data"]["idempotency_key"]] = payload
        wrong += _as_requested(payload, requests)
    for stem in ("request", "reversal-request"):
        wrong += [
            f"{n} is no filed request" for n, c in folder.objects(stem) if requests.get(c["digest"]) != c["statement"]
        ]
    for stem in ("payload", "reversal-payload"):
        wrong += [
            f"{name} is not what was sent with its key"
            for name, content in folder.objects(stem)
            if sent.get(content["Idempotency-Key"], content["body"]) != content["body"]
        ]
    wrong += _acknowledged(folder, requests) + _adopted(folder, sent)
    return wrong + _answers(folder, list(sent.values())) + _results(folder)


def _acknowledged(folder: Folder, requests: Mapping[str, Any]) -> list[str]:
    """Find a transfer on record of which the request that it is for said, with both approvals, that it is another payment."""
    named = {(digest, one): True for digest, request in requests.items() for line in request["lines"]
             for one in line.get("acknowledged_transfers", ())}  # fmt: skip
    used = {
        json.loads(event["data"]["payload"])["metadata"]["request_digest"] for event in folder.events("intent_recorded")
    }
    made = {
        event["data"].get("stripe_transfer_id") for event in folder.events() if event["kind"].startswith("outcome_")
    }
    return [
        f"{one} is on record, and its request says that it is another payment"
        for digest, one in sorted(named)
        if digest in used and one in made
    ]


def _adopted(folder: Folder, sent: Mapping[str, Any]) -> list[str]:
    """Judge each decision that a transfer which was made by hand is the payout's: what was recorded, and who had approved by then."""
    wrong: list[str] = []
    for event in folder.events(_ADOPTED):
        data, seq = event["data"], event["seq"]
        near = {one["seq"]: one for one in folder.events()}
        intent, outcome = near[seq - 1], near[seq + 1]
        same = {one["actor"] for one in (intent, event, outcome)} == {event["actor"]}
        keyed = intent["kind"] == "intent_recorded" and intent["data"]["idempotency_key"] == data["idempotency_key"]
        ended = outcome["kind"] in ("outcome_paid", "outcome_partly_reversed", "outcome_reversed")
        if not (same and keyed and ended and outcome["data"]["stripe_transfer_id"] == data["stripe_transfer_id"]):
            wrong.append(f"event {seq} takes up a transfer without an intent before it and its outcome after it")
            continue
        if any(one["data"]["idempotency_key"] == data["idempotency_key"] for one in folder.events("sending")):
            wrong.append(f"event {seq} takes up a transfer under a key that was sent")
        digest = sent[data["idempotency_key"]]["metadata"]["request_digest"]
        made_at = _instant(data["made_at"])
        before = [
            one
            for one in map(_said, folder.events("approved"))
            if one["request_digest"] == digest
            and _instant(one["approved_at"]) <= made_at + _CLOCKS
            and made_at < _instant(one["expires_at"])
        ]
        if {one["team"] for one in before} != {"payments_ops", "finance"} or made_at > _instant(event["at"]) + _CLOCKS:
            wrong.append(f"the transfer of event {seq} was made when it was not approved by both teams")
    return wrong


def _as_requested(payload: Mapping[str, Any], requests: Mapping[str, Any]) -> list[str]:
    meant = payload["metadata"]
    if meant["request_digest"] not in requests:
        return ["an intent is for no filed request"]
    request = requests[meant["request_digest"]]
    line = next((line for line in request["lines"] if line["line_id"] == meant["line_id"]), None)
    if line is None:
        return ["an intent is for no line of its request"]
    pairs = {"amount": "amount_minor"} | (
        {} if request["kind"] == "reversal" else {"currency": "currency", "destination": "destination_account"}
    )
    wrong = [f"an intent's {name} is not the requested one" for name, of in pairs.items() if payload[name] != line[of]]
    same = meant.get("stripe_transfer_id") == line.get("stripe_transfer_id")
    return wrong + ([] if same else ["an intent is to reverse another transfer than the requested one"])


def _approvals(folder: Folder) -> list[str]:
    """Judge the approvals that each intent, and each leave to send its key again, names, as the journal tells of them."""
    given = {_said(event)["approval_id"]: event for event in folder.events("approved")}
    filed = {event["data"]["digest"]: event["data"] for event in folder.events("request_filed")}
    by_hand = {event["seq"] - 1 for event in folder.events(_ADOPTED)}
    begun = {
        event["data"]["idempotency_key"]: json.loads(event["data"]["payload"])["metadata"]["request_digest"]
        for event in folder.events("intent_recorded")
    }
    wrong: list[str] = []
    for event in folder.events(*_ALLOWING):
        digest = begun[event["data"]["idempotency_key"]]
        named = [given[number] for number in event["data"]["approval_ids"]]
        request = filed[digest]
        wrong += _stand(event, request["statement"], request.get("signature", ""), digest, named)
        wrong += _pinned(event, request["statement"], [] if event["seq"] in by_hand else named)
    return wrong + _left_unasked(folder)


def _left_unasked(folder: Folder) -> list[str]:
    """Find what was sent by a run that took it over and did not ask whether the approvals still stood."""
    wrong, asked = [], False
    for event in folder.events(*_ALLOWING, "sending_taken_over", "sending"):
        if event["kind"] == "sending" and not asked:
            wrong.append(f"event {event['seq']} sends what nobody was asked about since it was taken over")
        elif event["kind"] != "sending":
            asked = event["kind"] in _ALLOWING
    return wrong


def _said(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an approver signed, and which request it is about."""
    statement = event["data"]["statement"]
    predicate: dict[str, Any] = statement["predicate"]
    (subject,) = statement["subject"]
    return predicate | {"request_digest": subject["digest"]["sha256"], "mode": predicate["request"]["mode"]}


def asked_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an approval says of a request: its lines by count, total and digest, a single line whole besides."""
    lines = request["lines"]
    told = {
        "count": len(lines),
        "total_minor": sum(line["amount_minor"] for line in lines),
        "currency": lines[0]["currency"],
        "sha256": digest_of(lines),
        "acknowledged_transfers": sorted({one for line in lines for one in line.get("acknowledged_transfers", ())}),
    }
    return {**request, "lines": told | ({"line": lines[0]} if len(lines) == 1 else {})}


def _unlike(facts: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether an approver was shown anything else than what the request says; a balance and a date may be anything."""
    names = ["ledger_payout_id", "currency", "studio_id", "destination_account", "stripe_transfer_id"]
    # Of a reversal the amount that was shown is that of the transfer.
    names += ["amount_minor"] if request["kind"] == "transfer" else []
    pairs = zip(facts["compared"], request["lines"], strict=True)
    return any(shown[name] != line.get(name) for shown, line in pairs for name in names if name in shown)


def _stand(
    intent: Mapping[str, Any], request: Mapping[str, Any], signature: str, digest: str, named: list[dict[str, Any]]
) -> list[str]:
    statements = [_said(event) for event in named]
    people = {statement["approver_id"] for statement in statements}
    asked, kept = asked_of(request), [event["data"]["facts"] for event in named]
    wrong = {
        "is for another request": any((s["request_digest"], s["request"]) != (digest, asked) for s in statements),
        "names other facts than are kept": any(
            digest_of(facts) != s["facts_digest"] or facts["request_digest"] != digest
            for facts, s in zip(kept, statements, strict=True)
        ),
        "was of other facts than were paid": any(_unlike(facts, request) for facts in kept),
        "names another filing": any(s["request_signature"] != signature for s in statements),
        "is none": any(event["data"]["statement"]["predicateType"] != APPROVAL_TYPE for event in named),
        "is not signed": not all(event["data"]["signature"] for event in named),
        "is not by both teams": {statement["team"] for statement in statements} != {"payments_ops", "finance"},
        "is not by two people": len(people) != 2 or any(e["actor"] != _said(e)["approver_id"] for e in named),
        "is by its requester": request["requested_by"] in people,
        "is by its operator": intent["actor"] in people,
        "did not stand": any(not s["approved_at"] <= intent["at"] < s["expires_at"] for s in statements),
        "came after it": any(event["seq"] > intent["seq"] for event in named),
    }
    found = [f"the approval of event {intent['seq']} {what}" for what, found in wrong.items() if found]
    return found + _by_the_rules(intent, request, statements) + _by_passkey(intent, named)


def _by_passkey(intent: Mapping[str, Any], named: list[dict[str, Any]]) -> list[str]:
    """Hold the number of approvals that were made in a browser to the policy of that moment; without its word to none."""
    signatures = [event["data"]["signature"] for event in named]
    many = sum(_passkey(armored) is not None for armored in signatures if armored)
    at_most = _rules(intent).get("passkeys_max", 0)
    if _is_whole(at_most) and many <= at_most:
        return []
    return [f"{many} approvals of event {intent['seq']} are by passkey, and the policy allowed {at_most}"]


def _rules(event: Mapping[str, Any]) -> dict[str, Any]:
    rules = event["data"].get("rules")
    return rules if isinstance(rules, dict) else {}


def _is_whole(value: Any) -> bool:
    # True is a whole number to Python.
    return type(value) is int


def _by_the_rules(intent: Mapping[str, Any], request: Mapping[str, Any], statements: list[dict[str, Any]]) -> list[str]:
    """Judge request, approvals and amount by the policy of the moment at which something was allowed, as it is on record."""
    at, rules = _instant(intent["at"]), intent["data"].get("rules")
    names = ("request_lifetime_s", "approval_lifetime_s")
    if not isinstance(rules, dict) or not all(_is_whole(rules.get(name)) for name in names):
        return [f"event {intent['seq']} does not say what the policy was then"]
    lasts, stands = (timedelta(seconds=rules[name]) for name in names)
    limit, amount = rules.get("amount_minor_max"), sum(line["amount_minor"] for line in request["lines"])
    wrong = {
        "an approval had ended by the policy": any(at >= _instant(s["approved_at"]) + stands for s in statements),
        "its request had ended": at >= min(_instant(request["expires_at"]), _instant(request["filed_at"]) + lasts),
        "its amount was above the policy's ceiling": limit is not None and not (_is_whole(limit) and amount <= limit),
    }
    return [f"at event {intent['seq']} {what}" for what, found in wrong.items() if found]


def _pinned(event: Mapping[str, Any], request: Mapping[str, Any], named: list[dict[str, Any]]) -> list[str]:
    """Compare the rules of money that an event names with themselves, and with those that its approvals were given under."""
    rules, currency = _rules(event), request["lines"][0]["currency"]
    pinned = rules.get("pinned")
    if not isinstance(pinned, dict):
        return [f"event {event['seq']} does not tell the rules of money"]
    told = {name: rules.get(name) for name in ("request_lifetime_s", "approval_lifetime_s", "amount_minor_max")}
    limits = pinned["request"]["amount_minor_max"] if request["kind"] == "transfer" else {}
    same = told == {
        "request_lifetime_s": pinned["request"]["request_lifetime_s"],
        "approval_lifetime_s": pinned["request"]["approval_lifetime_s"],
        "amount_minor_max": limits.get(currency),
    }
    wrong = {
        "tells other rules than those it names": not same or digest_of(pinned) != rules.get("rules_digest"),
        "has approvals that were given under other rules": any(
            _said(one)["rules_digest"] != rules.get("rules_digest") for one in named
        ),
    }
    return [f"event {event['seq']} {what}" for what, found in wrong.items() if found]


def _by_policy(folder: Folder, policy: Mapping[str, Any]) -> list[str]:
    """Compare the rules on record with a policy file: what it names, and the built-in value of what it leaves out."""
    wrong: list[str] = []
    for event in folder.events(*_ALLOWING):
        pinned = _rules(event)["pinned"]
        named = {
            "mode": policy.get("stripe", {}).get("mode"),
            "platform_account": policy.get("stripe", {}).get("platform_account"),
        }
        pairs = [(name, pinned[name], value) for name, value in named.items() if value is not None]
        for table, unless_said in RULES_UNLESS_SAID.items():
            given = (SANDBOX_APPROVALS if table == "approvals" and pinned["mode"] == "sandbox" else {}) | policy.get(
                table, {}
            )
            for name, value in pinned[table].items():
                expected = given.get(name, unless_said.get(name))
                pairs.append((f"{table}.{name}", value, expected))
        wrong += [
            f"event {event['seq']}: {name} was {was!r}, the file says {says!r}"
            for name, was, says in pairs
            if was != says
        ]
    return wrong


def _answers(folder: Folder, sent: list[dict[str, Any]]) -> list[str]:
    """Compare each saved answer of Stripe with the journal's outcome and with a payload that was sent."""
    wrong: list[str] = []
    for stem, of in (("stripe-response", "stripe_transfer_id"), ("reversal-response", "stripe_reversal_id")):
        told = {
            event["data"][of]
            for event in folder.events()
            if event["kind"].startswith("outcome_") and of in event["data"]
        }
        answers = folder.objects(stem)
        wrong += [f"{name} is not the outcome on record" for name, answer in answers if answer["id"] not in told]
        for name, answer in answers:
            mine = [one for one in sent if _same_money(one, answer)]
            wrong += [] if mine else [f"{name} is not what was sent"]
            if "livemode" in answer and answer["livemode"] is not (folder.facts["mode"] == "live"):
                wrong.append(f"{name} is of another mode")
    return wrong


def _same_money(payload: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    names = [name for name in ("amount", "currency", "destination", "transfer_group") if name in payload]
    fields = [(payload[name], answer.get(name)) for name in names]
    marks = [(value, answer["metadata"].get(name)) for name, value in payload["metadata"].items() if name != "attempt"]
    if "stripe_transfer_id" in payload["metadata"]:
        # A reversal names its transfer itself.
        fields.append((payload["metadata"]["stripe_transfer_id"], answer.get("transfer")))
    # An amount of 1 and one of true are equal in Python.
    return all(type(one) is type(other) and one == other for one, other in fields + marks)


def _results(folder: Folder) -> list[str]:
    """Find notebooks that name a transfer which no outcome does, or that ran under another incident."""
    # A reversal's intent names the transfer that it takes back, whoever made it.
    told = {
        event["data"].get("stripe_transfer_id")
        for event in folder.events()
        if event["kind"].startswith("outcome_") or event["kind"] == "intent_recorded"
    }
    books = {name: book.result for name, book in folder.notebooks().items() if book.result}
    foreign = [
        f"{name} is of another {field}"
        for name, result in books.items()
        for field in ("incident_id", "ledger_payout_id")
        if result[field] != folder.facts[field]
    ]
    return foreign + [
        f"{name} names a transfer that is not on record"
        for name, result in books.items()
        if result["stripe_transfer_id"] not in told | {None}
    ]


def _mode(folder: Folder, expected: str) -> list[str]:
    mode = folder.facts["mode"]
    said = {name: book.result["mode"] for name, book in folder.notebooks().items() if book.result}
    said |= {
        f"request {e['data']['request_id'][:8]}": e["data"]["statement"]["mode"] for e in folder.events("request_filed")
    }
    said |= {f"approval {e['data']['digest'][:8]}": _said(e)["mode"] for e in folder.events("approved")}
    wrong = [f"{name} is {found}" for name, found in said.items() if found != mode]
    if mode not in MODES:
        wrong.append(f"the folder says {mode!r}")
    return wrong + ([f"this is {mode} evidence, expected {expected}"] if expected and expected != mode else [])


def _anchored(folder: Folder, anchor: str) -> list[str]:
    anchor = anchor.lower()
    if len(anchor) < _ANCHOR_LENGTH_MIN or not re.fullmatch("[0-9a-f]+", anchor):
        return [f"an anchor has at least {_ANCHOR_LENGTH_MIN} hexadecimal digits"]
    known = [folder.claimed, *(event["digest"] for event in folder.events())]
    if any(str(digest).startswith(anchor) for digest in known):
        return []
    for name in sorted(folder.present):
        if _EARLIER_SEAL.fullmatch(name) and folder.present[name].startswith(anchor):
            return _since(folder, name)
    return ["neither the manifest, nor an earlier one, nor an event has it"]


def _since(folder: Folder, name: str) -> list[str]:
    """Compare the folder with an earlier seal: what was in it still is, and its journal was only continued."""
    earlier = json.loads(read_file(folder.path / name))
    facts = earlier["predicate"]["facts"]
    then = {subject["name"]: subject["digest"]["sha256"] for subject in earlier["subject"]}
    wrong = [
        f"{file} is not what {name} sealed"
        for file in sorted(then.keys() - _MADE_ANEW)
        if folder.present.get(file) != then[file]
    ]
    heads = ["", *(event["digest"] for event in folder.events())]
    length = facts["journal_length"]
    if not (isinstance(length, int) and 0 <= length < len(heads) and heads[length] == facts["journal_head"]):
        wrong.append(f"the journal does not continue the one of {name}")
    return wrong


# --- Answer ----------------------------------------------------------------------------------------------------------


def verdict_line(folder: Folder, findings: list[Finding]) -> str:
    """Say in one sentence what the folder is worth; sandbox and test evidence is never taken for live."""
    failing = [finding.name for finding in findings if finding.wrong and finding.grave]
    lacks = [what for finding in findings if not finding.grave for what in finding.wrong]
    said = (
        f"NOT as it was sealed: {', '.join(failing)}."
        if failing
        else f"All {len(findings) - bool(lacks)} checks passed."
    )
    if lacks and not failing:
        said = _printable(f"INCOMPLETE HERE: {', '.join(lacks)}. {said.replace('All', 'All other')}")
    mode = str(folder.facts.get("mode"))
    world = "" if mode == "live" else f"{_printable(mode).upper()} EVIDENCE, NO REAL MONEY. "
    return f"{world}{_by_hand(folder)}{said} SHA-256 of {MANIFEST}: {folder.claimed}."


def _by_hand(folder: Folder) -> str:
    """Say before everything else that a transfer was made by hand, so that nobody takes it for one that a run has sent."""
    try:
        made = [str(event["data"]["stripe_transfer_id"]) for event in folder.events(_ADOPTED)]
    except _DAMAGE:
        made = []
    return _printable(f"MADE BY HAND AND TAKEN UP: {', '.join(made)}. ") if made else ""


def templates_in(path: Path) -> dict[str, str]:
    """Digest the reviewed templates in the folder *path*, by name."""
    books = {file.stem: json.loads(file.read_bytes()) for file in sorted(path.glob("*.ipynb"))}
    return {name: template_digest([_cell(cell) for cell in book["cells"]]) for name, book in books.items()}


def main() -> int:
    """Run as a program; returns 0, 5 where a check failed or there is no readable folder, 6 where it is only incomplete here."""
    parser = argparse.ArgumentParser(description="Re-check an evidence folder, offline.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--templates", type=Path, required=True, help="the folder of the reviewed notebooks")
    parser.add_argument(
        "--registry", type=Path, required=True, help="the reviewed people; allowed_signers, revoked_keys beside it"
    )
    parser.add_argument("--anchor", default="", help="a digest kept elsewhere: of the manifest or of an event")
    parser.add_argument("--policy", type=Path, help="a reviewed policy file, to compare the rules of money with")
    parser.add_argument("--mode", choices=MODES, default="", help="refuse evidence of another mode")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    given = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may have letters that the terminal has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    folder = read_folder(given.folder)
    if isinstance(folder, str):
        sys.stderr.write(f"{given.folder} has no readable {MANIFEST}: {folder}.\n")
        return 5
    try:
        reviewed = templates_in(given.templates)
    except _DAMAGE as error:
        parser.error(f"--templates {given.templates} cannot be read ({type(error).__name__})")
    if not reviewed:
        parser.error(f"--templates {given.templates} holds no notebooks")
    try:
        registry = Registry(given.registry)
    except _DAMAGE as error:
        parser.error(f"--registry {given.registry} cannot be read ({type(error).__name__})")
    signers, revoked = (given.registry.with_name(name) for name in ("allowed_signers", "revoked_keys"))
    try:
        sandbox = sandbox_lines(signers)
    except _DAMAGE as error:
        parser.error(f"{signers} cannot be read ({type(error).__name__})")
    if sandbox and folder.facts.get("mode") in ("test", "live"):
        parser.error(
            f"line {sandbox[0]} of {signers} is a key of the sandbox, which anybody can make; take the reviewed file"
        )
    judge = by_ssh_keygen(signers, revoked)
    try:
        policy = tomllib.loads(given.policy.read_text("utf-8-sig")) if given.policy else None
    except _DAMAGE as error:
        parser.error(f"--policy {given.policy} cannot be read ({type(error).__name__})")
    ended = ended_keys(signers, datetime.now(UTC))
    findings = check_all(
        folder, registry, judge, reviewed, mode=given.mode, anchor=given.anchor, policy=policy, ended=ended
    )
    lines = [finding.line() for finding in findings] + [verdict_line(folder, findings)]
    if given.json:
        lines = [json.dumps([finding.as_dict() for finding in findings])]
    sys.stdout.write("\n".join(lines) + "\n")
    statuses = {finding.status for finding in findings}
    return 5 if "fail" in statuses else 6 if "incomplete" in statuses else 0


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


if __name__ == "__main__":
    sys.exit(main())
