"""
Secrets, removed by value from everything that is kept.

A notebook keeps what a cell printed, and a key reaches an output in ways that nobody plans: a connection error that
quotes its URL, an ``assert`` with the object in it, ``%env``. So each known secret is looked for as it is and in the
forms in which libraries print it, whole or as a piece that a table or a traceback has cut short, and a second net catches
what merely looks like a key. What remains says which key it was: the reader of an incident needs to know that, and cannot
learn more from it.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import html
import itertools
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, AnyStr
from urllib.parse import quote, quote_plus

from truthful_papermill.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nbformat import NotebookNode

# Shorter than this, a "secret" is found inside ordinary words and redaction destroys the evidence. Six given characters stand
# among the 30,000 in base64 of a folder's signatures by chance once in two million folders, five once in 36,000.
SHORTEST_SECRET = 6

# A secret that occurs in the marks themselves could never be removed.
_MARK_WORDS = "[redacted sk_live rk_live rkcs_live sk_test rk_test rkcs_test sha256:]"

REMEDY = (
    "Change that secret where it was made, to what `openssl rand -hex 24` prints; `manual-payout status`, on a terminal, "
    "names its variable (docs/configuration.md, Secrets)."
)

# What Python's own shortening of a text leaves at its ends; of a shorter secret than the second, no piece is looked for.
SHORTEST_PIECE = 12
_SHORTEST_IN_PIECES = 20
# A piece of that length holds a whole block, wherever it was cut.
_BLOCK = 6
# Words are no piece: a password made of them must not take them out of the whole notebook.
_WORDS = re.compile(r"[a-z _.,:;/-]*")
# Stripe's keys go on with letters of the account's id, which evidence needs readable.
_ACCOUNT_IN_KEY = 16

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
    # Also what a traceback leaves of a long one, whose rest may be too short to be known as a piece.
    "url_password": r"://[^\s/:@'\"]{1,63}:(?!\[redacted\]@)[^\s/@'\"]{1,300}@",
    "slack_url": rf"hooks\.slack(?:-gov)?\.com{_SLASH}(?:services|workflows|triggers){_SLASH}[A-Za-z0-9_%/\\-]+",
}
# The characters with which what they catch begins.
_NETS_BEGIN = set("[srwxh:")
_KINDS = {
    "secret": "a secret of this installation",
    "piece": "a piece of a secret of this installation",
    "key": "a Stripe key",
    "webhook_secret": "a Stripe webhook secret",
    "slack_token": "a Slack token",
    "slack_url": "a Slack webhook",
    "url_password": "the password in a URL",
}


# From where, to where, what is put there instead, and the kind of secret.
_Span = tuple[int, int, str, str]

# Words that notebooks are made of. A weak password that is one of them would otherwise break the notebook's structure.
_NOTEBOOK_WORDS = frozenset(
    {
        *("cells", "metadata", "nbformat", "nbformat_minor", "cell_type", "id", "source", "outputs", "execution_count"),
        *("code", "markdown", "raw", "output_type", "stream", "name", "stdout", "stderr", "text", "data", "error"),
        *("ename", "evalue", "traceback", "display_data", "execute_result", "text/plain", "text/html", "text/markdown"),
        *("image/png", "kernelspec", "language_info", "language", "display_name", "python", "python3", "tags"),
        *("parameters", "injected-parameters", "execution", "shell.execute_reply", "papermill", "truthful_papermill"),
        *("status", "pending", "running", "completed", "failed", "unknown", "not_run", "exception", "start_time"),
        *("end_time", "duration", "truthful-papermill-banner", "papermill-error-cell-tag", "default_parameters"),
        *(
            "environment_variables",
            "codemirror_mode",
            "file_extension",
            "mimetype",
            "text/x-python",
            "nbconvert_exporter",
        ),
        *("pygments_lexer", "iopub.execute_input", "iopub.status.busy", "iopub.status.idle"),
    }
)


@dataclass(frozen=True, slots=True)
class Secret:
    """
    One secret.

    Attributes:
        variable: The environment variable that holds it; empty where it has none.

        value: Without the white space around it, since a key file ends in a newline.
    """

    variable: str
    value: str = field(repr=False)


def refuse_unfit(secret: Secret) -> None:
    """
    Refuse a secret that is too short to be told from ordinary text, or that is one of the marks of a removed secret.

    Raises:
        SecretError: It is.
    """
    if len(secret.value) < SHORTEST_SECRET:
        length = f"it has {len(secret.value)} characters, expected at least {SHORTEST_SECRET}"
        raise SecretError(f"A secret is too short: {length}.", REMEDY, secret.variable)
    if secret.value in _MARK_WORDS:
        raise SecretError("A secret is one of the words that mark a removed secret.", REMEDY, secret.variable)


class Redactor:
    """
    Remove secrets, and what looks like one, from text and bytes.

    Args:
        secrets: The values; surrounding white space does not count, since a key file ends in a newline.

    Raises:
        SecretError: A secret is too short to be removed without destroying the evidence.
    """

    def __init__(self, secrets: Iterable[str | Secret] = ()) -> None:
        self._held = [one if isinstance(one, Secret) else Secret("", one.strip()) for one in secrets]
        for secret in self._held:
            refuse_unfit(secret)
        self._secrets = sorted({secret.value for secret in self._held}, key=lambda secret: (-len(secret), secret))

    # What follows is made when it is first needed: who adds secrets to a redactor does not need the one without them.

    @cached_property
    def _alternatives(self) -> str:
        return "|".join("".join(map(_character, secret)) for secret in self._secrets)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        nets = _NETS | {"secret": self._alternatives}
        parts = "|".join(f"(?P<{name}>{net})" for name, net in nets.items() if net)
        return re.compile(_guarded(parts, _NETS_BEGIN | self._begin))

    @cached_property
    def _known(self) -> re.Pattern[str] | None:
        return re.compile(_guarded(f"(?P<secret>{self._alternatives})", self._begin)) if self._secrets else None

    @cached_property
    def _begin(self) -> set[str]:
        return {form[0] for secret in self._secrets for form in _forms(secret[0])}

    @cached_property
    def _encoded(self) -> list[str]:
        return [form for secret in self._secrets for form in _encoded(secret)]

    @cached_property
    def _blocks(self) -> list[tuple[str, str, int]]:
        parts = [part for part in map(_part, self._secrets) if len(part) >= _SHORTEST_IN_PIECES]
        places = [(part, at) for part in parts for at in range(0, len(part) - _BLOCK + 1, _BLOCK)]
        return [(part[at : at + _BLOCK], part, at) for part, at in places]

    def with_secrets(self, *secrets: str | Secret) -> Redactor:
        """
        Return a redactor that knows *secrets* too; this one stays as it is.

        Raises:
            SecretError: A secret is too short to be removed without destroying the evidence.
        """
        return Redactor([*self._held, *secrets])

    def redact(self, text: AnyStr) -> AnyStr:
        """Return *text* without secrets; bytes that are not UTF-8 stay as they are around them."""
        if isinstance(text, bytes):
            return self.redact(text.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        # First what is broken: the nets and the look for pieces would take away half of it, and leave a rest that is too short.
        text = _replaced(text, self._broken(text))
        text = self._pattern.sub(_mark, text)
        return _replaced(text, self._hidden(text))

    def find(self, text: str | bytes) -> list[str]:
        """Return the kinds of secret in *text*, each once, none of them with its value."""
        if isinstance(text, bytes):
            text = text.decode(errors="surrogateescape")
        found = {match.lastgroup for match in self._pattern.finditer(text)}
        found |= {name for *_, name in itertools.chain(self._hidden(text), self._broken(text))}
        return [kind for name, kind in _KINDS.items() if name in found - ({"piece"} if "secret" in found else set())]

    def variables_in(self, text: str | bytes) -> list[str]:
        """Return the variables whose secrets are in *text*: for a terminal alone, since they tell what the secret is."""
        named = {secret.value: secret.variable for secret in self._held if secret.variable}
        known = {_KINDS["secret"], _KINDS["piece"]}
        return sorted({name for value, name in named.items() if known & set(Redactor([value]).find(text))})

    def _hidden(self, text: str) -> Iterator[_Span]:
        """Yield the encoded secrets, and the pieces of secrets, in *text*."""
        for form in self._encoded:
            found = text.find(form)
            while found >= 0:
                yield found, found + len(form), "[redacted]", "secret"
                found = text.find(form, found + 1)
        for start, end in self._pieces(text):
            yield start, end, "[redacted]", "piece"

    def _broken(self, text: str) -> Iterator[_Span]:
        """Yield the secrets of *text* in which a line ends, or a colour begins."""
        if self._known is None or not ("\n" in text or "\\n" in text or "\x1b[" in text or "1b[" in text):
            return
        for breaks, rest in _BREAKS:
            folded = breaks.sub(rest, text)
            if folded == text:
                continue
            whole = ((*match.span(), _mark(match), "secret") for match in self._known.finditer(folded))
            spans = [*whole, *self._hidden(folded)]
            # Where they stand in the text is a question for the rare text that has one.
            kept = _kept(text, breaks) if spans else []
            for first, last, mark, name in spans:
                yield _unfolded(kept, first), _unfolded(kept, last - 1) + 1, mark, name

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield from where to where a piece of a secret stands in *text*."""
        if len(text) < SHORTEST_PIECE:
            return
        for block, part, at in self._blocks:
            found = text.find(block)
            while found >= 0:
                start, end = _grown(text, found, part, at)
                if end - start >= SHORTEST_PIECE and not _WORDS.fullmatch(text, start, end):
                    yield start, end
                found = text.find(block, found + 1)


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


