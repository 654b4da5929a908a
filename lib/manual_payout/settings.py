"""
Configuration and secrets: the environment, and one reviewed TOML file for policy.

Secrets come from the environment or from a command that prints them, so that any secret manager works; they are never
parameters, never in the TOML file, and never shown.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from manual_payout.errors import SettingsError
from manual_payout.models import Mode

_PACKAGE = Path(__file__).resolve().parent
STRIPE_API = "https://api.stripe.com"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StripePolicy(_Section):
    """
    Which Stripe account pays, and how patiently it is asked.

    Attributes:
        mode: ``sandbox``, ``test`` or ``live``.

        platform_account: The platform's own account id; approvals bind to it.

        account_check: ``required`` refuses a key that does not show its account; ``if_visible`` warns.

        timeout_s: Of one HTTP attempt. Three attempts and their pauses must fit into the lease.
    """

    mode: Mode = Mode.SANDBOX
    platform_account: str = ""
    account_check: str = Field("required", pattern="^(required|if_visible)$")
    timeout_s: float = Field(30.0, gt=0, le=80)


class RequestPolicy(_Section):
    """Lifetimes in seconds, and the ceiling of one payout in minor units by currency."""

    request_lifetime_s: int = Field(24 * 3600, gt=0)
    approval_lifetime_s: int = Field(4 * 3600, gt=0)
    amount_minor_max: dict[str, int] = Field(default_factory=dict)
    reserve_minimum_minor: dict[str, int] = Field(default_factory=dict)


class LedgerPolicy(_Section):
    """How the two relations and the statuses are called in the marketplace's ledger (docs/ledger.md)."""

    payouts_relation: str = "manual_payout_due"
    balances_relation: str = "manual_payout_balance"
    claim_relation: str = ""
    failed_status: str = "failed"
    claimed_status: str = "claimed_by_fallback"
    paid_status: str = "paid"


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
    """Where the messages of step 5 go, and what they link to."""

    slack_channel: str = "#payments-alerts"
    support_from: str = "Support <support@marketplace.example>"
    incident_url: str = "https://tickets.example/browse/{incident_id}"


class Policy(_Section):
    """The reviewed policy file; where none is named, that of the demo is used, which knows only the sandbox."""

    stripe: StripePolicy = StripePolicy()
    request: RequestPolicy = RequestPolicy()
    ledger: LedgerPolicy = LedgerPolicy()
    settlement: SettlementPolicy = SettlementPolicy()
    messages: MessagePolicy = MessagePolicy()


class Settings(BaseModel):
    """
    The environment.

    Attributes:
        database_url: Our own tables.

        ledger_database_url: The marketplace's ledger; the same database when not given.

        home: Where ``runbooks/`` and ``outputs/`` are looked for.
    """

    # Only the names given below are read: a setting called `home` must not take the shell's HOME.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    fallback_key: SecretStr | None = Field(None, validation_alias="STRIPE_FALLBACK_SECRET_KEY")
    fallback_key_command: str = Field("", validation_alias="STRIPE_FALLBACK_SECRET_KEY_COMMAND")
    read_key: SecretStr | None = Field(None, validation_alias="STRIPE_READ_SECRET_KEY")
    read_key_command: str = Field("", validation_alias="STRIPE_READ_SECRET_KEY_COMMAND")
    stripe_api_base: str = Field(STRIPE_API, validation_alias="STRIPE_API_BASE")
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    ledger_database_url: SecretStr | None = Field(None, validation_alias="LEDGER_DATABASE_URL")
    home: Path = Field(Path(), validation_alias="MANUAL_PAYOUT_HOME")
    outputs: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_OUTPUTS")
    policy_file: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_POLICY")
    approvers_file: Path | None = Field(None, validation_alias="MANUAL_PAYOUT_APPROVERS")
    operator: str = Field("", validation_alias="MANUAL_PAYOUT_OPERATOR")
    policy: Policy = Policy()

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

        The default is one SQLite file beside the evidence: enough for one machine.
        """
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.outputs_dir / 'manual_payout.sqlite'}"

    def ledger_database_text(self) -> str:
        """Return the ledger's database URL, for the database driver alone."""
        if self.ledger_database_url is not None:
            return self.ledger_database_url.get_secret_value()
        return self.database_text()

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

    def approvers_path(self) -> Path:
        """
        Return the registry of people.

        Raises:
            SettingsError: None is configured and this is not the sandbox.
        """
        if self.approvers_file is not None:
            return self.approvers_file
        if self.mode is Mode.SANDBOX:
            return _PACKAGE / "demo" / "approvers.toml"
        raise SettingsError(
            f"MANUAL_PAYOUT_APPROVERS is not set in {self.mode} mode.",
            "Point it at the reviewed registry of people (see docs/configuration.md).",
        )


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
        file = settings.policy_file or _PACKAGE / "demo" / "policy.toml"
        settings = settings.model_copy(update={"policy": read_policy(file)})
    _check_address(settings)
    return settings


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
        return Policy.model_validate(tomllib.loads(path.read_text("utf-8")))
    except ValidationError as error:
        raise _settings_error(f"the policy file {path}", error) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"The policy file {path} cannot be read: {error}.", "Correct MANUAL_PAYOUT_POLICY or the file."
        ) from None


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
            f"{name} is not set.", f"Check the key out of the secret manager and export {name}, or set {name}_COMMAND."
        )
    # A key with a line break inside would end up in the text of the HTTP library's error.
    if not text.isascii() or not text.replace("_", "").isalnum():
        raise SettingsError(
            f"{name} does not look like a Stripe key.", "Export the key alone, without quotes or spaces."
        )
    return text


def _command_output(name: str, command: str) -> str:
    try:
        # A shell, because secret managers are called with pipes; the command is the operator's own configuration.
        run = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)  # noqa: S602
    except subprocess.TimeoutExpired:
        raise SettingsError(f"{name}_COMMAND took over 60 s.", "Run it by hand; it may be asking for input.") from None
    if run.returncode != 0:
        raise SettingsError(f"{name}_COMMAND ended with exit code {run.returncode}.", "Run it by hand and correct it.")
    return run.stdout


def _check_address(settings: Settings) -> None:
    host = urlsplit(settings.stripe_api_base).hostname or ""
    loopback = host in {"127.0.0.1", "localhost", "::1"}
    if settings.mode is Mode.SANDBOX and not loopback and settings.stripe_api_base != STRIPE_API:
        raise SettingsError(
            f"STRIPE_API_BASE: found {settings.stripe_api_base!r}, expected a loopback address in sandbox mode.",
            "Start `manual-payout sandbox` and export what it prints.",
        )
    if settings.mode is not Mode.SANDBOX and settings.stripe_api_base != STRIPE_API:
        raise SettingsError(
            f"STRIPE_API_BASE: found {settings.stripe_api_base!r}, expected {STRIPE_API} in {settings.mode} mode.",
            "Unset STRIPE_API_BASE, or set the mode to sandbox in the policy file.",
        )


def _settings_error(where: str, error: ValidationError) -> SettingsError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "a value"
    return SettingsError(f"{name} in {where} is wrong: {first['msg']}.", "Correct it (see docs/configuration.md).")
