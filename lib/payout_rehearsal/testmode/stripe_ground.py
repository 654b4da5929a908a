"""The place of a rehearsal in Stripe's test mode: seeded, wired, played on, and tidied up as far as Stripe lets anybody."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from manual_payout.database import engines
from manual_payout.database.clock import Clock, DatabaseClock
from manual_payout.desk.messengers import NO_MESSENGERS
from manual_payout.desk.settings import STRIPE_API, Settings
from manual_payout.desk.signatures import SigningKey
from manual_payout.desk.wiring import Desk, open_desk
from manual_payout.domain.errors import NotFinishedError, ParameterError
from manual_payout.domain.intent import transfer_group
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import Parameters
from manual_payout.gateway import Gateway
from manual_payout.ledger import PayoutDue
from manual_payout.transfer.settlement import PAYOUT_METADATA_KEY, RUNG_NEEDS, RungName
from payout_rehearsal.demo import automation, incident
from payout_rehearsal.demo.ledger import create_demo_ledger
from payout_rehearsal.testmode import relay
from payout_rehearsal.testmode.keys import RehearsalKeys, find_platform, rehearsal_keys
from payout_rehearsal.testmode.people import Cast, make_cast
from payout_rehearsal.testmode.policy import rehearsal_policy, write_policy
from payout_rehearsal.testmode.scenes import (
    NOBODYS_ACCOUNT,
    SCENES,
    TestModeScene,
    cases_of,
    closing_of,
    due,
    ledger_of,
    needed,
    scene_name,
    scenes_of,
)
from payout_rehearsal.testmode.seeding import CURRENCY, Patience, Seeded, Seeder

_SEEDING_TIMEOUT_S = 30.0
# Real seconds; the kernel is killed as soon as its intent is on record, which takes far less.
_HELD_S = 10.0
# A dry run fits into it, on a slow machine too.
SHORT_APPROVAL_S = 90

# The one scene that cannot be seen without a read of a connected account.
_FAILS = "payout_fails"


@dataclass
class StripeGround:
    """
    Stripe's test mode, ready for a rehearsal.

    Attributes:
        name: What ``--target`` calls it.

        desk: Settings and clock of this rehearsal, and a database of its own.

        cast: Who plays, with the keys they sign with.

        pause_s: How long people take between two steps: not at all, because waiting is real here.

        short_approval_s: How long an approval stands that is meant to go stale; a dry run fits into it.

        changes: What of the user's policy is different here, in sentences.

        studios: The connected account of each scene.

        blind: Why a failing payout to the bank cannot be seen with the key that watches settlement; empty where it can be.
    """

    desk: Desk
    changes: tuple[str, ...]
    studios: dict[str, Seeded]
    cast: Cast
    blind: str
    short_approval_s: int
    _account: str
    _cases: dict[str, Parameters] = field(repr=False)
    _seeder: Seeder = field(repr=False)
    _books: Gateway = field(repr=False)
    _relay: relay.Relay = field(repr=False)
    name: str = "stripe"
    pause_s: float = 0.0

    def case(self, scene: str) -> Parameters:
        """
        Return the incident of one scene: its own studio, ledger payout and connected account.

        Raises:
            ParameterError: There is no such scene here.
        """
        found = self._cases.get(scene_name(scene))
        if found is None:
            raise ParameterError("scene", scene, f"one of {', '.join(self._cases)}")
        return found

    def closing(self) -> dict[str, str | bool]:
        """Return what 6-close is told; its dates are judged by the real clock here."""
        return closing_of(self.desk.now(), self.desk.settings.policy.monitoring.access_review_every_days)

    def unseen(self, scene: str) -> str:
        """Say why what a scene comes to cannot be seen here, and what would show it; empty where all of it can be."""
        return self.blind if scene_name(scene) == _FAILS else ""

    @property
    def left_behind(self) -> str:
        """What outlasts the rehearsal at Stripe, in a sentence."""
        return _left_behind(self._account, self.studios)

    def key_of(self, handle: str) -> SigningKey:
        """Return the key with which a person of this rehearsal signs."""
        return self.cast.key_of(handle)

    def lose_answer(self) -> None:
        """Let the next transfer be made, lose its answer, and leave the question that follows at once unanswered too."""
        self._relay.lose_next_transfer_answer(then_silent=1)

    def hold_answer(self) -> None:
        """Let the answer to the next transfer take long enough to kill a kernel meanwhile."""
        self._relay.hold_next_transfer_answer(_HELD_S)

    def fail_bank_payout(self, parameters: Parameters, transfer_id: str) -> None:
        """
        Have the studio's payout to its bank fail: made by hand on its behalf, to an account number that does not exist.

        Raises:
            StripeRefusedError: Stripe refuses the payout.

            NotFinishedError: The money is not available to the studio, or the payout has not ended, within the patience;
                or it ended otherwise.
        """
        amount = parameters.amount_in(CURRENCY)
        self._seeder.wait_for_funds(amount, parameters.destination_account)
        said = {PAYOUT_METADATA_KEY: transfer_id}
        payout = self._seeder.pay_out(parameters.destination_account, amount, said)
        ended = self._seeder.wait_for_end(parameters.destination_account, payout["id"])
        if ended["status"] != "failed":
            raise NotFinishedError(
                f"Payout {payout['id']} of {parameters.destination_account} was to fail and is {ended['status']}.",
                "Play the scene payout_fails: only its studio has a bank account that fails.",
            )

    def transfers(self, ledger_payout_id: str) -> int:
        """Count what Stripe's own list shows for this payout, asked past the relay."""
        return len(self._books.transfers_in_group(transfer_group(ledger_payout_id)))

    def automation_pays(self, ledger_payout_id: str) -> bool:
        """Let the demo's automation make its next run on this payout, and say whether it paid it."""
        engine = engines.connect(self.desk.settings.ledger_database_text(), name="LEDGER_DATABASE_URL")
        try:
            return automation.attempt(engine, ledger_payout_id, self.desk.now())
        finally:
            engine.dispose()


