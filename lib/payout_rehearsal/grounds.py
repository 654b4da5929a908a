"""Which grounds there are to rehearse on, by the names that ``--target`` takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import local_stripe
from manual_payout.desk.settings import STRIPE_API, Settings, load_settings
from manual_payout.desk.wiring import rehearsal_environment
from manual_payout.domain.errors import ParameterError
from payout_rehearsal import testmode
from payout_rehearsal.ground import Ground, SceneName
from payout_rehearsal.sandbox_ground import sandbox_ground


@dataclass(frozen=True, slots=True)
class Outfit:
    """
    What the rehearsal's own notebook is given; never shown.

    Attributes:
        secrets: What nothing that is saved may hold.

        environment: Of its kernel; this process's own where it is None.
    """

    secrets: tuple[str, ...] = field(repr=False)
    environment: dict[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """
    A ground that can be opened.

    Attributes:
        title: What sentences call it.

        outfit: Looks at keys and settings before anything is begun or sent; raises SettingsError where they are not fit.

        open: Opens it, given the folder that everything is left in, whether the faults are to be played, and who is told each
            step of that in a sentence.

        forget: Removes what must not outlast the rehearsal of a folder, where its process was killed before it could.
    """

    title: str
    outfit: Callable[[], Outfit]
    open: Callable[[Path, bool, Callable[[str], None]], AbstractContextManager[Ground]]
    forget: Callable[[Path], None]


def _sandbox(root: Path, _drill: bool, _say: Callable[[str], None]) -> AbstractContextManager[Ground]:  # noqa: FBT001  # as `open` is called
    # Everything is there at once, whatever is played of it.
    return sandbox_ground(root)


def _stripe(root: Path, drill: bool, say: Callable[[str], None]) -> AbstractContextManager[Ground]:  # noqa: FBT001  # as above
    scenes = testmode.SCENES if drill else (SceneName.INCIDENT,)
    return testmode.ground(root, _settings(), scenes=scenes, say=say)


def _settings() -> Settings:
    # Of Stripe itself, whatever address of a sandbox stands in the environment.
    return load_settings(stripe_api_base=STRIPE_API)


def _outfit_of_sandbox() -> Outfit:
    return Outfit((local_stripe.FALLBACK_KEY, local_stripe.READ_KEY))


def _outfit_of_stripe() -> Outfit:
    settings = _settings()
    keys = testmode.rehearsal_keys(settings)
    held = {"rehearsal_key": keys.seeding, "fallback_key": keys.run} | ({"read_key": keys.read} if keys.read else {})
    messengers = (secret for secret in settings.messenger_secrets() if secret)
    return Outfit((*held.values(), *messengers), rehearsal_environment(settings, held))


def _nothing_to_forget(_root: Path) -> None:
    """The demo's keys are everybody's."""


GROUNDS = {
    "sandbox": Target("the sandbox", _outfit_of_sandbox, _sandbox, _nothing_to_forget),
    "stripe": Target("Stripe's test mode", _outfit_of_stripe, _stripe, testmode.forget),
}


def find_ground(target: str) -> Target:
    """
    Return the ground of that name.

    Raises:
        ParameterError: There is none.
    """
    if target not in GROUNDS:
        raise ParameterError("target", target, " or ".join(GROUNDS))
    return GROUNDS[target]
