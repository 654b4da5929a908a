"""
PagerDuty's Events API v2, through its official client.

An event carries a deduplication key of ours, and PagerDuty makes one alert of all events with one key: to repeat is
harmless, and nobody has to ask whether it has arrived.
"""

from __future__ import annotations

import json
import logging
import ssl
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from pagerduty import Error, EventsApiV2Client, HttpError

from manual_payout.comms.courier import (
    Absent,
    Delayed,
    Delivered,
    HandOver,
    Lookup,
    MessageRefused,
    Outcome,
    Unknowable,
    brief,
    unanswered,
    whole_seconds,
)
from manual_payout.domain.models import Message
from manual_payout.domain.pauses import asked_s

# What it calls an event that wakes nobody and has no key.
_CHANGE = "change"


class _OneAttempt(EventsApiV2Client):
    # The client would repeat a 429 for ever, and an outage for minutes, while a payout waits.
    max_network_attempts = 0

    def postprocess(self, response: httpx2.Response) -> None:
        if not response.is_success:
            raise HttpError(f"PagerDuty answered {response.status_code}", response)


class Pager:
    """
    Raise and resolve alerts.

    Args:
        routing_key: Of an Events API v2 integration; a secret.
    """

    def __init__(self, routing_key: str, *, base_url: str, timeout_s: float) -> None:
        logging.getLogger("pagerduty.api_client").setLevel(logging.CRITICAL)
        self._client = _OneAttempt(routing_key, base_url=base_url, verify=ssl.create_default_context())
        self._proxied = "https" in getproxies() and not proxy_bypass(urlsplit(base_url).hostname or "")
        self._client.timeout = whole_seconds(timeout_s)

    def send(self, message: Message, hand_over: HandOver) -> Outcome:
        """Enqueue the event once."""
        event: dict[str, Any] = json.loads(message.body_json)
        action, key = event.pop("event_action"), event.pop("dedup_key", "")
        hand_over()
        try:
            answered = self._enqueue(action, key, event)
        except HttpError as error:
            return _verdict(cast("httpx2.Response", error.response))
        except (Error, httpx2.HTTPError, OSError, ValueError) as error:
            return unanswered(error, "PagerDuty", proxied=self._proxied)
        return Delivered({"provider": "pagerduty", "event_action": action} | answered)

    def find(self, message: Message) -> Lookup:
        """Say that it may be sent again: with the same key it is the same alert. A change has no key, and cannot be asked for."""
        return Unknowable() if json.loads(message.body_json)["event_action"] == _CHANGE else Absent()

    def reach(self) -> str | None:
        """Say that only a message could try it."""
        return None

    def _enqueue(self, action: str, key: str, event: dict[str, Any]) -> dict[str, str]:
        if action == _CHANGE:
            self._client.send_change_event(**event)
            return {}
        return {"dedup_key": str(self._client.send_event(action, dedup_key=key, **event))}


def _verdict(response: httpx2.Response) -> Outcome:
    status = response.status_code
    if status == 429:
        return Delayed("PagerDuty asks for a pause (429).", retry_after_s=asked_s(response.headers) or 0.0)
    if status == 400:
        return MessageRefused(f"PagerDuty refuses the event: {brief(response.text)}.")
    return Delayed(f"PagerDuty answered {status}.", in_doubt=status >= 500 or status < 300)
