"""
Configuration and secrets: the environment, and one reviewed TOML file for policy.

Secrets come from the environment or from a command that prints them, so that any secret manager works; they are never
parameters, never in the TOML file, and never shown.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import tomllib
from datetime import datetime, timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from manual_payout.desk.messengers import Messengers
from manual_payout.desk.signatures.passkeys import ANY_LOCALHOST, PasskeyRules
from manual_payout.domain.addresses import LOOPBACK, is_address
from manual_payout.domain.errors import ManualPayoutError, SettingsError
from manual_payout.domain.models import Mode
from manual_payout.domain.money import AMOUNT_MINOR_MAX, exponent
from truthful_papermill.plain_text import find_invisible

if TYPE_CHECKING:
    from manual_payout.domain.models import Approval, Request

_PACKAGE = Path(__file__).resolve().parents[1]
_SANDBOX = Path(__file__).resolve().parent / "sandbox"

# The people of the sandbox; anybody can make their keys.
SANDBOX_APPROVERS = _SANDBOX / "approvers.toml"
STRIPE_API = "https://api.stripe.com"


# Thirty days: an approval or request that stands longer says nothing about the incident any more.
_LIFETIME_S_MAX = 30 * 24 * 3600


# A host that has a name: a passkey belongs to no address.
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")

# What a Stripe key begins with; and a shorter secret may be somebody's name by chance.
_KEY = re.compile(r"(?:sk|rk|rkcs)_(?:live|test)_[A-Za-z0-9]{8}")
_PASTED_LENGTH_MIN = 12


def _one_line(text: str) -> str:
    if not text or find_invisible(text):
        raise ValueError("one line of text is expected")
    return text


def _currencies(amounts: dict[str, int]) -> dict[str, int]:
    for currency in amounts:
        try:
            exponent(currency)
        except ManualPayoutError:
            # A ceiling under a name that no payout has would be no ceiling.
            raise ValueError(
                f"{currency!r} is not a currency that Stripe supports, in lower case such as usd"
            ) from None
    return amounts


def _address(text: str) -> str:
    address = parseaddr(text)[1]
    # It takes the first of two, and drops the rest.
    if not is_address(address) or not (text == address or text.endswith(f"<{address}>")):
        raise ValueError("an email address such as Support <support@marketplace.example> is expected")
    return text


def _incident_url(text: str) -> str:
    try:
        filled = text.format(incident_id="INC-123")
    except (KeyError, IndexError, ValueError, AttributeError):
        filled = ""
    if "INC-123" not in filled or urlsplit(filled).scheme not in {"http", "https"}:
        raise ValueError("an address with {incident_id} in it, and no other name in braces, is expected")
    return text


def _plain_address(text: str) -> str:
    if text and parseaddr(text)[1] != _address(text):
        raise ValueError("one address without a name is expected")
    return text


_Line = Annotated[str, AfterValidator(_one_line)]
_ChannelId = Annotated[str, Field(pattern="^([CG][A-Z0-9]{6,})?$")]
_Minor = Annotated[int, Field(ge=0, le=AMOUNT_MINOR_MAX)]
_MinorByCurrency = Annotated[dict[str, _Minor], AfterValidator(_currencies)]


class _Section(BaseModel):
    # Strict: "3" is no number and 1 is not true, in a file that somebody reviewed.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StripePolicy(_Section):
    """
    Which Stripe account pays, and how patiently it is asked.

    Attributes:
        mode: ``sandbox``, ``test`` or ``live``.

        platform_account: The platform's own account id; approvals bind to it.

        account_check: ``required`` refuses a key that does not show its account; ``if_visible`` warns.

        timeout_s: Of one HTTP attempt. Three attempts and their pauses must fit into the lease.

        relay: Whether ``STRIPE_API_BASE`` may be a relay on this machine, in ``test`` mode alone. A rehearsal writes it into
            the policy file of its own; a reviewed one has no use for it.
    """

    mode: Annotated[Mode, Field(strict=False)] = Mode.SANDBOX
    platform_account: str = Field("", pattern="^(acct_[A-Za-z0-9]+)?$")
    account_check: str = Field("required", pattern="^(required|if_visible)$")
    timeout_s: float = Field(30.0, gt=0, le=80)
    relay: bool = False

    @model_validator(mode="after")
    def _relays_are_for_rehearsals(self) -> StripePolicy:
        if self.relay and self.mode is not Mode.TEST:
            raise ValueError(f"a relay is for test mode alone, and the mode is {self.mode}")
        return self


class RequestPolicy(_Section):
    """
    How long requests and approvals stand, and what one payout may come to.

    A policy that has become stricter since something was filed or approved counts for it too: what stands is asked here,
    and never of what the request or the approval says alone.

    Attributes:
        amount_minor_max: The ceiling of one payout in minor units, by currency.

        reserve_minimum_minor: The least reserve in minor units, by currency, where the ledger asks for less.
    """

    request_lifetime_s: int = Field(24 * 3600, gt=0, le=_LIFETIME_S_MAX)
    approval_lifetime_s: int = Field(4 * 3600, gt=0, le=_LIFETIME_S_MAX)
    amount_minor_max: _MinorByCurrency = Field(default_factory=dict)
    reserve_minimum_minor: _MinorByCurrency = Field(default_factory=dict)

    def request_ends(self, request: Request) -> datetime:
        """Say from which instant on *request* is no longer in force: as it says, or earlier by this policy."""
        return min(request.expires_at, request.filed_at + timedelta(seconds=self.request_lifetime_s))

    def approval_ends(self, approval: Approval, request: Request) -> datetime:
        """Say from which instant on *approval* no longer stands: as it says, earlier by this policy, or with *request*."""
        by_policy = approval.approved_at + timedelta(seconds=self.approval_lifetime_s)
        return min(approval.expires_at, by_policy, self.request_ends(request))


# For what has begun, and was judged by the policy of that moment: everything stands for as long as it says.
AS_WRITTEN = RequestPolicy(request_lifetime_s=_LIFETIME_S_MAX, approval_lifetime_s=_LIFETIME_S_MAX)


def _origin(text: str) -> str:
    parts = urlsplit(text)
    host = parts.hostname or ""
    try:
        port = parts.port
    except ValueError:
        port = 0
    name = bool(_HOST.fullmatch(host)) and not host.rpartition(".")[2].isdigit()
    plain = text == f"{parts.scheme}://{host}{f':{port}' if port else ''}" and port not in (
        0,
        {"http": 80}.get(parts.scheme, 443),
    )
    if not (name and plain and (parts.scheme == "https" or (parts.scheme, host) == ("http", "localhost"))):
        raise ValueError("a page's origin as browsers write it is expected, such as https://payouts.example.com")
    return text


class ApprovalsPolicy(_Section):
    """
    How approvals may be signed in a browser.

    Attributes:
        passkeys_max: How many of the two approvals may be by passkey: an authenticator shows nothing of what it signs, so that
            by default the other one comes from a terminal. In the sandbox both may.

        origins: Scheme, host and port of the pages at which a passkey may sign. In the sandbox, where none is named, those
            that this machine serves to itself.
    """

    passkeys_max: int = Field(1, ge=0, le=2)
    origins: list[Annotated[str, AfterValidator(_origin)]] = Field(default_factory=list, max_length=20)

    def passkeys(self) -> PasskeyRules:
        """Say which passkeys count, for whoever judges signatures."""
        return PasskeyRules(tuple(self.origins), self.passkeys_max)


class LedgerPolicy(_Section):
    """
    How the two relations and the statuses are called in the marketplace's ledger (docs/ledger.md).

    Attributes:
        balance_age_max_s: How old a studio's balance may be when money is sent on its word. A nightly job and two hours.
    """

    payouts_relation: _Line = "manual_payout_due"
    balances_relation: _Line = "manual_payout_balance"
    claim_relation: str = ""
    failed_status: _Line = "failed"
    claimed_status: _Line = "claimed_by_fallback"
    paid_status: _Line = "paid"
    balance_age_max_s: int = Field(26 * 3600, gt=0, le=_LIFETIME_S_MAX)


class SettlementPolicy(_Section):
    """
    When a payout counts as settled, and how patiently it is watched.

    Attributes:
        done_rung: The rung of the ladder that ends the watch.

        poll_first_s: The first pause; each next one is twice as long, up to `poll_pause_max_s`.

        poll_limit_s: How long one watch may take in all.
    """

    done_rung: str = Field("paid_to_bank", pattern="^(accepted|settled_on_platform|usable_by_studio|paid_to_bank)$")
    poll_first_s: float = Field(60.0, gt=0)
    poll_pause_max_s: float = Field(6 * 3600.0, gt=0)
    poll_limit_s: float = Field(90.0, ge=0)


class MessagePolicy(_Section):
    """
    Where messages go, and what they link to. Outside live mode only the rehearsal's own channel and mailbox count.

    Attributes:
        slack_channel: The channel's name.

        slack_channel_id: Its id, which a renaming does not change, and by which a lost answer can be looked up.

        rehearsal_email: Who reads the studio's email in a rehearsal; nobody does where this is empty.

        timeout_s: Of one step of a delivery. A service that takes longer is tried again later.
    """

    slack_channel: _Line = "#payments-alerts"
    slack_channel_id: _ChannelId = ""
    rehearsal_slack_channel: _Line = "#payments-rehearsal"
    rehearsal_slack_channel_id: _ChannelId = ""
    rehearsal_email: Annotated[str, AfterValidator(_plain_address)] = ""
    timeout_s: float = Field(10.0, gt=0, le=60)
    support_from: Annotated[_Line, AfterValidator(_address)] = "Support <support@marketplace.example>"
    incident_url: Annotated[_Line, AfterValidator(_incident_url)] = "https://tickets.example/browse/{incident_id}"

    @model_validator(mode="after")
    def _rehearsal_has_its_own(self) -> MessagePolicy:
        same_name = self.slack_channel.lstrip("#") == self.rehearsal_slack_channel.lstrip("#")
        if same_name or (self.slack_channel_id and self.slack_channel_id == self.rehearsal_slack_channel_id):
            raise ValueError("a rehearsal needs another Slack channel than the live one")
        return self


def _page_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.fragment:
        raise ValueError("the address of a page, https://…, without a # is expected")
    return text


class MonitoringPolicy(_Section):
    """
    What monitoring does not accept (docs/monitoring.md has the rules).

    Attributes:
        payouts_max: How many manual payouts within `window_days` are no news, in all and to one studio.

        rehearsal_at_stripe: Whether only a rehearsal against Stripe's test mode counts, for the monitor and for a live run.

        automation_metadata_key: A metadata key that every transfer of the automation carries at Stripe; without it nobody
            can tell the automation's transfers from those that somebody made in the Dashboard.

        runbook_url: Where docs/monitoring.md is read; alerts link to its headings.
    """

    window_days: int = Field(30, gt=0, le=90)
    payouts_max: int = Field(1, ge=0)
    unknown_after_s: int = Field(600, ge=60)
    unsettled_after_days: int = Field(5, gt=0)
    rotation_after_days: int = Field(2, gt=0)
    rehearsal_every_days: int = Field(92, gt=0)
    rehearsal_at_stripe: bool = False
    access_review_every_days: int = Field(92, gt=0)
    approver_rehearsal_days: int = Field(365, gt=0)
    automation_metadata_key: str = Field("", max_length=40)
    runbook_url: Annotated[_Line, AfterValidator(_page_url)] = "https://runbooks.example/manual-payout/monitoring"


class Policy(_Section):
    """The reviewed policy file; where none is named, that of the demo is used, which knows only the sandbox."""

    stripe: StripePolicy = StripePolicy()
    request: RequestPolicy = RequestPolicy()
    approvals: ApprovalsPolicy = ApprovalsPolicy()
    ledger: LedgerPolicy = LedgerPolicy()
    settlement: SettlementPolicy = SettlementPolicy()
    messages: MessagePolicy = MessagePolicy()
    monitoring: MonitoringPolicy = MonitoringPolicy()

    @model_validator(mode="after")
    def _localhost_is_the_sandboxs(self) -> Policy:
        """Any program of a machine can serve its localhost; in the sandbox, whose keys prove nothing, that is no harm."""
        if self.stripe.mode is not Mode.SANDBOX:
            if local := [one for one in self.approvals.origins if urlsplit(one).hostname == "localhost"]:
                raise ValueError(f"the origin {local[0]} is for the sandbox alone, and the mode is {self.stripe.mode}")
            return self
        more: dict[str, Any] = {"passkeys_max": 2, "origins": [ANY_LOCALHOST]}
        named = {name: getattr(self.approvals, name) for name in self.approvals.model_fields_set}
        # The fields of a frozen model are set once, here.
        object.__setattr__(self, "approvals", ApprovalsPolicy.model_construct(**more | named))
        return self


class Settings(Messengers):
    """
    The environment.

    Attributes:
        database_url: Our own tables.

        ledger_database_url: The marketplace's ledger; in the sandbox the same database when not given.

        home: Where ``runbooks/`` and ``outputs/`` are looked for.

        signing_key: The file of the key with which whoever runs this signs; else an agent is asked.
    """

    # Only the names given below are read: a setting called `home` must not take the shell's HOME.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    fallback_key: SecretStr | None = Field(None, validation_alias="STRIPE_FALLBACK_SECRET_KEY")
    fallback_key_command: str = Field("", validation_alias="STRIPE_FALLBACK_SECRET_KEY_COMMAND")
    read_key: SecretStr | None = Field(None, validation_alias="STRIPE_READ_SECRET_KEY")
    read_key_command: str = Field("", validation_alias="STRIPE_READ_SECRET_KEY_COMMAND")
    rehearsal_key: SecretStr | None = Field(None, validation_alias="STRIPE_REHEARSAL_SECRET_KEY")
    rehearsal_key_command: str = Field("", validation_alias="STRIPE_REHEARSAL_SECRET_KEY_COMMAND")
    stripe_api_base: str = Field(STRIPE_API, validation_alias="STRIPE_API_BASE")
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    ledger_database_url: SecretStr | None = Field(None, validation_alias="LEDGER_DATABASE_URL")
    home: Path = Field(Path(), validation_alias="MANUAL_PAYOUT_HOME")
    outputs: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_OUTPUTS")
    policy_file: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_POLICY")
    approvers_file: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_APPROVERS")
    allowed_signers_file: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_ALLOWED_SIGNERS")
    signing_key: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_SIGNING_KEY")
    inventory_file: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_INVENTORY")
    operator: str = Field("", validation_alias="MANUAL_PAYOUT_OPERATOR")
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _secrets_are_where_they_belong(self) -> Settings:
        """A user's name, or a host's, is sent and shown as it is; a secret that was pasted there would be."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        secrets = {value.get_secret_value().strip() for value in fields.values() if isinstance(value, SecretStr)}
        secrets |= {password for url in (self.database_url, self.ledger_database_url) for password in _password(url)}
        secrets = {secret for secret in secrets if len(secret) >= _PASTED_LENGTH_MIN}
        for name in Messengers.model_fields:
            if isinstance(fields[name], str) and (fields[name].strip() in secrets or _KEY.match(fields[name])):
                raise ValueError(f"{variables()[name]} holds a secret, which belongs in a variable of its own")
        return self

    @property
    def mode(self) -> Mode:
        """Which world this configuration is for."""
        return self.policy.stripe.mode

    @property
    def outputs_dir(self) -> Path:
        """Where evidence folders are made."""
        return (self.outputs or project_root(self.home) / "outputs").resolve()

    @property
    def runbooks_dir(self) -> Path:
        """Where the reviewed templates are: the repository's, or the copy inside an installed package."""
        here = project_root(self.home) / "runbooks"
        return here if here.is_dir() else _PACKAGE / "runbooks"

    def database_text(self) -> str:
        """
        Return our database's URL, for the database driver alone.

        In the sandbox the default is one SQLite file beside the evidence: enough for one machine.

        Raises:
            SettingsError: None is configured and this is not the sandbox.
        """
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        self._require_sandbox("DATABASE_URL", "the URL of the database that holds the payouts")
        # SQLAlchemy costs more to import than all settings.
        from manual_payout.database.engines import sqlite_url

        return sqlite_url(self.outputs_dir / "manual_payout.sqlite")

    def ledger_database_text(self) -> str:
        """
        Return the ledger's database URL, for the database driver alone; in the sandbox it is our own by default.

        Raises:
            SettingsError: None is configured and this is not the sandbox.
        """
        if self.ledger_database_url is not None:
            return self.ledger_database_url.get_secret_value()
        self._require_sandbox("LEDGER_DATABASE_URL", "the URL of the marketplace's ledger")
        return self.database_text()

    def require_own_words(self) -> None:
        """
        Check that whoever reads a live message finds the marketplace's own sender and pages in it, not the demo's.

        Raises:
            SettingsError: An entry of the policy file is left out that a configured messenger would send.
        """
        sends_mail = self.smtp_host and self.mode is Mode.LIVE
        tells = self.mode is Mode.LIVE and (any(self.slack_secrets(self.mode)) or self.routing_key(self.mode))
        needed = {
            "messages.support_from": (sends_mail, self.policy.messages),
            "messages.incident_url": (tells, self.policy.messages),
            "monitoring.runbook_url": (tells, self.policy.monitoring),
        }
        for name, (sent, section) in needed.items():
            default = name.partition(".")[2]
            if sent and default not in section.model_fields_set:
                raise SettingsError(
                    f"{name} is not in the policy file in live mode: found nothing, expected the marketplace's own, not "
                    f"{getattr(section, default)}.",
                    f"Set {name} in the file that MANUAL_PAYOUT_POLICY names.",
                )

    def _require_sandbox(self, name: str, expected: str) -> None:
        """Refuse a default that is for the sandbox: elsewhere it would look like a database in which nothing ever happened."""
        if self.mode is not Mode.SANDBOX:
            raise SettingsError(
                f"{name} is not set in {self.mode} mode: found nothing, expected {expected}.",
                f"Export {name} (see docs/configuration.md).",
            )

    def fallback_secret(self) -> str:
        """
        Return the restricted fallback key, for the Stripe client alone.

        Raises:
            SettingsError: There is none, it is malformed, or the command that prints it failed.
        """
        return _secret("STRIPE_FALLBACK_SECRET_KEY", self.fallback_key, self.fallback_key_command)

    def read_secret(self) -> str | None:
        """Return the read-only key that watches settlement, or None where none is configured."""
        if self.read_key is None and not self.read_key_command:
            return None
        return _secret("STRIPE_READ_SECRET_KEY", self.read_key, self.read_key_command)

    def rehearsal_secret(self) -> str:
        """
        Return the full test key with which a rehearsal seeds Stripe's test mode, for the seeding alone.

        Raises:
            SettingsError: As for `fallback_secret`.
        """
        return _secret("STRIPE_REHEARSAL_SECRET_KEY", self.rehearsal_key, self.rehearsal_key_command)

    def approvers_path(self) -> Path:
        """
        Return the registry of people.

        Raises:
            SettingsError: None is configured and this is not the sandbox.
        """
        if self.approvers_file is not None:
            return self.approvers_file
        if self.mode is Mode.SANDBOX:
            # With passkeys that were taken in; of the sandbox alone, whose keys prove nothing anyway.
            own = self.sandbox_registry / SANDBOX_APPROVERS.name
            return own if own.is_file() else SANDBOX_APPROVERS
        raise SettingsError(
            f"MANUAL_PAYOUT_APPROVERS is not set in {self.mode} mode.",
            "Point it at the reviewed registry of people (see docs/configuration.md).",
        )

    @property
    def sandbox_registry(self) -> Path:
        """Where `keys take` keeps the sandbox's own copy of people and keys."""
        return self.outputs_dir / "registry"

    def allowed_signers_path(self) -> Path:
        """
        Return the file that says whose key is whose: beside the registry of people unless it is named.

        Raises:
            SettingsError: As for `approvers_path`.
        """
        return self.allowed_signers_file or self.approvers_path().with_name("allowed_signers")

    def inventory_path(self) -> Path | None:
        """Return the inventory of credentials and reviews, or None where none is configured."""
        if self.inventory_file is None and self.mode is Mode.SANDBOX:
            return _SANDBOX / "inventory.toml"
        return self.inventory_file