@contextmanager
def ground(
    root: Path,
    settings: Settings,
    *,
    say: Callable[[str], None] = lambda _: None,
    scenes: Sequence[str] = SCENES,
    upstream: str = STRIPE_API,
    patience: Patience | None = None,
    waits: Clock | None = None,
    short_approval_s: int = SHORT_APPROVAL_S,
) -> Iterator[StripeGround]:
    """
    Prepare Stripe's test mode for a rehearsal: check the keys, seed, fund, and open a desk of the rehearsal's own.

    Args:
        root: An empty folder for database, policy, people and evidence.

        settings: The user's, for keys, policy and messengers; the database and the ledger in them are not touched.

        say: Told each step in a sentence.

        upstream: Stripe; a sandbox's address in tests.

        patience: How long is waited for Stripe.

        waits: What the seeding waits with; the database's clock, which sleeps, unless given.

        short_approval_s: How many real seconds an approval stands that is meant to go stale.

    Raises:
        SettingsError: A key is not fit; nothing was sent.

        StripeRefusedError: Stripe refuses something of the seeding.

        NotFinishedError: Stripe did not come to an end within the patience.
    """
    keys = rehearsal_keys(settings)
    root.mkdir(parents=True, exist_ok=True)
    url = engines.sqlite_url((root / "rehearsal.sqlite").resolve())
    engine = engines.connect(url, name="DATABASE_URL")
    engines.upgrade_database(engine)
    clock = DatabaseClock(engine)
    now = clock.now()
    seeder = Seeder(
        keys.seeding, base_url=upstream, timeout_s=_SEEDING_TIMEOUT_S, clock=waits or clock, patience=patience
    )
    account = find_platform(keys, seeder, base_url=upstream, timeout_s=_SEEDING_TIMEOUT_S)
    say(f"Stripe's test mode, platform account {account}; database and evidence in {root}")
    studios = _seed(seeder, scenes, say)
    blind = _blind(keys, studios, upstream)
    if blind:
        say(blind)
    rows = _owed(scenes, studios, seeder.available(), now)
    create_demo_ledger(engine, ledger_of(list(rows.values()), now))
    largest = max((row.amount for row in rows.values()), key=lambda amount: amount.amount_minor)
    policy, changes = rehearsal_policy(settings, account, largest)
    write_policy(root / "policy.toml", policy, changes)
    with relay.running(upstream) as between, _private(root) as private:
        cast = make_cast(root, private, now)
        own = _settings(settings, keys, root, url, between.base_url, cast).model_copy(update={"policy": policy})
        books = Gateway(keys.seeding, base_url=upstream, timeout_s=_SEEDING_TIMEOUT_S)
        try:
            yield StripeGround(
                open_desk(own), changes, studios, cast, blind, short_approval_s, account, cases_of(rows, now), seeder, books, between
            )  # fmt: skip
        finally:
            engine.dispose()
            say(_left_behind(account, studios))


