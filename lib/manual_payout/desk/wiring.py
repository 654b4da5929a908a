"""
The operator's desk: everything that one run works with, wired once from the settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from manual_payout.database import engines
from manual_payout.database.clock import Clock, DatabaseClock, SandboxClock, find_skew
from manual_payout.database.spool import Spool
from manual_payout.database.store import Store
from manual_payout.desk.people import Registry, load_registry
from manual_payout.desk.secret_settings import named_secrets, passwords_in, refuse_our_words
from manual_payout.desk.settings import STRIPE_API, Settings, variables
from manual_payout.desk.signing import refuse_sandbox_keys
from manual_payout.domain.errors import ApprovalError, SecretError, SettingsError, StripeRefusedError
from manual_payout.domain.models import Kind, Mode, Request, folder_name, stream_of
from manual_payout.ledger import Ledger, LedgerMapping
from truthful_papermill.redaction import REMEDY as SECRET_REMEDY
from truthful_papermill.redaction import Redactor, Secret

if TYPE_CHECKING:
    from manual_payout.gateway import Gateway

T = TypeVar("T")

_KEY = "STRIPE_FALLBACK_SECRET_KEY"


@dataclass
class Desk:
    """
    What a run works with.

    Attributes:
        settings: The environment and the policy.

        clock: The one that judges expiry and windows.
    """

    settings: Settings
    clock: Clock
    store: Store
    ledger: Ledger
    registry: Registry
    stripe_address: str = field(default="")

    @cached_property
    def gateway(self) -> Gateway:
        """
        Stripe through the restricted fallback key.

        Raises:
            SettingsError: There is no key, it is malformed, or it is of the wrong mode.
        """
        return self._gateway(
            self.settings.fallback_secret(),
            _KEY,
            "Check out the key of this mode, or correct the mode in the policy file.",
        )

    @cached_property
    def watcher(self) -> Gateway:
        """Stripe through the read-only key where one is configured, else through the fallback key."""
        secret = self.settings.read_secret()
        if secret is None:
            return self.gateway
        return self._gateway(secret, "STRIPE_READ_SECRET_KEY", "Configure the read-only key of this mode.")

    def that_reads(self) -> Desk:
        """Return this desk with nothing but the key that reads: whatever is asked of it, no money can move."""
        other = replace(self)
        # The property of that name would open the key that pays.
        other.__dict__["gateway"] = self.watcher
        return other

    def read(self, ask: Callable[[Gateway], T]) -> T:
        """
        Ask Stripe about the platform's own objects: by the read-only key, and by the fallback key where that may not.

        So a monitor that was given nothing but a read-only key does its work with it.
        """
        from manual_payout.gateway import NOT_PERMITTED

        try:
            return ask(self.watcher)
        except StripeRefusedError as error:
            if error.code != NOT_PERMITTED or self.settings.read_secret() is None:
                raise
        return ask(self.gateway)

    @cached_property
    def redactor(self) -> Redactor:
        """
        What every byte of evidence goes through: it knows each secret of this run by value.

        Raises:
            SettingsError: There is no key, or a secret is too short to be told from ordinary text.
        """
        return self._redactor(self.settings.fallback_secret())

    @cached_property
    def redactor_at_hand(self) -> Redactor:
        """
        What everybody else's evidence goes through: like `redactor`, but nobody needs the key only to keep it out.

        Raises:
            SettingsError: A secret is too short to be told from ordinary text, or the command that prints the key failed.
        """
        configured = self.settings.fallback_key is not None or self.settings.fallback_key_command
        return self.redactor if configured else self._redactor(None)

    def _redactor(self, key: str | None) -> Redactor:
        printed = {_KEY: key, "STRIPE_READ_SECRET_KEY": self.settings.read_secret()}
        return Redactor([*secrets_of(self.settings), *(Secret(name, text) for name, text in printed.items() if text)])

    def require_keepable(self, *recorded: object) -> None:
        """
        Check that what is signed or digested holds no secret of this machine, since not a byte of it may be left out.

        Args:
            recorded: JSON, such as a request's statement.

        Raises:
            SecretError: It does; with the names of the variables for the terminal.
        """
        text = json.dumps(recorded, ensure_ascii=False, default=str)
        if self.redactor_at_hand.find(text) and (named := self.redactor_at_hand.variables_in(text)):
            raise SecretError(
                "A secret of this machine occurs in what was requested, approved or recorded.", SECRET_REMEDY, *named
            )

    def require_record_keepable(self, incident_id: str, ledger_payout_id: str) -> None:
        """
        Check as `require_keepable` everything on record for a payout; before anything runs, not when it has moved.

        Raises:
            SecretError: It holds a secret.

            EvidenceError: The journal's chain is broken.
        """
        events = self.store.events_of(stream_of(incident_id, ledger_payout_id))
        self.require_keepable(*(event.data for event in events))

    @cached_property
    def spool(self) -> Spool:
        """What this machine has noted while the database was away."""
        return Spool(self.settings.outputs_dir / "spool")

    def now(self) -> datetime:
        """The instant that judges."""
        return self.clock.now()

    @property
    def place(self) -> str:
        """The Stripe that is talked to, by its name."""
        if self.settings.mode is Mode.SANDBOX:
            return "local sandbox"
        # What stands behind a relay is not this run's to vouch for.
        where = "api.stripe.com" if self.stripe_address == STRIPE_API else "a relay on this machine"
        return f"{where}, {self.settings.mode} mode"

    def folder_path(self, incident_id: str, ledger_payout_id: str) -> Path:
        """Return where the evidence of one payout of one incident lies on this machine."""
        return self.settings.outputs_dir / stream_of(incident_id, ledger_payout_id)

    def payout_in(self, stream: str) -> str:
        """Return the ledger payout that a journal is about, as it was filed; where it tells of none, the folder's own name."""
        name = stream.partition("/")[2]
        filed = (
            event.data.get("statement", {}) for event in self.store.events_of(stream) if event.kind == "request_filed"
        )
        ids = (str(line["ledger_payout_id"]) for statement in filed for line in statement.get("lines", []))
        return next((one for one in ids if folder_name(one) == name), name)

    def open_requests(self, incident_id: str | None = None) -> list[Request]:
        """Return the requests that are in force, newest first: not withdrawn, nor ended by the policy as it is now."""
        rules, now = self.settings.policy.request, self.now()
        return [one for one in self.store.open_requests(incident_id) if now < rules.request_ends(one)]

    def open_payouts(self, incident_id: str, *kinds: Kind) -> set[str]:
        """Return the ledger payouts that the open requests of an incident are about; of these *kinds*, where any are named."""
        asked = [one for one in self.open_requests(incident_id) if not kinds or one.kind in kinds]
        return {line.ledger_payout_id for one in asked for line in one.lines}

    def clocks(self) -> str:
        """Say that this machine's clock and the database's disagree by over a minute; nothing where they agree."""
        skew = find_skew(self.clock)
        return f"{skew.sentence}." if skew is not None else ""

    def require_same_world(self, request: Request) -> None:
        """
        Check that *request* was filed for the mode and the platform account of this desk.

        Raises:
            ApprovalError: It was not; the sentence names both.
        """
        if request.mode is not self.settings.mode:
            raise ApprovalError(
                f"The request is for {request.mode} mode, this run is in {self.settings.mode} mode.",
                "Use the settings of that mode.",
            )
        if request.platform_account != self.settings.policy.stripe.platform_account:
            raise ApprovalError(
                f"The request is for account {request.platform_account}, the policy file names "
                f"{self.settings.policy.stripe.platform_account or 'none'}.",
                "Use the policy file of that account, or file a new request.",
            )

    def _gateway(self, key: str, name: str, remedy: str) -> Gateway:
        # It brings Stripe's SDK with it, which whoever only looks at our own tables does without.
        from manual_payout.gateway import Gateway, key_fits

        gateway = Gateway(key, base_url=self.stripe_address, timeout_s=self.settings.policy.stripe.timeout_s)
        if not key_fits(gateway.identity, self.settings.mode):
            raise SettingsError(f"{name} is a {gateway.identity}, but the mode is {self.settings.mode}.", remedy)
        return gateway


