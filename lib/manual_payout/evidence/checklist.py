"""
What has to be done before an incident is closed, held against what is on record. Pure.

Source: step 7 of the procedure (restore automation, root cause, follow-ups, key rotation) and its *Security Controls* (keys
rotated after each real incident, access reviewed quarterly).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from manual_payout.database.store import SEALED
from manual_payout.domain.account import CLOSED_AS, Account, Standing
from manual_payout.domain.errors import shorten
from manual_payout.domain.models import Message, MessageState, Mode, PayoutRecord, State
from manual_payout.gateway import KeyIdentity
from manual_payout.ledger import PayoutDue

# A word; and letters of the scripts that put no space between words: Thai to Khmer, and kana and Han.
_WORDS = re.compile(r"[^\W\d_]{2,}")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_UNSPACED_MIN = 5

# What people write where they have nothing to say yet; text of these words alone says nothing.
_FILLERS = frozenset(
    "available be cause determined do done is known later none not nothing pending root see tba tbc tbd the ticket to todo "
    "unclear unknown yet".split()
)

# What still has to go out; for a text that a person copies see `_told`.
_MISSING = frozenset({MessageState.ANNOUNCED, MessageState.WAITING, MessageState.SENDING, MessageState.REFUSED})


_BETWEEN_SEMICOLONS = re.compile(r'(?:"[^"]*"|[^;])+')
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Item:
    """
    One item of the list.

    Attributes:
        found: What is on record.

        remedy: What to do about it while it is open.
    """

    name: str
    done: bool
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Something to be done later, by whom and until when."""

    what: str
    owner: str
    due: date


@dataclass(frozen=True, slots=True)
class ItemStanding:
    """
    What the list is held against.

    Attributes:
        account: What became of the money.

        waiting: What is requested and not begun, in sentences.

        due: The ledger's payout as it is now, or None where the ledger does not know it.

        key_used: The digest prefix of the key with which the payout was verified; empty where it is not on record.

        key_at_hand: The key of this run.

        access_review_every_days: The longest time between two access reviews.

        typed: The parameters of the close as they were given; a missing one counts as not answered.

        incomplete: What was executed elsewhere and is not in the folder, in a sentence; empty where it is whole, or given up.
    """

    account: Account
    waiting: Sequence[str]
    record: PayoutRecord | None
    messages: Sequence[Message]
    due: PayoutDue | None
    mode: Mode
    key_used: str
    key_at_hand: KeyIdentity
    today: date
    access_review_every_days: int
    typed: Mapping[str, object]
    incomplete: str = ""


def checklist_of(standing: ItemStanding) -> list[Item]:
    """Return every item in the order in which it is done."""
    return [
        _known(standing.account, standing.waiting),
        _arrived(standing),
        _logged(standing.account, standing.record),
        _told(standing.messages, standing.mode),
        _left_to_us(standing.account, standing.record, standing.due),
        _restored(standing.typed),
        _root_cause(standing.typed),
        _planned(standing.typed, standing.today),
        _rotated(standing),
        _reviewed(standing),
        _whole(standing.incomplete),
    ]


def read_follow_ups(text: str, today: date) -> tuple[FollowUp, ...]:
    """
    Read follow-ups as they are typed: ``what, owner, YYYY-MM-DD``, a semicolon between two; one in double quotes is text.

    Raises:
        ValueError: In words that name the one that is incomplete, or due before *today*.
    """
    parts = (part.strip() for part in _BETWEEN_SEMICOLONS.findall(text))
    return tuple(_follow_up(part, today) for part in parts if part)


def _follow_up(text: str, today: date) -> FollowUp:
    parts = [part.strip() for part in text.rsplit(",", 2)]
    try:
        # fromisoformat alone would take other forms, such as 20260316, of which nobody says which day is meant.
        due = date.fromisoformat(parts[-1]) if _DATE.fullmatch(parts[-1]) else None
    except ValueError:
        due = None
    if len(parts) < 3 or not all(parts) or due is None:
        raise ValueError(f"{text!r} is not in the form: what, owner, due date as YYYY-MM-DD")
    if due < today:
        raise ValueError(f"{text!r} is due before today, {today}")
    what, owner, _ = parts
    return FollowUp(what[1:-1] if what[0] == what[-1] == '"' else what, owner, due)


