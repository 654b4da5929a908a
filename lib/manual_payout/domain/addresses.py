"""Names under which this machine is reached from itself alone, and addresses of people."""

from __future__ import annotations

import re

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

# Most addresses; the library takes all of these, and a while to import.
_PLAIN = re.compile(
    r"(?=.{3,254}$)(?=[^@]{1,64}@)[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@"
    r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}",
    re.ASCII,
)


def is_address(text: str) -> bool:
    """Whether *text* is one email address and nothing else, which any mail server takes: in ASCII, by RFC 5321 and 5322; nothing is looked up."""
    if _PLAIN.fullmatch(text):
        return True
    from email_validator import EmailNotValidError, validate_email

    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError:
        return False
    # What it would tidy is not what is written.
    return text.isascii() and found.normalized.casefold() == text.casefold()
