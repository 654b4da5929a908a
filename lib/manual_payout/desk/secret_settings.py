"""
The secrets of this installation: which setting holds each, and whether a value can be kept out of the evidence at all.

A password that is a word of ours cannot: taken out of the evidence, it takes field names, states and signed statements
with it. Our words are what this package is written with, searched as it lies on the disk, so that no list of them can
fall behind. Whoever starts anything with such a password is told its variable, on the terminal alone: in the evidence, it
would tell a reader what the password is.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from manual_payout.domain.errors import ParameterError, SecretError, where_secret
from truthful_papermill.redaction import REMEDY, Redactor, Secret, refuse_unfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_LIBRARY = Path(__file__).resolve().parents[2]
# Whatever lies beside us writes evidence too: the rehearsal its reports, the demo its names.
_PACKAGES = ("manual_payout", "truthful_papermill", "payout_rehearsal", "local_stripe")

# A folder holds some 100,000 hexadecimal digits, in digests and ids. Twelve given ones stand among them by chance once in
# two thousand million folders, eight once in forty thousand. Dates, times and amounts are shorter.
_SHORTEST_NUMBER = 12
_NUMBER = re.compile(r"[0-9a-fA-F .,:;/+_TZ-]*")
_NO_DIGIT = re.compile(r"[^0-9a-fA-F]")

# What its issuer made cannot be a word, and the sandbox has keys of its own among our sources.
_ISSUED = re.compile(
    r"(sk|rk|rkcs)_(live|test)_[A-Za-z0-9]{8,}|xox[baprs]-[A-Za-z0-9-]{8,}|https://hooks\.slack(-gov)?\.com/.{20,}"
)

# Settings whose value is the secret. SLACK_CHANNEL and JIRA_PROJECT_KEY are names, and evidence needs them readable.
_SECRET_SETTING = re.compile(
    r"STRIPE_(FALLBACK|READ|REHEARSAL)_SECRET_KEY|SMTP_PASSWORD"
    r"|(SLACK|PAGERDUTY|JIRA)_(\w+_)?(TOKEN|SECRET|PASSWORD|API_KEY|ROUTING_KEY|INTEGRATION_KEY|WEBHOOK(_URL)?)"
)
_URL_SETTINGS = ("DATABASE_URL", "LEDGER_DATABASE_URL")
_PASSWORD_OPTIONS = frozenset({"password", "sslpassword"})


def named_secrets(environment: Mapping[str, str]) -> list[Secret]:
    """Return what of *environment* must never be saved: keys, tokens and database passwords."""
    found = [(name, value) for name, value in environment.items() if value and _SECRET_SETTING.fullmatch(name)]
    found += [(name, password) for name in _URL_SETTINGS for password in passwords_in(environment.get(name, ""))]
    return [Secret(name, value.strip()) for name, value in found]


def redactor_of(environment: Mapping[str, str] | None = None) -> Redactor:
    """
    Build the redactor of this installation from its settings: this process's where no *environment* is given.

    A key that a command prints (``STRIPE_FALLBACK_SECRET_KEY_COMMAND``) is not in the environment: whoever runs the
    command adds the key (`Redactor.with_secrets`); the net for Stripe keys catches it meanwhile.
    """
    return Redactor(named_secrets(os.environ if environment is None else environment))


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Return the values of `named_secrets`."""
    return [secret.value for secret in named_secrets(environment)]


def passwords_in(url: str) -> list[str]:
    """Return every text that some reader of a database's URL would take for the password, also where the URL is malformed."""
    _, _, rest = url.partition("://")
    before, _, query = rest.partition("?")
    found = [value for name, value in parse_qsl(query) if name in _PASSWORD_OPTIONS]
    # Up to the first @, or, where somebody has not written one inside as %40, up to the last; nor a ? as %3F.
    account = before if "@" in before else rest
    texts = (account.partition("@")[0], account.rpartition("@")[0]) if "@" in account else ()
    # As it is, and as the URL has it: whoever prints the URL, in whatever writing, prints that.
    found += [write(text.partition(":")[2]) for text in texts for write in (unquote, str)]
    return [password for password in dict.fromkeys(found) if password]


def refuse_typed_secret(values: Mapping[str, Any]) -> None:
    """
    Refuse parameters of which one holds a secret of this process's environment, before anything is kept or shown of them.

    So is what redaction would change although it tells nothing, such as the key that Stripe masks in its own errors: the
    journal would be saved with other words than those that its digests are of, and no check would pass again.

    Args:
        values: By name, as somebody typed them.

    Raises:
        ParameterError: Naming the parameter, and nothing of its value.
    """
    redactor = redactor_of(os.environ)
    for name, value in values.items():
        if isinstance(value, str) and redactor.redact(value) != value:
            exposed = " and rotate that key: it was exposed" if redactor.find(value) else ""
            error = ParameterError(
                name, "[redacted]", "text without a key or token", f"Take it out of {name}{exposed}."
            )
            error.aside = where_secret(*redactor.variables_in(value))
            raise error


def refuse_our_words(secrets: Iterable[Secret], *texts: str) -> None:
    """
    Refuse secrets of which one could stand in the evidence by itself: as a word, a number, or a name of ours.

    Capital letters do not count, since a word begins with one in a caption.

    Args:
        texts: What else the evidence is made of here, such as the policy and the registry of people.

    Raises:
        SecretError: The first such secret; with the name of its variable for the terminal.
    """
    asked = [secret for secret in secrets if not _ISSUED.fullmatch(secret.value)]
    for secret in asked:
        refuse_unfit(secret)
        if _NUMBER.fullmatch(secret.value) and len(_NO_DIGIT.sub("", secret.value)) < _SHORTEST_NUMBER:
            why = f"is a number, or hexadecimal, of under {_SHORTEST_NUMBER} digits, which may stand in any digest"
            raise SecretError(f"A secret {why}.", REMEDY, secret.variable)
    at_hand = [_folded(text) for text in texts]
    ours = _ours(tuple(dict.fromkeys(_folded(secret.value) for secret in asked)))
    for secret in asked:
        word = _folded(secret.value)
        if word in ours or any(word in text for text in at_hand):
            raise SecretError("A secret is a word that evidence is made of.", REMEDY, secret.variable)


# A rehearsal opens many desks with the same secrets.
@lru_cache(8)
def _ours(words: tuple[bytes, ...]) -> frozenset[bytes]:
    """Return those of *words* that occur in our own texts."""
    if not words:
        return frozenset()
    text = b"\0".join(_texts())
    return frozenset(word for word in words if word in text)


def _texts() -> Iterator[bytes]:
    # The templates are inside an installed package, and beside that of a checkout.
    for root in (*(_LIBRARY / name for name in _PACKAGES), _LIBRARY.parent / "runbooks"):
        for folder, below, names in os.walk(root):
            if "__pycache__" in below:
                below.remove("__pycache__")
            for name in names:
                yield name.lower().encode()
                # Half as long as by a Path and a buffer, and every command and notebook waits for it.
                with FileIO(f"{folder}/{name}") as file:
                    yield file.readall().lower()


def _folded(text: str) -> bytes:
    return text.lower().encode(errors="surrogatepass")
