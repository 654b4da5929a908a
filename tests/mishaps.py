"""What goes wrong on purpose around the send: a process that dies, a refusal, several at once."""

from __future__ import annotations

import threading

import pytest

from manual_payout.domain.errors import ManualPayoutError


class CrashError(BaseException):
    """The process is gone: nothing in the library may catch this."""


def crash(*_args, **_kwargs):
    raise CrashError


def refusal(call, *args, **kwargs):
    """The error of ours that a call ends with."""
    with pytest.raises(ManualPayoutError) as caught:
        call(*args, **kwargs)
    return caught.value


def race(*calls):
    """Run all at once; return each result or error."""
    results, gate = [None] * len(calls), threading.Barrier(len(calls))

    def run(number, call):
        gate.wait()
        try:
            results[number] = call()
        except ManualPayoutError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