def load_settings(**overrides: Any) -> Settings:
    """
    Read the environment and the policy file.

    Raises:
        SettingsError: A value is malformed, the policy file cannot be read, or the mode contradicts the address.
    """
    given = {name: os.environ[name] for name in variables().values() if os.environ.get(name)}
    given = {name: value for name, value in given.items() if name not in {variables().get(key) for key in overrides}}
    try:
        settings = Settings.model_validate(given | overrides)
    except ValidationError as error:
        raise _settings_error("the environment", error) from None
    if "policy" not in overrides:
        file = settings.policy_file or _SANDBOX / "policy.toml"
        settings = settings.model_copy(update={"policy": read_policy(file)})
    return settings.model_copy(update={"stripe_api_base": _checked_address(settings)})


def variables() -> dict[str, str]:
    """Name the environment variable of every setting that has one."""
    return {
        name: str(field.validation_alias) for name, field in Settings.model_fields.items() if field.validation_alias
    }


def read_policy(path: Path) -> Policy:
    """
    Read the reviewed policy file.

    Raises:
        SettingsError: It cannot be read, is not TOML, or has an unknown or malformed entry.
    """
    try:
        return Policy.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except ValidationError as error:
        raise _settings_error(f"the policy file {path}", error) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"The policy file {path} cannot be read: {_why(error)}.", "Correct MANUAL_PAYOUT_POLICY or the file."
        ) from None