def open_desk(settings: Settings) -> Desk:
    """
    Wire everything; the databases are asked whether they are there and current, Stripe is not called yet.

    Raises:
        SettingsError: A setting is missing or contradicts another, or a secret is a word that evidence is made of.

        DatabaseError: A database is unreachable or not migrated.
    """
    urls = settings.database_text(), settings.ledger_database_text()
    settings.require_own_words()
    engine = engines.connect(urls[0], name="DATABASE_URL")
    engines.require_current(engine)
    ledger_engine = engines.connect(urls[1], name="LEDGER_DATABASE_URL")
    clock: Clock = DatabaseClock(engine)
    if settings.mode is Mode.SANDBOX:
        if settings.stripe_api_base == STRIPE_API:
            raise SettingsError(
                "The mode is sandbox but STRIPE_API_BASE is not set.",
                "Start `manual-payout sandbox` and export what it prints; or set the mode to test or live in the policy file.",
            )
        clock = SandboxClock(settings.stripe_api_base)
    registry = load_registry(
        settings.approvers_path(), settings.allowed_signers_path(), settings.policy.approvals.passkeys()
    )
    refuse_sandbox_keys(registry.signers, settings.mode)
    refuse_unfit_secrets(settings)
    return Desk(
        settings=settings,
        clock=clock,
        store=Store(engine, clock),
        ledger=Ledger(ledger_engine, _mapping(settings)),
        registry=registry,
        stripe_address=settings.stripe_api_base,
    )


