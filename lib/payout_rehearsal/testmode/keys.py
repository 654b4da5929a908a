"""Which keys a rehearsal in test mode may use: looked at before anything is sent, and once more in Stripe's own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from manual_payout.desk.settings import Settings
from manual_payout.domain.errors import PolicyRefusedError, SettingsError
from manual_payout.gateway import Gateway, KeyIdentity, identify_key
from payout_rehearsal.testmode.seeding import COUNTRY, Seeder

_SEEDING, _RUN, _READ = "STRIPE_REHEARSAL_SECRET_KEY", "STRIPE_FALLBACK_SECRET_KEY", "STRIPE_READ_SECRET_KEY"
_KINDS = {
    _SEEDING: "the secret test key (sk_test_…)",
    _RUN: "the restricted test key (rk_test_…)",
    _READ: "a read-only test key (rk_test_…)",
}


@dataclass(frozen=True, slots=True)
class RehearsalKeys:
    """
    The keys of one rehearsal, all of test mode; never shown.

    Attributes:
        seeding: The full key.

        run: The restricted key that the notebooks get.

        read: The key that watches settlement, or None.
    """

    seeding: str = field(repr=False)
    run: str = field(repr=False)
    read: str | None = field(repr=False)


def rehearsal_keys(settings: Settings) -> RehearsalKeys:
    """
    Take the keys from *settings*; nothing is sent anywhere.

    Raises:
        SettingsError: One is missing, malformed, live or publishable; the run's is not restricted, or is the seeding's.
    """
    keys = RehearsalKeys(
        _taken(settings.rehearsal_secret, _KINDS[_SEEDING]),
        _taken(settings.fallback_secret, _KINDS[_RUN]),
        settings.read_secret(),
    )
    _of_test_mode(keys.seeding, _SEEDING)
    run = _of_test_mode(keys.run, _RUN)
    if keys.read is not None:
        _of_test_mode(keys.read, _READ)
    if not run.restricted:
        raise SettingsError(
            f"{_RUN} is an {run}, and a rehearsal runs with a restricted one (rk_test_…), as the real thing does.",
            "Make a restricted key with Transfers: Write and Balance: Read in test mode (docs/test-mode.md).",
        )
    if keys.run == keys.seeding:
        raise SettingsError(
            f"{_RUN} and {_SEEDING} are the same key.",
            "Make two: what seeds may do far more than what pays (docs/test-mode.md).",
        )
    return keys


def find_platform(keys: RehearsalKeys, seeder: Seeder, *, base_url: str, timeout_s: float) -> str:
    """
    Ask Stripe itself whether the keys are of test mode and of one platform, and which; reads only.

    Returns:
        The platform's account id.

    Raises:
        PolicyRefusedError: Stripe calls one of them live, does not show its account, or shows another.

        StripeRefusedError: Stripe does not answer.

        SettingsError: A key is not accepted, or the platform is in a country that cannot be seeded.
    """
    _must_be_test(_SEEDING, live=seeder.livemode())
    platform = seeder.platform()
    for name, key in ((_RUN, keys.run), (_READ, keys.read)):
        if key is None:
            continue
        gateway = Gateway(key, base_url=base_url, timeout_s=timeout_s)
        _must_be_test(name, live=gateway.livemode())
        found = gateway.account_id()
        if found != platform["id"]:
            raise PolicyRefusedError(
                f"{name} belongs to {found or 'an account that Stripe does not show to it'}, {_SEEDING} to {platform['id']}.",
                "Use keys of one sandbox or one account's test mode; grant the restricted key Accounts: Read if it is hidden.",
            )
    if platform["country"] != COUNTRY:
        raise SettingsError(
            f"The platform {platform['id']} is in {platform['country']}, and a rehearsal seeds studios in {COUNTRY} alone.",
            "Make a sandbox whose country is the United States, and rehearse there (docs/test-mode.md).",
        )
    return str(platform["id"])


def _taken(secret: Callable[[], str], expected: str) -> str:
    try:
        return secret()
    except SettingsError as error:
        raise SettingsError(error.message, f"{error.remedy} It is {expected}; see docs/test-mode.md.") from None


def _of_test_mode(key: str, name: str) -> KeyIdentity:
    expected = _KINDS[name]
    try:
        identity = identify_key(key)
    except SettingsError:
        raise SettingsError(
            f"{name} is neither a secret nor a restricted key of test mode.",
            f"Export {expected}; see docs/test-mode.md.",
        ) from None
    if identity.livemode:
        raise SettingsError(
            f"{name} is a live key, which a rehearsal never uses; nothing was sent: {identity}.",
            f"Export {expected}; see docs/test-mode.md.",
        )
    return identity


def _must_be_test(name: str, *, live: bool) -> None:
    if live:
        raise PolicyRefusedError(
            f"Stripe says that the key in {name} is live; nothing was written.",
            "Use keys of Stripe's test mode (docs/test-mode.md).",
        )