# A terminal, a pretty-printer or MIME may have broken the line inside a secret, and a terminal's colour may begin in it; a
# notebook's file keeps each line as a text of its own.
_COLOURS = r"\x1b\[[0-9;]*m|\\u001b\[[0-9;]*m|\\x1b\[[0-9;]*m"
_ESCAPED = rf'",?\r?\n[ \t]*"|\\[rn](?:\\[rn])*(?:",?\r?\n[ \t]*")?|{_COLOURS}'
# What breaks a text, and what is left in its place. Each alternative begins with a character that is one: Python then passes
# over all others at once.
_BREAKS = (
    (re.compile(rf"\n|\r\n|{_COLOURS}"), ""),
    (re.compile(_ESCAPED), ""),
    # In JSON, and as Python writes a text, two backslashes are one of the secret's own, whatever letter follows them.
    (re.compile(rf"(?P<pair>\\\\)|{_ESCAPED}"), r"\g<pair>"),
)


def _kept(text: str, breaks: re.Pattern[str]) -> list[tuple[int, int, int]]:
    """Return what of *text* stands between its *breaks*: from where, to where, and where it begins once they are gone."""
    kept, at, folded = [], 0, 0
    for match in breaks.finditer(text):
        if match.lastgroup == "pair":
            continue
        kept.append((at, match.start(), folded))
        folded += match.start() - at
        at = match.end()
    return [*kept, (at, len(text), folded)]


