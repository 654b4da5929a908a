"""
``python -m tests.tamper --mutations 2000``: change one thing in a sealed folder, and see whether the right check says so.

A mutation is made as it is, or *covered up*: the manifest is then written anew over the changed folder and signed, with a
key that nobody knows, that of somebody who may not operate, or, one time in three, the operator's own. Of the first two
the seal must be found wrong whatever was changed; the last must still be found by the checks of content, or, where a
file means nothing to them, by the anchor alone.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from manual_payout.desk.people import load_registry
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signatures import SEAL, SigningKey, key_from_seed
from manual_payout.desk.signing import judge_of, sandbox_key
from manual_payout.domain.canonical import digest_bytes, digest_of
from manual_payout.evidence import manifest
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.evidence.manifest import Sealer
from manual_payout.evidence.verifier import (
    Registry,
    check_all,
    read_folder,
    templates_in,
)
from payout_rehearsal import rehearse_incident
from truthful_papermill.redaction import Redactor

PEOPLE = load_registry(SANDBOX_APPROVERS)
OWN = (manifest.NAME, manifest.SIGNATURE)
REVIEWED = templates_in(Path(__file__).parents[1] / "runbooks")


def verify(folder: Path, anchor: str = "") -> list[str]:
    """The names of the checks that fail; a manifest that cannot be read counts as the manifest's."""
    found = read_folder(folder)
    if isinstance(found, str):
        return ["manifest"]
    people, judge = Registry(SANDBOX_APPROVERS), judge_of(PEOPLE.signers)
    return [f.name for f in check_all(found, people, judge, REVIEWED, anchor=anchor) if f.wrong]


def sealer(handle: str, key: SigningKey | None = None) -> Sealer:
    """Somebody of the demo who seals, with a key of theirs or with *key*."""
    person, key = PEOPLE.find(handle), key or sandbox_key(handle)
    return Sealer(person.person_id, person.email, key.fingerprint, lambda data: key.sign(SEAL, data))


def stranger() -> Sealer:
    """The operator's name with a key that nobody knows."""
    return sealer("tomas", key_from_seed(b"a key that stands nowhere.......", "a stranger"))


def approver() -> Sealer:
    """Somebody with a good key, who may not operate."""
    return sealer("priya")


def operator() -> Sealer:
    """The operator, who alone can sign what they have changed."""
    return sealer("tomas")


def cover_up(folder: Path, signer: Sealer | None = None) -> None:
    """Write the manifest anew, with the head of whatever journal is there now, signed by the operator unless told."""
    facts = json.loads((folder / manifest.NAME).read_text())["predicate"]["facts"]
    events = json.loads((folder / "journal.json").read_bytes())["events"]
    facts |= {"journal_head": events[-1]["digest"], "journal_length": len(events)}
    shutil.rmtree(folder / "seals", ignore_errors=True)
    for name in (manifest.NAME, manifest.SIGNATURE):
        (folder / name).unlink()
    manifest.seal(Folder(folder, Redactor()), facts, signer or operator())


def _pick(folder: Path, rng: random.Random, pattern: str = "*") -> Path:
    return rng.choice([path for path in sorted(folder.glob(pattern)) if path.is_file() and path.name not in OWN])


def _edit(path: Path, change) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def flip(folder, rng):
    """Change one byte of any file."""
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def truncate(folder, rng):
    """Cut the end of any file off."""
    path = _pick(folder, rng)
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def delete(folder, rng):
    """Remove any file."""
    _pick(folder, rng).unlink()


def add(folder, rng):
    """Put a file in."""
    (folder / f"note-{rng.randrange(10**6)}.txt").write_text("added")