def _why(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error).rstrip(".")


def project_root(home: Path) -> Path:
    """Find the folder that holds ``runbooks/``: *home*, or the checkout this package lies in, or here."""
    if home != Path():
        return home.resolve()
    checkout = _PACKAGE.parent.parent
    return checkout if (checkout / "runbooks").is_dir() else Path.cwd()


def _secret(name: str, value: SecretStr | None, command: str) -> str:
    if value is None and command:
        value = SecretStr(_command_output(name, command))
    text = value.get_secret_value().strip() if value is not None else ""
    if not text:
        raise SettingsError(
            f"{name} is not set." if not command else f"{name}_COMMAND printed nothing.",
            f"Check the key out of the secret manager and export {name}, or set {name}_COMMAND.",
        )
    # A key with a line break inside would end up in the text of the HTTP library's error.
    if not text.isascii() or not text.replace("_", "").isalnum():
        raise SettingsError(
            f"{name} does not look like a Stripe key: {_blemish(text)}.",
            "Export the key alone, without quotes or spaces.",
        )
    return text


def _blemish(text: str) -> str:
    """Say what is wrong with a key without showing any of it."""
    if len(text.split()) > 1:
        return f"it holds {'a line break' if len(text.splitlines()) > 1 else 'a space'}"
    return "it stands in quotes" if text[0] in "\"'" else "it holds other characters than letters, digits and _"


