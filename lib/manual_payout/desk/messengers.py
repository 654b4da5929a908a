"""
How the services are reached that people read: Slack, the mail server of the shared support inbox, PagerDuty, Jira.

A rehearsal has tokens, webhooks and routing keys of its own and never looks at the live ones; where it has none,
nothing is sent. Hosts are those of the services themselves, or this machine: a token goes nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from manual_payout.domain.addresses import LOOPBACK
from manual_payout.domain.models import Mode

# This machine, by every name that an address of ours may have for it.
_SLACK = frozenset({"slack.com", "slack-gov.com"})
_HOOKS = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
_EVENTS = frozenset({"events.pagerduty.com", "events.eu.pagerduty.com"})

_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _address_of(url: str, hosts: frozenset[str], *, plain: bool) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("an address such as https://… is expected") from None
    local = parts.hostname in LOOPBACK
    secure = parts.scheme == "https" or (plain and local and parts.scheme == "http")
    known = (parts.hostname in hosts and port in (None, 443)) or local
    if not secure or not known or parts.username or parts.query or parts.fragment:
        raise ValueError(f"an address https://{min(hosts, key=len)}/… is expected")


def _slack_base(url: str) -> str:
    _address_of(url, _SLACK, plain=True)
    return url.rstrip("/") + "/"


def _events_base(url: str) -> str:
    _address_of(url, _EVENTS, plain=False)
    return url.rstrip("/")


def _jira_base(url: str) -> str:
    parts = urlsplit(url)
    local = parts.hostname in LOOPBACK and parts.scheme == "http"
    odd = parts.username or parts.password or parts.query or parts.fragment
    if url and (not parts.hostname or odd or not (parts.scheme == "https" or local)):
        raise ValueError("an address such as https://marketplace.atlassian.net is expected")
    return url.rstrip("/")


def _webhook(secret: SecretStr) -> SecretStr:
    # A copied address often ends in a line break.
    url = secret.get_secret_value().strip()
    _address_of(url, _HOOKS, plain=True)
    return SecretStr(url)


def _word(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not text.isascii() or not text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError("letters, digits, - and _ are expected, without quotes or spaces")
    return SecretStr(text)


def _host(text: str) -> str:
    if text and not text.replace("-", "").replace(".", "").replace(":", "").isalnum():
        raise ValueError("a host's name such as smtp.marketplace.example is expected")
    return text


_Webhook = Annotated[SecretStr, AfterValidator(_webhook)]
_Word = Annotated[SecretStr, AfterValidator(_word)]


class Messengers(BaseModel):
    """
    The part of the environment that says how messages go out. Nothing is needed: what is missing, a person copies.

    Attributes:
        slack_bot_token: Of an app that may ``chat:write``; with ``channels:history`` a lost answer can be looked up.

        slack_webhook_url: An incoming webhook; used where there is no token. It belongs to one channel.

        smtp_security: ``starttls``, ``tls`` from the first byte, or ``none``, which only a server on this machine gets.

        smtp_port: 587, 465 or 25 where it is not given.

        jira_user: The account of the API token; without it the token is a personal access token of Jira Data Center.

        jira_rehearsal_issue: Where evidence goes outside live mode.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    slack_bot_token: _Word | None = Field(None, validation_alias="SLACK_BOT_TOKEN")
    slack_webhook_url: _Webhook | None = Field(None, validation_alias="SLACK_WEBHOOK_URL")
    slack_rehearsal_bot_token: _Word | None = Field(None, validation_alias="SLACK_REHEARSAL_BOT_TOKEN")
    slack_rehearsal_webhook_url: _Webhook | None = Field(None, validation_alias="SLACK_REHEARSAL_WEBHOOK_URL")
    slack_api_base: Annotated[str, AfterValidator(_slack_base)] = Field(
        "https://slack.com/api/", validation_alias="SLACK_API_BASE"
    )
    smtp_host: Annotated[str, AfterValidator(_host)] = Field("", validation_alias="SMTP_HOST")
    smtp_port: int | None = Field(None, gt=0, lt=65536, validation_alias="SMTP_PORT")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", validation_alias="SMTP_SECURITY")
    smtp_username: str = Field("", validation_alias="SMTP_USERNAME")
    smtp_password: SecretStr | None = Field(None, validation_alias="SMTP_PASSWORD")
    pagerduty_routing_key: _Word | None = Field(None, validation_alias="PAGERDUTY_ROUTING_KEY")
    pagerduty_rehearsal_routing_key: _Word | None = Field(None, validation_alias="PAGERDUTY_REHEARSAL_ROUTING_KEY")
    pagerduty_events_base: Annotated[str, AfterValidator(_events_base)] = Field(
        "https://events.pagerduty.com", validation_alias="PAGERDUTY_EVENTS_BASE"
    )

    jira_base_url: Annotated[str, AfterValidator(_jira_base)] = Field("", validation_alias="JIRA_BASE_URL")
    jira_user: str = Field("", validation_alias="JIRA_USER")
    jira_api_token: SecretStr | None = Field(None, validation_alias="JIRA_API_TOKEN")
    jira_rehearsal_issue: str = Field("", validation_alias="JIRA_REHEARSAL_ISSUE")

    @model_validator(mode="after")
    def _mail_is_protected(self) -> Messengers:
        if self.smtp_security == "none" and self.smtp_host and self.smtp_host not in LOOPBACK:
            raise ValueError("SMTP_SECURITY is none, which only a mail server on this machine may have")
        if bool(self.smtp_username) != (self.smtp_password is not None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD are given together or not at all")
        return self

    @model_validator(mode="after")
    def _rehearsal_has_its_own(self) -> Messengers:
        # Each of them *is* a place; a token is not, since the channel is named beside it.
        for name in ("slack_{}webhook_url", "pagerduty_{}routing_key"):
            live, own = getattr(self, name.format("")), getattr(self, name.format("rehearsal_"))
            if live is not None and own is not None and live.get_secret_value() == own.get_secret_value():
                aliases = [
                    str(type(self).model_fields[name.format(word)].validation_alias) for word in ("rehearsal_", "")
                ]
                raise ValueError(
                    f"{aliases[0]} is the same as {aliases[1]}, and a rehearsal must not reach live readers"
                )
        return self

    def slack_secrets(self, mode: Mode) -> tuple[str | None, str | None]:
        """Return the bot token and the webhook of *mode*, each None where there is none."""
        if mode is Mode.LIVE:
            return _plain(self.slack_bot_token), _plain(self.slack_webhook_url)
        return _plain(self.slack_rehearsal_bot_token), _plain(self.slack_rehearsal_webhook_url)

    def routing_key(self, mode: Mode) -> str | None:
        """Return PagerDuty's integration key of *mode*, or None."""
        return _plain(self.pagerduty_routing_key if mode is Mode.LIVE else self.pagerduty_rehearsal_routing_key)

    def mail_port(self) -> int:
        """Return the mail server's port."""
        return self.smtp_port or _PORTS[self.smtp_security]

    def messenger_secrets(self) -> list[str]:
        """Return every secret in here by value, for the redactor alone."""
        values = (getattr(self, name) for name in Messengers.model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]

    def messenger_values(self) -> dict[str, str]:
        """Return what is set here as the environment would say it, for a stage's kernel, which never needs the ticket system."""
        names = (name for name in Messengers.model_fields if not name.startswith("jira_"))
        values = {name: getattr(self, name) for name in names}
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in values.items()
            if value not in (None, "")
        }


# For settings that must send nothing, whatever the environment says.
NO_MESSENGERS: dict[str, Any] = {name: field.default for name, field in Messengers.model_fields.items()}


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
