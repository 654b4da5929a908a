"""
The incident's ticket in Jira: the archive as an attachment, and a comment that names the digest.

Doing it again changes nothing: what the ticket has already, by name and size, is not uploaded, and one comment names one
digest. So a lost answer needs no guess: the same command looks first. Sources: Atlassian's *Jira Cloud platform REST API*,
*Issue attachments* and *Issue comments*.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from manual_payout.desk.settings import Settings
from manual_payout.domain.connections import explain_connection
from manual_payout.domain.errors import ManualPayoutError, NotFinishedError, ParameterError, SettingsError
from manual_payout.domain.models import Mode
from manual_payout.evidence.attaching.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jira import JIRA

T = TypeVar("T")

_ISSUE = re.compile(r"[A-Z][A-Z0-9_]+-[1-9][0-9]*")
_NEXT = "Run the same command again: it uploads nothing twice."

# As many comments as Jira is asked for at a time.
_PAGE = 100

# What Jira, or what stands before it, says in words or headers where its status says too little.
_CAUSES = (
    (
        re.compile(r"captcha"),
        "wants a CAPTCHA solved after too many failed logins",
        "Sign in to Jira once in a browser as JIRA_USER and solve it; then check JIRA_API_TOKEN.",
    ),
    (
        re.compile(
            r"basic auth\w*( with passwords?)? (has been |is |was )?(disabled|deprecated|not (allowed|supported|enabled))"
        ),
        "takes no user and password any more",
        "In Jira Cloud make an API token for JIRA_USER; in Jira Data Center a personal access token, and leave JIRA_USER empty.",
    ),
    (
        re.compile(r"allow-?\s?list|ip address|whitelist"),
        "is not open to this machine's address",
        "Use the network or VPN that Jira's list of allowed addresses has, or have this address added.",
    ),
)
_LOGIN_PAGE = (
    "Jira answered with a page to sign in on, not with data.",
    "Correct JIRA_BASE_URL, or have the single sign-on before Jira let its REST API (/rest/api) through for this token.",
)

# What a person has to change, by status; everything else may pass by itself.
_REFUSALS = {
    400: ("does not accept it", "Look at the ticket: it may be closed, or need a field."),
    401: ("does not know the user or the token", "Check JIRA_USER and JIRA_API_TOKEN."),
    403: (
        "does not let this user do it",
        "Give the user the permissions Browse Projects, Add Comments and Create Attachments.",
    ),
    404: ("has no such issue, or does not show it to this user", "Check the issue, and the user's Browse Projects."),
    413: ("takes no file of this size", "Raise Jira's attachment limit, or attach to a folder and link to it."),
}


@dataclass(frozen=True, slots=True)
class Attached:
    """
    What the ticket holds now.

    Attributes:
        uploaded, commented: Whether it was done now; False where the ticket had it already.
    """

    issue: str
    attachment_id: str
    comment_id: str
    uploaded: bool
    commented: bool


class Jira:
    """
    One Jira.

    Args:
        client: Of Jira's own Python library, without retries: whether something arrived is looked up instead.
    """

    def __init__(self, client: JIRA) -> None:
        self._client = client

    def reach(self) -> str:
        """Ask Jira whose token it is; say what is wrong, and nothing where it is not."""
        try:
            _answered(self._client.myself)
        except (SettingsError, NotFinishedError) as error:
            return f"{error.message} {error.remedy}"
        return ""

    def attach(self, issue: str, archive: Archive, comment: str) -> Attached:
        """
        Attach the archive and write the comment, each unless the ticket has it.

        Raises:
            SettingsError: Jira refuses it; the sentence says what has to be changed.

            NotFinishedError: Jira did not answer, or asks for a pause.
        """
        return _answered(lambda: self._attach(issue, archive, comment))

    def _attach(self, issue: str, archive: Archive, comment: str) -> Attached:
        there = [found for found in self._listed(issue) if found.filename == archive.name]
        same: Any = next((found for found in there if found.size == len(archive.data)), None)
        if there and same is None:
            raise NotFinishedError(
                f"{issue} has a file {archive.name} of another size; an upload may have broken off.",
                "Delete that attachment in Jira, then run the same command again.",
            )
        attachment = same or self._client.add_attachment(issue, io.BytesIO(archive.data), filename=archive.name)
        if attachment.size != len(archive.data):
            raise NotFinishedError(
                f"{issue} has {attachment.size} of the {len(archive.data)} bytes of {archive.name}; the upload broke off.",
                "Delete that attachment in Jira, then run the same command again.",
            )
        told: Any = next((found for found in self._comments(issue) if archive.head in str(found.body)), None)
        written = told or self._client.add_comment(issue, comment)
        return Attached(issue, str(attachment.id), str(written.id), uploaded=same is None, commented=told is None)

    def _comments(self, issue: str) -> Iterator[Any]:
        """Return every comment, page by page: Jira gives as many at a time as it likes."""
        known: set[str] = set()
        while True:
            # A page without anything new is the end, also of a Jira that begins anew each time.
            page = [
                found
                for found in self._client.comments(issue, start_at=len(known), max_results=_PAGE)
                if found.id not in known
            ]
            if not page:
                return
            known |= {found.id for found in page}
            yield from page

    def _listed(self, issue: str) -> list[Any]:
        return list(self._client.issue(issue, fields="attachment").fields.attachment)


def open_jira(settings: Settings) -> Jira:
    """
    Return the Jira of the settings; nothing is asked of it yet.

    Raises:
        SettingsError: JIRA_BASE_URL or JIRA_API_TOKEN is missing.
    """
    for name, value in (("JIRA_BASE_URL", settings.jira_base_url), ("JIRA_API_TOKEN", settings.jira_api_token)):
        if not value:
            raise SettingsError(f"{name} is not set.", "Set it (docs/configuration.md), or attach to a folder.")
    # It takes a tenth of a second to import.
    from jira import JIRA

    assert settings.jira_api_token is not None, "Bug: it was asked for above"
    token = settings.jira_api_token.get_secret_value()
    # A user and an API token are Jira Cloud's; a token alone is a personal access token of Jira Data Center.
    user = {"basic_auth": (settings.jira_user, token)} if settings.jira_user else {"token_auth": token}
    client = JIRA(
        settings.jira_base_url, max_retries=0, get_server_info=False,
        timeout=settings.policy.messages.timeout_s, **user,
    )  # fmt: skip
    return Jira(client)


def issue_of(settings: Settings, incident_id: str, named: str = "") -> str:
    """
    Say which issue the evidence goes to: outside live mode only the rehearsal's own.

    Args:
        named: What the operator named; else the incident's id is the issue's key.

    Raises:
        SettingsError: A rehearsal has no issue of its own.

        ParameterError: It is no issue's key, or another one than a rehearsal's.
    """
    if settings.mode is Mode.LIVE:
        issue = named or incident_id
    elif not settings.jira_rehearsal_issue:
        raise SettingsError(
            f"JIRA_REHEARSAL_ISSUE is not set, and {settings.mode} evidence goes to no real incident's ticket.",
            "Name an issue that was made for rehearsals.",
        )
    elif named and named != settings.jira_rehearsal_issue:
        raise ParameterError("issue", named, f"{settings.jira_rehearsal_issue}, the rehearsal's own")
    else:
        issue = settings.jira_rehearsal_issue
    if not _ISSUE.fullmatch(issue):
        raise ParameterError("issue", issue, "the key of an issue, such as INC-123; name it with --issue")
    return issue


def comment_text(archive: Archive, verdict: str) -> str:
    """Write the comment: what is attached, its digests, and how they are checked. It holds nobody's free text."""
    return (
        f"{verdict}\n"
        f"Attached: {archive.name} (SHA-256 {archive.sha256})\n"
        f"SHA-256 of manifest.json: {archive.head}\n"
        f"To check, unpack it and run: manual-payout verify --anchor {archive.head} FOLDER"
    )


