"""
Where a rehearsal is played, as the incident and the drill see it: one interface, whatever Stripe is behind it.

Neither asks what a ground is called. What one world can do and another cannot, such as moving a clock, is said here in
terms of the rehearsal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from manual_payout.desk.signatures import SigningKey
from manual_payout.desk.wiring import Desk
from manual_payout.domain.parameters import Parameters


class SceneName(StrEnum):
    """Everything that is played, each on an incident, a studio and a ledger payout of its own."""

    INCIDENT = "incident"
    ANSWER_LOST = "answer-lost"
    KILLED_KERNEL = "killed-kernel"
    STALE_APPROVAL = "stale-approval"
    WRONG_ACCOUNT = "wrong-account"
    NOT_CONNECTED = "not-connected"
    INSUFFICIENT_BALANCE = "insufficient-balance"
    FAILING_LATER = "failing-later"


class People(Protocol):
    """Who plays, by the handles of the registry."""

    @property
    def requester(self) -> str:
        """Who asks."""

    @property
    def approvers(self) -> tuple[str, ...]:
        """One of each team, in the order in which they approve."""

    @property
    def operator(self) -> str:
        """Who runs it."""

    @property
    def key_of(self) -> Callable[[str], SigningKey]:
        """What returns the key with which an approver signs."""


class Ground(Protocol):
    """Where a rehearsal is played: the local sandbox, or Stripe's test mode."""

    @property
    def name(self) -> str:
        """What ``--target`` calls it."""

    @property
    def desk(self) -> Desk:
        """Settings, clock and registry of this rehearsal, with a database and an outputs folder of its own."""

    @property
    def cast(self) -> People:
        """Who plays."""

    @property
    def pause_s(self) -> float:
        """How long people take between two steps, in seconds of the desk's clock; 0 where waiting would be real."""

    @property
    def short_approval_s(self) -> int:
        """How long an approval stands that is meant to go stale; the drill waits it out."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What of the user's policy is different here, in sentences."""

    @property
    def left_behind(self) -> str:
        """What outlasts the rehearsal outside of its folder, in a sentence; empty where nothing does."""

    def case(self, scene: SceneName) -> Parameters:
        """
        Return the incident of one scene, a dry run: its own studio, ledger payout and connected account.

        What makes the case is arranged by then: the account of `NOT_CONNECTED` is none of the platform's, and the platform's
        balance does not cover the amount of `INSUFFICIENT_BALANCE`.
        """

    def closing(self) -> Mapping[str, str | bool]:
        """Return what the incident is closed with: the parameters of ``6-close``, whose dates the desk's clock judges."""

    def unseen(self, scene: SceneName) -> str:
        """Say why what a scene comes to cannot be seen here, and what would show it; empty where all of it can be."""

    def lose_answer(self) -> None:
        """Let the next transfer be made, lose its answer, and leave the question that follows at once unanswered too."""

    def hold_answer(self) -> None:
        """Let the answer to the next transfer take long enough to kill a kernel meanwhile, where it would not by itself."""

    def fail_bank_payout(self, parameters: Parameters, transfer_id: str) -> None:
        """Let the studio's payout to the bank, which carries this transfer, fail when it comes to that."""

    def transfers(self, ledger_payout_id: str) -> int:
        """Return how many transfers Stripe's own books show for this payout, reversed ones too."""

    def automation_pays(self, ledger_payout_id: str) -> bool:
        """Let the automation make its next run, and say whether it paid this payout."""