def swap(folder, rng):
    """Exchange the content of two files."""
    one, other = rng.sample([path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in OWN], 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def edit_manifest(folder, rng):
    """Change one value of the manifest and nothing else."""
    path = folder / manifest.NAME
    content = json.loads(path.read_bytes())
    facts = content["predicate"]["facts"]
    facts[rng.choice(sorted(facts.keys() - {"sealed_at"}))] = "changed"
    path.write_text(json_text(content))


def unsign(folder, rng):
    """Take the signature away."""
    (folder / manifest.SIGNATURE).unlink()


def edit_signature(folder, rng):
    """Put the signature of an earlier seal, or of nothing, in its place."""
    others = [*sorted((folder / "seals").glob("*.sig"))]
    (folder / manifest.SIGNATURE).write_text(rng.choice([path.read_text() for path in others] + ["", "signed, me"]))


def forget_a_seal(folder, rng):
    """Take an earlier seal away, and seal anew as the operator would."""
    rng.choice(sorted((folder / "seals").glob("*.json"))).unlink()


def edit_output(folder, rng):
    """Change what a stage says it came to."""

    def change(book):
        data = [o["data"] for c in book["cells"] for o in c.get("outputs", []) if "data" in o]
        scrap = next(d[m] for d in data for m in d if m.startswith("application/scrapbook"))
        scrap["data"]["verdict"] = f"Fine {rng.random()}"

    _edit(_pick(folder, rng, "*-??.ipynb"), change)


def edit_code(folder, rng):
    """Change the code of a cell of an executed notebook."""

    def change(book):
        cell = rng.choice([c for c in book["cells"] if c["cell_type"] == "code"])
        cell["source"] = [*cell["source"], f"\nx = {rng.random()}; x"]

    _edit(_pick(folder, rng, "*-??.ipynb"), change)


def edit_amount(folder, rng):
    """Change the amount in the request, the payload or Stripe's answer."""
    path = folder / rng.choice(["request.json", "payload.json", "stripe-response.json"])
    more = 125075 + rng.randrange(1, 10**6)
    path.write_text(path.read_text().replace("125075", str(more)))


def edit_event(folder, rng):
    """Change one event of the journal."""
    _edit(
        folder / "journal.json", lambda j: rng.choice(j["events"]).update(at=f"2026-03-02T0{rng.randrange(10)}:00:01Z")
    )


def reorder(folder, rng):
    """Exchange two events of the journal."""

    def change(journal):
        one, other = rng.sample(range(len(journal["events"])), 2)
        events = journal["events"]
        events[one], events[other] = events[other], events[one]

    _edit(folder / "journal.json", change)


def cut_tail(folder, rng):
    """Cut the journal's end off."""
    _edit(folder / "journal.json", lambda j: j["events"].__delitem__(slice(rng.randrange(1, len(j["events"])), None)))


def rechain(folder, rng):
    """Take an approval's place in the journal for somebody else, and compute every digest after it anew."""

    def change(journal):
        previous = ""
        chosen = rng.choice([e for e in journal["events"] if e["kind"] == "approved"])
        chosen["data"]["statement"]["predicate"]["approver_id"] = chosen["actor"] = (
            "3a917d54-0c1b-4f7e-8d26-9b40c2e6a802"
        )
        for event in journal["events"]:
            event["previous"] = previous
            told = {name: value for name, value in event.items() if name != "digest"}
            previous = event["digest"] = digest_of(told | {"version": 1, "stream": journal["stream"]})

    _edit(folder / "journal.json", change)


CHANGED = {"files_as_sealed"}
# Which check must be among those that fail, for each kind of change as it is.
PLAIN = {
    flip: CHANGED, truncate: CHANGED, delete: {"nothing_missing"}, add: {"nothing_extra"}, swap: CHANGED,
    edit_manifest: {"seal"}, unsign: {"seal"}, edit_signature: {"seal"}, forget_a_seal: {"seals", "nothing_missing"}, edit_output: CHANGED, edit_code: CHANGED, edit_amount: CHANGED, edit_event: CHANGED,
    reorder: CHANGED, cut_tail: CHANGED, rechain: CHANGED,
}  # fmt: skip
# And where the manifest was written anew over it; the anchor, kept elsewhere, must fail as well.
COVERED = {
    flip: {"anchor"}, truncate: {"anchor"}, delete: {"anchor"}, add: {"anchor"}, swap: {"anchor"},
    edit_output: {"anchor", "stages"}, edit_code: {"anchor", "templates"}, edit_amount: {"anchor", "money"},
    edit_event: {"anchor", "journal"}, reorder: {"anchor", "journal"}, cut_tail: {"anchor"},
    rechain: {"anchor", "approvals"},
}  # fmt: skip


def mutate(original: Path, scratch: Path, seed: int) -> tuple[str, set[str], list[str]]:
    """Make mutation *seed* in a copy; returns its name, the checks that must fail, and those that do."""
    rng = random.Random(seed)
    covered = seed % 2 == 1
    table = COVERED if covered else PLAIN
    kind = list(table)[seed // 2 % len(table)]
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(original, scratch)
    anchor = digest_bytes((original / manifest.NAME).read_bytes()) if covered else ""
    kind(scratch, rng)
    forger = rng.choice([stranger, approver, operator])
    if covered:
        try:
            cover_up(scratch, forger())
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            # What was hit cannot be covered up: the plain checks apply to it.
            return f"{kind.__name__}, not coverable", set(), verify(scratch, anchor)
        expected = table[kind] if forger is operator else table[kind] | {"seal"}
        return f"{kind.__name__}, sealed by {forger.__name__}", expected, verify(scratch, anchor)
    return kind.__name__, table[kind], verify(scratch, anchor)


def campaign(original: Path, mutations: int, *, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Make the mutations; returns how many of each kind were detected, and a line for each that was not."""
    tally, missed = Counter(), []
    with tempfile.TemporaryDirectory() as root:
        for seed in range(first, first + mutations):
            name, expected, failing = mutate(original, Path(root) / "copy", seed)
            if failing and expected <= set(failing):
                tally[name] += 1
            else:
                missed.append(f"seed {seed}: {name}: expected {sorted(expected)}, failing {failing}")
    return tally, missed


def main() -> int:
    """Return 1 where a mutation was missed or an untouched folder was not accepted."""
    parser = argparse.ArgumentParser(prog="python -m tests.tamper", description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = rehearse_incident(Path(root), say=lambda _: None, progress=lambda *_: None).folder
        began = time.process_time()
        false_alarms = verify(folder)
        cpu_s = time.process_time() - began
        tally, missed = campaign(folder, options.mutations)
    told = [f"| {name} | {count} |" for name, count in sorted(tally.items())]
    summary = (
        f"detected {tally.total()} of {options.mutations}; untouched: {false_alarms}; one folder {cpu_s:.2f} s CPU"
    )
    sys.stdout.write("\n".join([*told, *missed, summary]) + "\n")
    return 1 if missed or false_alarms else 0


if __name__ == "__main__":
    sys.exit(main())
