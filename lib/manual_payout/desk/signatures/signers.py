"""
Whose key is whose: OpenSSH's ``allowed_signers`` and ``revoked_keys`` (ssh-keygen(1), ALLOWED SIGNERS), read strictly.

OpenSSH allows patterns, certificates and lines without a purpose. Here a line names one person, at least one purpose and
one key; what it grants can then be reviewed by reading it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from manual_payout.desk.signatures.keys import PublicKey, public_key
from manual_payout.desk.signatures.passkeys import NO_PASSKEYS, PasskeyRules
from manual_payout.domain.errors import SettingsError, SignatureError

# One principal, options, key, and a comment.
_LINE = re.compile(r"(?P<who>[^\s,*?!\"#]+) (?P<options>[a-z-]+=\"[^\"\s]*\"(?:,[a-z-]+=\"[^\"\s]*\")*) (?P<key>\S+ \S+)(?: (?P<comment>.*))?")  # fmt: skip
_OPTION = re.compile(r"([a-z-]+)=\"([^\"]*)\"")
_NAMESPACE = re.compile(r"[A-Za-z0-9.@_-]+")
_INSTANT = re.compile(r"(\d{8})(\d{4})?(\d{2})?Z")


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """
    One line: this person may sign for these purposes with this key, from *valid_after* on and before *valid_before*.

    Attributes:
        principal: The person's email.

        line_no: In the file, from 1.
    """

    principal: str
    namespaces: tuple[str, ...]
    key: PublicKey
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    comment: str = ""
    line_no: int = 0


class AllowedSigners:
    """
    The keys of everybody who may sign.

    Args:
        entries: One key stands in one of them only, so that nobody signs as two people.

        revoked: Keys that are worth nothing any more, whenever they signed.

        source: Where the entries came from, for messages.

        files: What they were read from, by name.

        passkeys: What the reviewed policy says of passkeys; by default that none counts.

    Raises:
        SettingsError: A key stands in two entries.
    """

    def __init__(
        self,
        entries: tuple[AllowedSigner, ...],
        revoked: frozenset[PublicKey],
        source: str,
        files: Mapping[str, str] = MappingProxyType({}),
        passkeys: PasskeyRules = NO_PASSKEYS,
    ) -> None:
        self.entries = entries
        self.revoked = revoked
        self.source = source
        self.files = files
        self.passkeys = passkeys
        self._by_key: dict[PublicKey, AllowedSigner] = {}
        for entry in entries:
            other = self._by_key.setdefault(entry.key, entry)
            if other is not entry:
                raise SettingsError(
                    f"The key {entry.key} stands on lines {other.line_no} and {entry.line_no} of {source}, for "
                    f"{other.principal} and {entry.principal}.",
                    "Each key belongs to one person and stands on one line: have the other person make a key.",
                )

    def find(self, key: PublicKey) -> AllowedSigner | None:
        """Return the line of *key*, whatever it allows."""
        return self._by_key.get(key)

    def keys_for(self, principal: str, namespace: str, at: datetime) -> tuple[PublicKey, ...]:
        """Return the keys with which *principal* may sign for *namespace* at *at*, in the order of the file."""
        return tuple(one.key for one in self.entries if not self._objection(one, principal, namespace, at))

    def judge(self, key: PublicKey, principal: str, namespace: str, at: datetime) -> AllowedSigner:
        """
        Return the line by which *principal* may sign with *key* for *namespace* at *at*.

        Raises:
            SignatureError: The key is unknown, another person's, revoked, for another purpose, not valid yet or no longer.
        """
        entry = self._by_key.get(key)
        why = f"is not in {self.source}" if entry is None else self._objection(entry, principal, namespace, at)
        if key in self.revoked:
            why = "was revoked"
        if entry is None or why:
            raise SignatureError(
                f"The key {key} {why}.", f"Sign with a key that {self.source} allows {principal}, or have it corrected."
            )
        return entry

    def _objection(self, entry: AllowedSigner, principal: str, namespace: str, at: datetime) -> str:
        if entry.key in self.revoked:
            return "was revoked"
        if entry.principal != principal:
            return f"is {entry.principal}'s, not {principal}'s"
        if namespace not in entry.namespaces:
            return f"is for {', '.join(entry.namespaces)}, not for {namespace}"
        if entry.valid_after is not None and at < entry.valid_after:
            return f"is valid from {entry.valid_after:%Y-%m-%d %H:%M} UTC on only"
        if entry.valid_before is not None and at >= entry.valid_before:
            return f"expired at {entry.valid_before:%Y-%m-%d %H:%M} UTC"
        return ""


def load_signers(signers_file: Path, revoked_file: Path, passkeys: PasskeyRules = NO_PASSKEYS) -> AllowedSigners:
    """
    Read both files. Both must be there: a list of revoked keys that went missing would revoke nobody.

    Raises:
        SettingsError: One cannot be read, a line of it says something else than it should, or a key stands twice.
    """
    allowed_text, revoked_text = _read(signers_file), _read(revoked_file)
    entries = parse_signers(allowed_text, str(signers_file))
    revoked = []
    for number, line in _lines(revoked_text):
        try:
            revoked.append(public_key(line))
        except ValueError as error:
            raise _wrong(str(revoked_file), number, str(error)) from None
    files = {"allowed_signers": allowed_text, "revoked_keys": revoked_text}
    return AllowedSigners(entries, frozenset(revoked), signers_file.name, files, passkeys)


def parse_signers(text: str, source: str) -> tuple[AllowedSigner, ...]:
    """
    Read the lines of an ``allowed_signers`` file; empty ones and comments are passed over.

    Raises:
        SettingsError: A line is not in the form that `signer_line` writes.
    """
    found = []
    for number, line in _lines(text):
        try:
            found.append(_entry(line, number))
        except ValueError as error:
            raise _wrong(source, number, str(error)) from None
    return tuple(found)


def signer_line(entry: AllowedSigner) -> str:
    """Write one line for an ``allowed_signers`` file."""
    options = [f'namespaces="{",".join(entry.namespaces)}"']
    for name, at in (("valid-after", entry.valid_after), ("valid-before", entry.valid_before)):
        if at is not None:
            options.append(f'{name}="{at.astimezone(UTC):%Y%m%d%H%M%SZ}"')
    return f"{entry.principal} {','.join(options)} {entry.key.text} {entry.comment}".rstrip()


def _entry(line: str, number: int) -> AllowedSigner:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError('expected: email namespaces="…",valid-after="…Z",valid-before="…Z" key, single spaces between')
    pairs = _OPTION.findall(match["options"])
    options = dict(pairs)
    if unknown := sorted(set(options) - {"namespaces", "valid-after", "valid-before"}):
        raise ValueError(f"the option {unknown[0]!r} is none of namespaces, valid-after, valid-before")
    if len(options) != len(pairs) or "namespaces" not in options:
        raise ValueError("each option is given once, and namespaces always")
    namespaces = tuple(options["namespaces"].split(","))
    if bad := [one for one in namespaces if not _NAMESPACE.fullmatch(one)]:
        raise ValueError(f"the namespace {bad[0]!r} is not a plain name")
    after, before = (_instant(options.get(name)) for name in ("valid-after", "valid-before"))
    if after is not None and before is not None and before <= after:
        raise ValueError("valid-before is not after valid-after")
    return AllowedSigner(
        match["who"], namespaces, public_key(match["key"]), after, before, match["comment"] or "", number
    )  # fmt: skip


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    match = _INSTANT.fullmatch(text)
    try:
        if match is not None:
            digits = match[1] + (match[2] or "0000") + (match[3] or "00")
            return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        match = None
    # Without the Z, OpenSSH means the time zone of whatever machine it runs on.
    raise ValueError(f"the instant {text!r} is not in UTC in the form YYYYMMDDHHMMSSZ")


def _lines(text: str) -> list[tuple[int, str]]:
    numbered = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"{path} cannot be read: {why}.",
            "It stands beside the registry of people, or where MANUAL_PAYOUT_ALLOWED_SIGNERS says; see docs/approvals.md.",
        ) from None


def _wrong(source: str, number: int, why: str) -> SettingsError:
    return SettingsError(f"{source}, line {number}: {why}.", "Correct the line (docs/approvals.md shows one).")
