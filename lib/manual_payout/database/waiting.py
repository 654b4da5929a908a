"""
Waits that people sit through: they are told what is waited for, see the time pass, and get an answer after a minute.

How long is measured as it passes, by no clock that somebody can set. At a test clock, as the sandbox's, waiting takes no
time: nobody sits there, is told anything, or loses patience.
"""

from __future__ import annotations

from collections.abc import Callable

from manual_payout.database.clock import Clock, Stopwatch
from truthful_papermill.terminal import tell

# How long a person is kept waiting before they are told what to do instead.
PATIENCE_S = 60.0

# How often whatever is waited for is looked at.
LOOK_S = 2.0


def wait_for(clock: Clock, over: Callable[[], bool], told: Callable[[], str], *, ends_s: float) -> bool:
    """
    Wait until *over*, for as long as a person does, and tell meanwhile what for.

    Args:
        told: What is waited for, as it stands at that moment.

        ends_s: After how many seconds it should be over; so long is waited at a test clock.

    Returns:
        Whether it is over.
    """
    watch, waited_s, limit_s = Stopwatch(), 0.0, max(PATIENCE_S, ends_s + LOOK_S)
    began_s, real = watch.seconds(), _takes_time(clock)
    while not over():
        passed_s = watch.seconds() - began_s
        if passed_s >= PATIENCE_S if real else waited_s >= limit_s:
            return False
        if real:
            tell(f"{told()} Waited {passed_s:.0f} s, at most {PATIENCE_S:.0f} s.", begins=not waited_s)
        clock.wait(LOOK_S)
        waited_s += LOOK_S
    return True


def pass_time(clock: Clock, seconds: float, told: str) -> None:
    """
    Let *seconds* pass, and tell meanwhile what for.

    Args:
        told: What is waited for, as a sentence.
    """
    left_s = seconds
    while _takes_time(clock) and left_s > LOOK_S:
        tell(f"{told} Waiting for {left_s:.0f} s.", begins=left_s == seconds)
        clock.wait(LOOK_S)
        left_s -= LOOK_S
    clock.wait(left_s)


def _takes_time(clock: Clock) -> bool:
    return bool(getattr(clock, "takes_time", False))