def _whole(incomplete: str) -> Item:
    remedy = (
        "Bring it in with `manual-payout evidence add FOLDER`; or give up what never comes back with `manual-payout seal "
        "INCIDENT --lost FILE --because TEXT`."
    )
    return Item("the evidence is whole", done=not incomplete, found=incomplete or "yes", remedy=remedy)


def _known(account: Account, waiting: Sequence[str]) -> Item:
    found = account.sentence if account.open else " ".join(waiting) or "yes"
    remedy = account.remedy if account.open else "Run what is requested, or close once it has expired."
    return Item("every outcome is known", done=found == "yes", found=found, remedy=remedy)


def _arrived(standing: ItemStanding) -> Item:
    account, name = standing.account, "the money has arrived"
    if account.standing is Standing.ASTRAY:
        told, owner = is_studio_told(standing), owner_of(standing)
        found = f"{CLOSED_AS[account.label]}; the studio is {'told' if told else 'not told yet'}, {owner or 'nobody'} looks after it"
        remedy = (
            "Send the studio its message (`manual-payout deliver`), and give follow_ups: the owner of the first looks after "
            "it, and the incident is closed as returned."
        )
        return Item(name, done=told and bool(owner), found=found, remedy=remedy)
    done = account.standing in (Standing.ARRIVED, Standing.RETURNED, Standing.TAKEN_BACK)
    rung = standing.record.settlement_rung if standing.record else None
    found = account.label if done else (rung or "not watched yet").replace("_", " ")
    return Item(name, done=done, found=found, remedy="Run 5-settle until it says so.")


def is_studio_told(standing: ItemStanding) -> bool:
    """Whether the studio has heard that its money came back, or in a rehearsal could."""
    gone = {MessageState.DELIVERED, MessageState.COPIED} | (
        {MessageState.TO_COPY} if standing.mode is not Mode.LIVE else set()
    )
    told = [message for message in standing.messages if message.kind in ("studio_failed", "studio_came_back")]
    return bool(told) and told[-1].state in gone


def owner_of(standing: ItemStanding) -> str:
    """Name who looks after money that came back: the owner of the first follow-up; empty where none is given."""
    try:
        planned = read_follow_ups(str(standing.typed.get("follow_ups") or ""), standing.today)
    except ValueError:
        return ""
    return planned[0].owner if planned else ""


def _logged(account: Account, record: PayoutRecord | None) -> Item:
    if record is None and account.moved:
        return Item("the row is logged", done=True, found="no payout of ours", remedy="")
    at = record.logged_at if record else None
    found = f"{at:%Y-%m-%d %H:%M} UTC" if at else "no"
    return Item("the row is logged", done=at is not None, found=found, remedy="Run 3-log.")


def _told(messages: Sequence[Message], mode: Mode) -> Item:
    # The digest of an earlier seal tells nobody of the payout; the next seal tells the next one.
    messages = [message for message in messages if message.kind not in SEALED]
    states = Counter(message.state for message in messages)
    copy, missing = states[MessageState.TO_COPY], [m for m in messages if m.state in _MISSING]
    gone = len(messages) - copy - len(missing)
    counts = ((gone, "sent"), (copy, "ready to copy"), (len(missing), "not sent"))
    found = ", ".join(f"{count} {what}" for count, what in counts if count) or "no message is prepared"
    if missing:
        found += f" ({', '.join(f'{m.kind}: {m.state}'.replace('_', ' ') for m in missing)})"
    remedy = "Run 4-notify and send the messages."
    # What a person sends, they say so; a rehearsal's reader is whoever sits there.
    by_hand = copy if mode is Mode.LIVE else 0
    if by_hand:
        remedy = (
            "Send what is ready to copy, and say so with `manual-payout deliver --copied MESSAGE` (docs/messages.md)."
        )
    if missing:
        remedy = "Run `manual-payout deliver`; what a provider refuses is sent by hand (docs/messages.md)."
    done = len(messages) >= 2 and not missing and not by_hand
    return Item("stakeholders are told", done=done, found=found, remedy=remedy)