def _answered(ask: Callable[[], T]) -> T:
    from jira.exceptions import JIRAError
    from requests.exceptions import RequestException

    try:
        return ask()
    except ManualPayoutError:
        raise
    except JIRAError as error:
        _refuse(error)
    except json.JSONDecodeError as error:
        if error.doc.lstrip()[:1] == "<":
            raise SettingsError(*_LOGIN_PAGE) from None
        raise NotFinishedError(f"Jira's answer cannot be read ({type(error).__name__}).", _NEXT) from None
    except (RequestException, OSError) as error:
        why, remedy = explain_connection(error, "Jira") or (type(error).__name__, _NEXT)
        raise NotFinishedError(f"Jira did not answer ({why}).", remedy) from None
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise NotFinishedError(f"Jira's answer cannot be read ({type(error).__name__}).", _NEXT) from None


def _refuse(error: object) -> NoReturn:
    status = int(getattr(error, "status_code", 0) or 0)
    answer = getattr(error, "response", None)
    words = f"{getattr(error, 'text', '')} {getattr(answer, 'headers', {})}".lower()
    for sign, said, remedy in _CAUSES if 400 <= status < 500 else ():
        if sign.search(words):
            raise SettingsError(f"Jira {said} ({status}).", remedy) from None
    if status in _REFUSALS:
        said, remedy = _REFUSALS[status]
        raise SettingsError(f"Jira {said} ({status}).", remedy) from None
    headers = getattr(answer, "headers", {})
    after = headers.get("Retry-After", "") if status in {429, 503} else ""
    pause = f" and asks for a pause of {after} seconds" if after.isdigit() else ""
    raise NotFinishedError(f"Jira answered {status or 'with an error'}{pause}.", _NEXT) from None