def _unfolded(kept: list[tuple[int, int, int]], position: int) -> int:
    """Return where in the text a character stands that is at *position* once its breaks are gone."""
    start, _, folded = kept[bisect.bisect_right(kept, position, key=lambda part: part[2]) - 1]
    return start + position - folded


def _replaced(text: str, spans: Iterable[_Span]) -> str:
    """Put the marks in the place of *spans*; those that overlap become one."""
    joined: list[tuple[int, int, str]] = []
    for start, end, mark, _ in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1]), max(mark, joined[-1][2], key=len)
        else:
            joined.append((start, end, mark))
    for start, end, mark in reversed(joined):
        text = f"{text[:start]}{mark}{text[end:]}"
    return text


def _encoded(secret: str) -> list[str]:
    """Return what *secret* becomes in base64, as it is and as JSON and URLs write it, and in hexadecimal."""
    written = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    data = [text.encode(errors="surrogateescape") for text in written if text.isascii() or text == secret]
    digits = secret.encode(errors="surrogateescape").hex()
    return sorted({digits, digits.upper(), *(form for text in data for form in _base64_forms(text))})


def _guarded(pattern: str, begin: set[str]) -> str:
    """Return *pattern*, tried only at characters with which it can begin: most of a text is passed over at once."""
    return f"(?=[{''.join(map(re.escape, sorted(begin)))}])(?:{pattern})"


def _character(character: str) -> str:
    """Return a pattern for one character in any of its forms."""
    forms = sorted(_forms(character), key=len, reverse=True)
    return forms[0] if len(forms) == 1 else "(?:" + "|".join(map(re.escape, forms)) + ")"


def _forms(character: str) -> set[str]:
    """Return one character written in any of the ways of JSON, Python, HTML, URLs and tables."""
    if character.isascii() and character.isalnum():
        return {character}
    upper = "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogateescape"))
    escaped = {json.dumps(character)[1:-1], json.dumps(json.dumps(character))[3:-3], repr(character)[1:-1]}
    forms = {character, "\\" + character, upper, upper.lower(), html.escape(character), *escaped}
    forms |= {"+"} if character == " " else set()
    # SQL and CSV double the quotes that a text holds; Jinja writes them as decimal numbers.
    return forms | ({character * 2, f"&#{ord(character)};"} if character in "\"'" else set())


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Yield the part of base64 text that *secret* alone decides, at each of its three places in a group of bytes."""
    for offset in range(3):
        first = -(-offset * 8 // 6)  # the first character without a bit of what stands before
        last = (offset + len(secret)) * 8 // 6  # and the last one without a bit of what follows
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * offset + secret)[first:last].decode()


def _part(secret: str) -> str:
    """Return the part of *secret* of which no piece may stay: what tells nothing about the secret is no piece of it."""
    if re.fullmatch(_KEY, secret):
        return secret[len(re.match(_PREFIX, secret)[0]) + 1 + _ACCOUNT_IN_KEY :]  # type: ignore[index]  # it begins so
    if re.match("https?://", secret):
        return secret.partition("://")[2].partition("/")[2]
    return secret


def _grown(text: str, found: int, part: str, at: int) -> tuple[int, int]:
    """Return how far *text* goes on as *part* does, to both sides, around a block that stands at *found* and at *at*."""
    start, end = found, found + _BLOCK
    while start and at and text[start - 1] == part[at - 1]:
        start, at = start - 1, at - 1
    at += end - start
    while end < len(text) and at < len(part) and text[end] == part[at]:
        end, at = end + 1, at + 1
    return start, end


def _mark(match: re.Match[str]) -> str:
    if match.lastgroup == "mark":
        return match[0]
    text = match[0]
    if match.lastgroup == "url_password":
        return f"{text[: text.index(':', 3)]}:[redacted]@"
    prefix = re.match(_PREFIX, text)
    if match.lastgroup == "masked" and prefix:
        last = text.rpartition("*")[2]
        return f"[redacted {prefix[0]} …{last}]" if len(last) == 4 else "[redacted]"
    if not re.fullmatch(_KEY, text) or prefix is None:
        return "[redacted]"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"[redacted {prefix[0]} …{text[-4:]} sha256:{digest[:8]}]"