def _left_to_us(account: Account, record: PayoutRecord | None, due: PayoutDue | None) -> Item:
    """Whether the automation's next run has a reason to leave this payout alone, by the ledger's own word."""
    name = "the ledger leaves it to the fallback"
    if due is None:
        return Item(name, done=False, found="the ledger does not know this payout", remedy="Check LEDGER_DATABASE_URL.")
    found = f"{due.status}, claimed by {due.claimed_by or 'nobody'}"
    if account.standing is Standing.TAKEN_BACK or (record is not None and record.state is State.REVERSED):
        return Item(name, done=True, found=f"{found}; the money came back", remedy="")
    ours = record is not None and due.claimed_by == record.payout_id and due.standing in {"claimed", "paid"}
    if record is not None and not ours:
        found += f"; our claim is {record.payout_id}"
    remedy = (
        "See in Stripe whether the automation paid too, before anything else; then have the ledger's owner correct the claim "
        "(docs/ledger.md)."
    )
    return Item(name, done=ours, found=found, remedy=remedy)


def _restored(typed: Mapping[str, object]) -> Item:
    done = typed.get("automation_restored") is True
    return Item(
        "automation is restored", done=done, found="confirmed by the operator" if done else "not confirmed",
        remedy="Restore it, see its next run skip this payout, then give --automation-restored (automation_restored).",
    )  # fmt: skip


def _root_cause(typed: Mapping[str, object]) -> Item:
    text = str(typed.get("root_cause") or "")
    done = _says_why(text)
    found = text if done or not text.strip() else f"{shorten(text)} says neither what failed nor why"
    return Item(
        "root cause is written", done=done, found=found or "none",
        remedy="Say in a sentence what failed and why, with --root-cause (root_cause).",
    )  # fmt: skip


def _says_why(text: str) -> bool:
    """Whether it is more than a mark that somebody left: two different words at least, not all of them fillers."""
    words = {word.casefold() for word in _WORDS.findall(text)}
    return (len(words) > 1 and not words <= _FILLERS) or len(_UNSPACED.findall(text)) >= _UNSPACED_MIN


def _planned(typed: Mapping[str, object], today: date) -> Item:
    name, text = "follow-ups have owners and dates", str(typed.get("follow_ups") or "")
    asked = "Give --follow-ups (follow_ups): what, owner, due date as YYYY-MM-DD; a semicolon between two."
    try:
        planned = read_follow_ups(text, today)
    except ValueError as error:
        return Item(name, done=False, found=str(error), remedy=asked)
    return Item(name, done=bool(planned), found=text or "none", remedy=asked)


def _rotated(standing: ItemStanding) -> Item:
    name, typed, key = "the key is rotated", str(standing.typed.get("key_rotated_to") or ""), standing.key_at_hand
    if standing.mode is not Mode.LIVE:
        return Item(name, done=True, found=typed or "not needed: no live key was used", remedy="")
    found = f"the key at hand is …{key.last4} (sha256 {key.digest_prefix})"
    if not typed:
        remedy = (
            "Rotate the restricted key, run this with the new one, and give its last four characters with --key-rotated-to "
            "(key_rotated_to)."
        )
        return Item(name, done=False, found=f"no new key is named; {found}", remedy=remedy)
    if key.digest_prefix == standing.key_used:
        return Item(name, done=False, found=f"{found}, the one that paid", remedy="Run 6-close with the new key.")
    if key.last4 != typed:
        remedy = "Run 6-close with the new key, and give its own last four characters."
        return Item(name, done=False, found=f"{found}, not …{typed}", remedy=remedy)
    before = f"; before it sha256 {standing.key_used}" if standing.key_used else ""
    return Item(name, done=True, found=f"{found}{before}", remedy="")


def _reviewed(standing: ItemStanding) -> Item:
    name, text = "the next access review has a date", str(standing.typed.get("access_review_on") or "")
    last = standing.today + timedelta(days=standing.access_review_every_days)
    remedy = f"Agree on it with Security and give --access-review-on (access_review_on), at the latest {last}."
    if not text:
        return Item(name, done=False, found="none", remedy=remedy)
    on, found = date.fromisoformat(text), text
    if on < standing.today:
        found = f"{on} is before today, {standing.today}"
    elif on > last:
        found = f"{on} is later than {standing.access_review_every_days} days from today, {standing.today}"
    return Item(name, done=standing.today <= on <= last, found=found, remedy=remedy)
