"""
Secrets, removed by value from everything that is kept.

A notebook keeps what a cell printed, and a key reaches an output in ways that nobody plans: a connection error that
quotes its URL, an ``assert`` with the object in it, ``%env``. So each known secret is looked for as it is and in the
forms in which libraries print it, and a second net catches what merely looks like a key. What remains says which key
it was: the reader of an incident needs to know that, and cannot learn more from it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, AnyStr
from urllib.parse import unquote, urlsplit

from manual_payout.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nbformat import NotebookNode

# Shorter than this, a "secret" is found inside ordinary words and redaction destroys the evidence.
SHORTEST_SECRET = 6

_PREFIX = "(?:sk|rk|rkcs)_(?:live|test)"
_KEY = rf"{_PREFIX}_[A-Za-z0-9]{{8,}}"
_SLASH = r"(?:\\?/|%2[Ff])"
# In the order in which they are tried at one place of the text. The first is our own mark, which is left as it is:
# that is what makes redaction idempotent.
_NETS = {
    "mark": rf"\[redacted(?: {_PREFIX} …[A-Za-z0-9]{{4}}(?: sha256:[0-9a-f]{{8}})?)?\]",
    "masked": rf"{_PREFIX}_\*{{2,}}[A-Za-z0-9]{{0,4}}",
    "secret": "",
    "key": _KEY,
    "webhook_secret": r"whsec_[A-Za-z0-9+/=]{8,}",
    "slack_token": r"xox[baprs]-[A-Za-z0-9-]{8,}",
    "slack_url": rf"hooks\.slack(?:-gov)?\.com{_SLASH}(?:services|workflows|triggers){_SLASH}[A-Za-z0-9_%/\\-]+",
}
_KINDS = {
    "secret": "a secret of this installation",
    "key": "a Stripe key",
    "webhook_secret": "a Stripe webhook secret",
    "slack_token": "a Slack token",
    "slack_url": "a Slack webhook",
}
# A secret that occurs in the marks themselves could never be removed.
_MARK_WORDS = "[redacted sk_live rk_live rkcs_live sk_test rk_test rkcs_test sha256:]"

# Settings whose value is the secret. SLACK_CHANNEL and JIRA_PROJECT_KEY are names, and evidence needs them readable.
_SECRET_SETTING = re.compile(
    r"STRIPE_(FALLBACK|READ|REHEARSAL)_SECRET_KEY|SMTP_PASSWORD"
    r"|(SLACK|PAGERDUTY|JIRA)_(\w+_)?(TOKEN|SECRET|PASSWORD|API_KEY|ROUTING_KEY|INTEGRATION_KEY|WEBHOOK(_URL)?)"
)
_URL_SETTINGS = ("DATABASE_URL", "LEDGER_DATABASE_URL")


# Words that notebooks are made of. A weak password that is one of them would otherwise break the notebook's structure.
_NOTEBOOK_WORDS = frozenset(
    {
        *("cells", "metadata", "nbformat", "nbformat_minor", "cell_type", "id", "source", "outputs", "execution_count"),
        *("code", "markdown", "raw", "output_type", "stream", "name", "stdout", "stderr", "text", "data", "error"),
        *("ename", "evalue", "traceback", "display_data", "execute_result", "text/plain", "text/html", "text/markdown"),
        *("image/png", "kernelspec", "language_info", "language", "display_name", "python", "python3", "tags"),
        *("parameters", "injected-parameters", "execution", "shell.execute_reply", "papermill", "manual_payout"),
        *("status", "pending", "running", "completed", "failed", "unknown", "not_run", "exception", "start_time"),
        *("end_time", "duration", "manual-payout-banner", "papermill-error-cell-tag"),
    }
)


class Redactor:
    """
    Remove secrets, and what looks like one, from text and bytes.

    Args:
        secrets: The values; surrounding white space does not count, since a key file ends in a newline.

    Raises:
        SettingsError: A secret is too short to be removed without destroying the evidence.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret.strip() for secret in secrets}, key=lambda secret: (-len(secret), secret))
        for secret in self._secrets:
            _refuse_unfit(secret)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Compiled when it is first needed: who adds secrets to a redactor does not need the one without them.
        nets = _NETS | {"secret": "|".join(pattern for secret in self._secrets for pattern in _patterns(secret))}
        return re.compile("|".join(f"(?P<{name}>{net})" for name, net in nets.items() if net))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Redactor:
        """
        Build the redactor of this installation from its settings.

        A key that a command prints (``STRIPE_FALLBACK_SECRET_KEY_COMMAND``) is not in the environment: whoever runs
        the command adds the key (:meth:`with_secrets`); the net for Stripe keys catches it meanwhile.
        """
        return cls(secrets_in(environment))

    def with_secrets(self, *secrets: str) -> Redactor:
        """
        Return a redactor that knows *secrets* too; this one stays as it is.

        Raises:
            SettingsError: A secret is too short to be removed without destroying the evidence.
        """
        return Redactor([*self._secrets, *secrets])

    def redact(self, text: AnyStr) -> AnyStr:
        """Return *text* without secrets; bytes that are not UTF-8 stay as they are around them."""
        if isinstance(text, bytes):
            return self.redact(text.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        return self._pattern.sub(_mark, text)

    def find(self, text: str | bytes) -> list[str]:
        """Return the kinds of secret in *text*, each once, none of them with its value."""
        if isinstance(text, bytes):
            text = text.decode(errors="surrogateescape")
        found = {match.lastgroup for match in self._pattern.finditer(text)}
        return [kind for name, kind in _KINDS.items() if name in found]


def redact_notebook(nb: Mapping[str, Any], redactor: Redactor) -> NotebookNode:
    """Return a copy of the notebook, or part of one, in which every text and every field's name passed *redactor*."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return value if value in _NOTEBOOK_WORDS else redactor.redact(value)
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list | tuple) else value

    # It costs a tenth of a second to import, and who redacts only text does without.
    import nbformat

    copied: NotebookNode = nbformat.from_dict(clean(nb))  # type: ignore[no-untyped-call]  # untyped upstream
    return copied


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Return the values of *environment* that must never be saved: keys, tokens and database passwords."""
    found = [value for name, value in environment.items() if value and _SECRET_SETTING.fullmatch(name)]
    passwords = (urlsplit(environment.get(name, "")).password for name in _URL_SETTINGS)
    return found + [unquote(password) for password in passwords if password]


def _refuse_unfit(secret: str) -> None:
    if len(secret) < SHORTEST_SECRET:
        raise SettingsError(
            f"A secret has {len(secret)} characters, expected at least {SHORTEST_SECRET}.",
            "Use a longer one: so short a value cannot be kept out of the evidence without destroying it.",
        )
    if secret in _MARK_WORDS:
        raise SettingsError(
            "A secret is one of the words that mark a removed secret.",
            "Choose another value: this one cannot be kept out of the evidence.",
        )


# A terminal, a pretty-printer or MIME may have broken the line inside a secret.
_BREAK = r"(?:\r?\n)?"


def _patterns(secret: str) -> list[str]:
    """Return the patterns that find *secret* as libraries print it: as it is, escaped, encoded, inside base64."""
    encoded = {_BREAK.join(map(re.escape, form)) for form in _base64_forms(secret.encode(errors="surrogateescape"))}
    return [_BREAK.join(map(_character, secret)), *sorted(encoded)]


def _character(character: str) -> str:
    """Return a pattern for one character, written in any of the ways of JSON, Python, HTML and URLs."""
    if character.isascii() and character.isalnum():
        return character
    upper = "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogateescape"))
    escaped = {json.dumps(character)[1:-1], json.dumps(json.dumps(character))[3:-3], repr(character)[1:-1]}
    forms = {character, "\\" + character, upper, upper.lower(), html.escape(character), *escaped}
    forms |= {"+"} if character == " " else set()
    return "(?:" + "|".join(map(re.escape, sorted(forms, key=len, reverse=True))) + ")"


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Yield the part of base64 text that *secret* alone decides, at each of its three places in a group of bytes."""
    for offset in range(3):
        first = -(-offset * 8 // 6)  # the first character without a bit of what stands before
        last = (offset + len(secret)) * 8 // 6  # and the last one without a bit of what follows
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * offset + secret)[first:last].decode()


def _mark(match: re.Match[str]) -> str:
    if match.lastgroup == "mark":
        return match[0]
    text = match[0].replace("\r", "").replace("\n", "")
    prefix = re.match(_PREFIX, text)
    if match.lastgroup == "masked" and prefix:
        last = text.rpartition("*")[2]
        return f"[redacted {prefix[0]} …{last}]" if len(last) == 4 else "[redacted]"
    if not re.fullmatch(_KEY, text) or prefix is None:
        return "[redacted]"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"[redacted {prefix[0]} …{text[-4:]} sha256:{digest[:8]}]"
