"""The few rules of SSH's binary form that are needed to name a key without any cryptography (RFC 4251, section 5)."""

from __future__ import annotations


def strings_of(blob: bytes, count: int) -> tuple[list[bytes], bytes]:
    """
    Take *count* length-prefixed strings from the beginning of *blob*.

    Returns:
        The strings, and the rest.

    Raises:
        ValueError: It is too short.
    """
    found = []
    for _ in range(count):
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 or len(blob) - 4 < length:
            raise ValueError("it ends too early")
        found.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return found, blob


def string(content: bytes) -> bytes:
    """Write *content* with its length before it."""
    return len(content).to_bytes(4, "big") + content