def _command_output(name: str, command: str) -> str:
    try:
        # A shell, because secret managers are called with pipes; the command is the operator's own configuration.
        run = subprocess.run(  # noqa: S602
            command, shell=True, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(f"{name}_COMMAND took over 60 s.", "Run it by hand; it may be asking for input.") from None
    if run.returncode != 0:
        # What it printed is not shown: it may be half a key.
        raise SettingsError(f"{name}_COMMAND ended with exit code {run.returncode}.", "Run it by hand and correct it.")
    return run.stdout


def _checked_address(settings: Settings) -> str:
    """Return the address of Stripe without a slash at its end, if it is one that the mode may use."""
    found = settings.stripe_api_base.rstrip("/")
    if found == STRIPE_API:
        return found
    if settings.mode is not Mode.SANDBOX and not settings.policy.stripe.relay:
        raise SettingsError(
            f"STRIPE_API_BASE is set to another address than {STRIPE_API} in {settings.mode} mode.",
            "Unset STRIPE_API_BASE, or set the mode to sandbox in the policy file.",
        )
    try:
        parts: SplitResult | None = urlsplit(found)
        whole = parts is not None and parts.port is not None and parts.path == parts.query == parts.fragment == ""
    except ValueError:
        # A port that is no number, or half a pair of brackets.
        parts, whole = None, False
    if parts is None or parts.scheme != "http" or parts.hostname not in LOOPBACK or not whole or parts.username:
        raise SettingsError(
            f"STRIPE_API_BASE is not a loopback address with a port, which {settings.mode} mode expects: http://127.0.0.1:12111.",
            "Start `manual-payout sandbox` and export what it prints.",
        )
    return found


def _password(url: SecretStr | None) -> list[str]:
    try:
        found = urlsplit(url.get_secret_value() if url is not None else "").password
    except ValueError:
        # Not even a URL; whoever opens the database will say so.
        found = None
    return [unquote(found)] if found else []


# Tables that the policy file had once: why there is none now, and what to do instead.
_GONE = {
    "break_glass": (
        "a payout needs two approvals, always.",
        "Delete the table; docs/approvals.md says how to have several approvers of each team.",
    )
}


def _settings_error(where: str, error: ValidationError) -> SettingsError:
    first = error.errors(include_input=False, include_url=False)[0]
    names = [str(part) for part in first["loc"]]
    name = ".".join(names) or "a value"
    if first["type"] == "extra_forbidden":
        if names[0] in _GONE:
            return SettingsError(f"[{names[0]}] in {where} is gone: {_GONE[names[0]][0]}", _GONE[names[0]][1])
        near = difflib.get_close_matches(names[-1], _entries(names[:-1]), n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of: {', '.join(_entries(names[:-1]))}."
        return SettingsError(f"{name} in {where} is not a known entry.", hint)
    # Nothing of the value itself is shown: it may be a secret.
    reason = str(first.get("ctx", {}).get("error") or first["msg"]).rstrip(".")
    return SettingsError(f"{name} in {where} is wrong: {reason}.", "Correct it (see docs/configuration.md).")


def _entries(section: list[str]) -> list[str]:
    """Name the entries of the policy file, or of one of its sections."""
    fields = Policy.model_fields
    if not section:
        return list(fields)
    kind = fields[section[0]].annotation if section[0] in fields else None
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
