"""
The search: every piece of every canary, in every writing, in every byte.

A piece of a secret is as bad as the whole where a program has cut it short or in two, so that each block counts. What URLs,
JSON or HTML make of the characters between the blocks does not matter to it then; base64 and the like are looked for by
what they make of the blocks.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .canaries import Canary

_KEY_BYTES = 8

# Eight digits of a digest may be shown; who sees more can try out guesses.
_DIGEST = 12

# Where our own code, a terminal or MIME breaks a line: in JSON's lists of lines, too; colours stand between letters.
_JOINTS = re.compile(rb'(?:\\+[rn])*"?,?\r?\n[ \t]*"?|(?:\\+[rn])+|(?:\x1b|\\+u001b)\[[0-9;]*m')

_SLASHES = re.compile(rb"\\{2,}")


@dataclass(frozen=True)
class Finding:
    """A piece of a canary where none may be."""

    where: str
    canary: str
    writing: str
    around: str

    def __str__(self) -> str:
        return f"{self.where}: {self.canary}, {self.writing}: …{self.around}…"


# What becomes of one block in each writing; base64 is apart, since it depends on what stands before.
WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda block: block,
    "hexadecimal": lambda block: block.encode().hex(),
    "upper hexadecimal": lambda block: block.encode().hex().upper(),
    "reversed": lambda block: block[::-1],
    "percent": lambda block: "".join(f"%{ord(char):02X}" for char in block),
    "lower percent": lambda block: "".join(f"%{ord(char):02x}" for char in block),
    "backslash": lambda block: "".join(f"\\x{ord(char):02x}" for char in block),
    "entities": lambda block: "".join(f"&#{ord(char)};" for char in block),
}


class Search:
    """
    Args:
        canaries: What is looked for.
    """

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._needles: dict[bytes, tuple[str, str]] = {}
        for canary in canaries:
            for writing, needle in _needles(canary):
                self._needles[needle] = (canary.name, writing)
        self._by_start: dict[int, list[bytes]] = {}
        for needle in self._needles:
            self._by_start.setdefault(int.from_bytes(needle[:_KEY_BYTES], "little"), []).append(needle)
        self._starts = np.array(sorted(self._by_start), dtype="<u8")
        self._likely = np.zeros(1 << 16, dtype=bool)
        self._likely[(self._starts & np.uint64(0xFFFF)).astype(np.intp)] = True

    def find(self, where: str, data: bytes) -> list[Finding]:
        """Return what is in *data*, in the archives that it holds, and across the ends of its lines; each canary and writing once."""
        found: dict[tuple[str, str], Finding] = {}
        for place, content in _contents(where, data):
            # JSON in JSON doubles its backslashes.
            for text in {content, _JOINTS.sub(b"", content), _SLASHES.sub(rb"\\", content)}:
                for needle, at in self._hits(text):
                    name, writing = self._needles[needle]
                    around = text[max(0, at - 60) : at + len(needle) + 20].decode(errors="replace")
                    found.setdefault((name, writing), Finding(place, name, writing, " ".join(around.split())))
        return list(found.values())

    def _hits(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        for shift in range(_KEY_BYTES):
            count = (len(data) - shift) // _KEY_BYTES
            if count <= 0:
                return
            words = np.frombuffer(data, dtype="<u8", count=count, offset=shift)
            likely = np.flatnonzero(self._likely[(words & np.uint64(0xFFFF)).astype(np.intp)])
            for index in likely[np.isin(words[likely], self._starts)]:
                at = shift + int(index) * _KEY_BYTES
                for needle in self._by_start[int(words[index])]:
                    if data.startswith(needle, at):
                        yield needle, at


def _needles(canary: Canary) -> Iterator[tuple[str, bytes]]:
    for block in canary.blocks():
        for writing, write in WRITINGS.items():
            yield writing, write(block).encode()
        for offset in range(3):
            for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
                # The characters that this block alone decides, whatever stands around it.
                encoded = encode(b"\0" * offset + block.encode())
                yield "base64", encoded[-(-offset * 8 // 6) : (offset + len(block)) * 8 // 6]
    for text in {canary.value, canary.hidden}:
        yield "digest", hashlib.sha256(text.encode()).hexdigest()[:_DIGEST].encode()


def _contents(where: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield where, data
    if b"PK\x03\x04" in data:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                for name in packed.namelist():
                    yield f"{where}!{name}", packed.read(name)
        except zipfile.BadZipFile:
            return