def forget(root: Path) -> None:
    """Remove the private keys of the rehearsal in *root*, where its own process was killed before it could."""
    shutil.rmtree(_private_folder(root), ignore_errors=True)


@contextmanager
def _private(root: Path) -> Iterator[Path]:
    """Make a folder that only this user can enter, outside of what is kept."""
    folder = _private_folder(root)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        forget(root)


def _private_folder(root: Path) -> Path:
    # Whoever knows the rehearsal's folder finds it again.
    return Path(tempfile.gettempdir()) / f"rehearsal-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}"


def _blind(keys: RehearsalKeys, studios: dict[str, Seeded], upstream: str) -> str:
    """Say why the settlement's key cannot see a payout of a connected account, asked of Stripe itself; reads only."""
    if _FAILS not in studios:
        return ""
    watching = Gateway(keys.read or keys.run, base_url=upstream, timeout_s=_SEEDING_TIMEOUT_S)
    if watching.may_read("/v1/payouts", account=studios[_FAILS].account):
        return ""
    found = "STRIPE_READ_SECRET_KEY may not read payouts" if keys.read else "STRIPE_READ_SECRET_KEY is not set"
    return (
        f"{found}, so that a payout to the bank that fails cannot be seen and this rehearsal cannot be green; give it a "
        f"restricted test key with {RUNG_NEEDS[RungName.PAID_TO_BANK]} (docs/test-mode.md)"
    )


def _owed(names: Sequence[str], studios: dict[str, Seeded], available: Money, now: datetime) -> dict[str, PayoutDue]:
    """Return what the ledger owes each studio, by scene."""
    return {scene.studio.role: due(scene, _account(scene, studios), available, now) for scene in scenes_of(names)}


def _seed(seeder: Seeder, names: Sequence[str], say: Callable[[str], None]) -> dict[str, Seeded]:
    """Make all studios before the first is waited for, so that Stripe checks their owners side by side."""
    scenes = scenes_of(names)
    studios = {scene.studio.role: seeder.seed(scene.studio) for scene in scenes if scene.connected}
    for seeded in studios.values():
        seeder.wait_until_active(seeded)
    found = sum(seeded.found for seeded in studios.values())
    say(f"Studios: {found} found from an earlier rehearsal, {len(studios) - found} made")
    charged = seeder.fund(needed(scenes))
    say(f"Funds: {f'a test card was charged {charged.grouped}' if charged else 'enough on the platform'}")
    return studios


def _account(scene: TestModeScene, studios: dict[str, Seeded]) -> str:
    return studios[scene.studio.role].account if scene.connected else NOBODYS_ACCOUNT


def _settings(given: Settings, keys: RehearsalKeys, root: Path, url: str, address: str, cast: Cast) -> Settings:
    """Return the settings of the rehearsal: the user's messengers where a policy says to whom, and of everything else its own."""
    return given.model_copy(
        update=({} if given.policy_file is not None else NO_MESSENGERS)
        | {
            "fallback_key": SecretStr(keys.run),
            "fallback_key_command": "",
            "read_key": SecretStr(keys.read) if keys.read else None,
            "read_key_command": "",
            # Known to the redactor by value; no kernel is given it.
            "rehearsal_key": SecretStr(keys.seeding),
            "rehearsal_key_command": "",
            "stripe_api_base": address,
            "database_url": SecretStr(url),
            "ledger_database_url": SecretStr(url),
            "outputs": root.resolve(),
            "policy_file": root / "policy.toml",
            "approvers_file": cast.approvers_file,
            "allowed_signers_file": cast.allowed_signers_file,
            "signing_key": cast.operators_key,
            "inventory_file": None,
            "operator": incident.OPERATOR,
        }
    )


def _left_behind(account: str, studios: dict[str, Seeded]) -> str:
    accounts = "one connected account" if len(studios) == 1 else f"{len(studios)} connected accounts"
    return (
        f"Left at Stripe, in test mode under {account}: {accounts}, which the next rehearsal uses "
        "again, and the payments, transfers and payouts of this one"
    )