def secrets_of(settings: Settings) -> list[Secret]:
    """Return every secret that is at hand: no command is run to keep out of the evidence what a run never sees."""
    held = [(alias, getattr(settings, name)) for name, alias in variables().items() if "database_url" not in name]
    found = [Secret(alias, one.get_secret_value().strip()) for alias, one in held if isinstance(one, SecretStr)]
    urls = {settings.ledger_database_text(): "LEDGER_DATABASE_URL", settings.database_text(): "DATABASE_URL"}
    found += [Secret(alias, text.strip()) for url, alias in urls.items() for text in passwords_in(url)]
    return list(dict.fromkeys([*named_secrets(os.environ), *found]))


def refuse_unfit_secrets(settings: Settings) -> None:
    """
    Refuse a secret that is one of our words, or of the names and values in the policy and the registry of people.

    Raises:
        SecretError: One is; with the name of its variable for the terminal.
    """
    files = (settings.approvers_path(), settings.allowed_signers_path(), settings.inventory_path())
    texts = [file.read_text("utf-8", errors="replace") for file in files if file is not None and file.is_file()]
    refuse_our_words(secrets_of(settings), settings.policy.model_dump_json(), *texts)


def _mapping(settings: Settings) -> LedgerMapping:
    names = settings.policy.ledger
    return LedgerMapping(
        due_relation=names.payouts_relation,
        balance_relation=names.balances_relation,
        claim_relation=names.claim_relation,
        failed=names.failed_status,
        claimed=names.claimed_status,
        paid=names.paid_status,
    )


# Tells a kernel that the evidence folder is held for it.
_RUNNER = "MANUAL_PAYOUT_RUNNER"


def kernel_environment(settings: Settings) -> dict[str, str]:
    """
    Return the environment of a stage's kernel: what these settings say, and of ours only what is none of theirs.

    Paths are made absolute, since a kernel runs in a folder of its own.
    """
    secrets = {name: getattr(settings, name) for name in ("fallback_key", "read_key")}
    values = {
        "fallback_key_command": settings.fallback_key_command,
        "read_key_command": settings.read_key_command,
        "stripe_api_base": settings.stripe_api_base,
        "database_url": engines.absolute_url(settings.database_text()),
        "ledger_database_url": engines.absolute_url(settings.ledger_database_text()),
        "home": str(settings.runbooks_dir.parent),
        "outputs": str(settings.outputs_dir),
        "policy_file": str(settings.policy_file.resolve()) if settings.policy_file else "",
        "approvers_file": str(settings.approvers_file.resolve()) if settings.approvers_file else "",
        "allowed_signers_file": str(settings.allowed_signers_file.resolve()) if settings.allowed_signers_file else "",
        "inventory_file": str(settings.inventory_file.resolve()) if settings.inventory_file else "",
    } | {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    values |= settings.messenger_values()
    names = variables()
    others = {name: value for name, value in os.environ.items() if name not in names.values()}
    runner = {_RUNNER: str(os.getpid())}
    return others | {names[name]: value for name, value in values.items() if value} | runner


def runner_process() -> int:
    """Return the process that runs this kernel's notebook; 0 in one that papermill or JupyterLab has started."""
    told = os.environ.get(_RUNNER, "")
    return int(told) if told.isascii() and told.isdigit() else 0


def papermill_output() -> Path | None:
    """Return the file of the notebook that papermill alone runs in this kernel, where its engine has told."""
    told = os.environ.get("PAPERMILL_OUTPUT_PATH", "")
    return Path(told) if told and not runner_process() else None


def rehearsal_environment(settings: Settings, keys: Mapping[str, str]) -> dict[str, str]:
    """
    Return the environment of the kernel that plays a rehearsal: this process's, with keys by value and paths made absolute.

    So no command that prints a key is run twice, and a kernel that runs in a folder of its own finds the user's files.

    Args:
        keys: By the names of their settings, such as ``rehearsal_key``; of the others none is handed on.
    """
    names = variables()
    ours = ("rehearsal_key", "fallback_key", "read_key")
    dropped = {names[name] for one in ours for name in (one, f"{one}_command")}
    files = ("policy_file", "approvers_file", "allowed_signers_file", "signing_key", "inventory_file")
    paths = {name: found.resolve() for name in files if (found := getattr(settings, name)) is not None}
    given = {"home": settings.runbooks_dir.parent.resolve(), "outputs": settings.outputs_dir.resolve(), **paths, **keys}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {names[name]: str(value) for name, value in given.items()}
