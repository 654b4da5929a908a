"""Which machine this is: told apart from every other one, without telling anybody which."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import platform
import uuid
from pathlib import Path

# Of systemd and of D-Bus: made when the system was installed (machine-id(5)).
_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")

# What stands there where there is no id is shorter.
_ID_CHARACTERS = 32

_MULTICAST = 1 << 40


def machine_digest() -> str:
    """
    Return a digest that is the same in every process of this machine, and another on every other machine.

    machine-id(5) asks that the id itself be told to nobody, and that each use have a digest of its own.
    """
    return hmac.new(
        _identity().encode(), b"manual-payout: the machine of an SQLite database", hashlib.sha256
    ).hexdigest()


def machine_name() -> str:
    """Return what people call this machine."""
    return platform.node() or "a machine without a name"


def _identity() -> str:
    for file in _FILES:
        with contextlib.suppress(OSError):
            text = Path(file).read_text("utf-8").strip()
            if len(text) >= _ID_CHARACTERS:
                return text
    node = uuid.getnode()
    # Where no network card is found, uuid makes up a number in each process anew, and marks it.
    return platform.node() if node & _MULTICAST else f"{node:012x}"
