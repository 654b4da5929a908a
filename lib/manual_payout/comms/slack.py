"""
Slack, through slack-sdk: with a bot token, or an incoming webhook.

Slack takes a message twice if it is told twice. With a token a message carries its id as metadata, so that after a lost
answer the channel's history says whether it is there (Slack documentation, *Message metadata*, *conversations.history*).
A webhook answers ``ok`` and nothing else; whether it took a message cannot be asked.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime
from http.client import HTTPException
from typing import Any, cast

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

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

_EVENT = "manual_payout_message"

# A busy channel in the minutes in question; beyond it the question counts as unanswered.
_PAGES_MAX = 20
_PAGE = 100

# By how much the clocks of the database and of Slack may differ, and for how long a post may be on its way.
_SKEW_S = 300.0

# What is wrong with the message itself: no repetition helps.
_REFUSED = frozenset(
    {
        *("msg_too_long", "no_text", "invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"),
        *("invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "invalid_arguments"),
        *("invalid_payload", "too_many_attachments", "invalid_attachments"),
    }
)

# Slack's own words: it failed, and some aspect of the operation may have succeeded before.
_IN_DOUBT = frozenset({"internal_error", "fatal_error", "request_timeout", "rollup_error", "service_unavailable"})

# The channel's history is closed to this app, today and tomorrow.
_NOT_READABLE = frozenset(
    {
        *("missing_scope", "not_in_channel", "channel_not_found", "no_permission", "not_allowed_token_type"),
        *("method_not_supported_for_channel_type", "enterprise_is_restricted", "invalid_channel"),
    }
)

_WORD = re.compile(r"[a-z_]{1,60}")

_FAILURES = (OSError, HTTPException, SlackClientError, ValueError)


def _silent() -> logging.Logger:
    # The SDK logs the webhook's address and the token's requests, on standard error where nothing else is set up.
    logger = logging.getLogger("manual_payout.silent")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


class SlackBot:
    """
    Post as an app.

    Args:
        token: May ``chat:write``; ``channels:history`` too, if lost answers are to be looked up.

        channel: The channel's name, used where there is no *channel_id*.

        dates: Whether the database's clock is the world's, so that the history can be read from an instant on.
    """

    def __init__(
        self, token: str, *, base_url: str, channel: str, channel_id: str, timeout_s: float, dates: bool
    ) -> None:
        # Its retries would post twice after a lost answer; retrying is the outbox's business.
        self._client = WebClient(
            token=token, base_url=base_url, timeout=whole_seconds(timeout_s), retry_handlers=[], logger=_silent()
        )
        self._channel = channel
        self._channel_id = channel_id
        self._dates = dates

    def send(self, message: Message, hand_over: HandOver) -> Outcome:
        """Post it once."""
        hand_over()
        try:
            answer = self._client.chat_postMessage(
                channel=self._channel_id or self._channel,
                text=message.body_text,
                blocks=_blocks(message),
                unfurl_links=False,
                unfurl_media=False,
                metadata={"event_type": _EVENT, "event_payload": {"message_id": message.message_id}},
            )
        except SlackApiError as error:
            return _judged(error)
        except _FAILURES as error:
            return unanswered(error, "Slack", proxied=bool(self._client.proxy))
        return Delivered(_receipt(answer.get("channel"), answer.get("ts")))

    def find(self, message: Message) -> Lookup:
        """Look for the message's id in the channel's history."""
        if not self._channel_id or message.handed_over_at is None:
            return Unknowable()
        try:
            return self._search(message.message_id, self._window(message.handed_over_at, once=not message.repeats))
        except SlackApiError as error:
            # Only a permission that is not there will never come; everything else is asked again.
            return Unknowable() if _word_of(error) in _NOT_READABLE else _still_in_doubt(_judged(error))
        except _FAILURES as error:
            return _still_in_doubt(unanswered(error, "Slack", proxied=bool(self._client.proxy)))

    def reach(self) -> str | None:
        """Ask Slack whose token it is (Slack documentation, *auth.test*)."""
        try:
            self._client.auth_test()
        except SlackApiError as error:
            return f"Slack refuses the token: {_word_of(error)}."
        except _FAILURES as error:
            return unanswered(error, "Slack", proxied=bool(self._client.proxy)).reason
        return ""

    def _window(self, handed_over_at: datetime, *, once: bool) -> tuple[str | None, str | None]:
        """Say when the message must have been posted, if it was: around the one time when it was handed over."""
        if not self._dates:
            return None, None
        at = handed_over_at.timestamp()
        return str(at - _SKEW_S), str(at + _SKEW_S) if once else None

    def _search(self, message_id: str, window: tuple[str | None, str | None]) -> Lookup:
        (oldest, latest), cursor = window, None
        for _ in range(_PAGES_MAX):
            page = self._client.conversations_history(
                channel=self._channel_id,
                oldest=oldest,
                latest=latest,
                cursor=cursor,
                limit=_PAGE,
                include_all_metadata=True,
            )
            for posted in page.get("messages") or ():
                metadata = posted.get("metadata") or {}
                if (metadata.get("event_payload") or {}).get("message_id") == message_id:
                    return Delivered(
                        _receipt(self._channel_id, posted.get("ts")) | {"found": "in the channel's history"}
                    )
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return Absent()
        return Unknowable()


class SlackWebhook:
    """
    Post through an incoming webhook.

    Args:
        url: A secret: whoever knows it can post.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._client = WebhookClient(url, timeout=whole_seconds(timeout_s), retry_handlers=[], logger=_silent())

    def send(self, message: Message, hand_over: HandOver) -> Outcome:
        """Post it once."""
        hand_over()
        try:
            answer = self._client.send(
                text=message.body_text, blocks=_blocks(message), unfurl_links=False, unfurl_media=False
            )
        except _FAILURES as error:
            return unanswered(error, "Slack", proxied=bool(self._client.proxy))
        if answer.status_code == 200 and answer.body.strip() == "ok":
            return Delivered({"provider": "slack webhook", "answer": "ok"})
        return _verdict(answer.status_code, brief(answer.body), answer.headers)

    def find(self, message: Message) -> Lookup:  # noqa: ARG002  # a webhook can be asked nothing
        """Say that a webhook cannot tell."""
        return Unknowable()

    def reach(self) -> str | None:
        """Say that only a message could try it."""
        return None


def _blocks(message: Message) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads(message.body_json)) if message.body_json else []


def _receipt(channel: object, ts: object) -> dict[str, str]:
    return {"provider": "slack", "channel": str(channel or ""), "ts": str(ts or "")}


def _judged(error: SlackApiError) -> Outcome:
    answer = error.response
    return _verdict(int(getattr(answer, "status_code", 0) or 0), _word_of(error), getattr(answer, "headers", {}))


def _word_of(error: SlackApiError) -> str:
    data = getattr(error.response, "data", None)
    word = str(data.get("error", "")) if isinstance(data, dict) else ""
    # Where it cannot read an answer, the SDK puts the answer itself here.
    return word if _WORD.fullmatch(word) else ""


def _verdict(status: int, word: str, headers: object) -> Outcome:
    if status == 429 or word in {"ratelimited", "rate_limited"}:
        return Delayed("Slack asks for a pause (429).", retry_after_s=asked_s(headers) or 0.0)
    if word in _REFUSED:
        return MessageRefused(f"Slack refuses the message: {word}.")
    doubtful = status >= 500 or word in _IN_DOUBT or not word
    return Delayed(f"Slack answered {status}: {word or 'nothing that can be read'}.", in_doubt=doubtful)


def _still_in_doubt(outcome: Outcome) -> Delayed:
    after = outcome.retry_after_s if isinstance(outcome, Delayed) else None
    reason = "Slack could not be asked whether it has the message"
    return Delayed(f"{reason}: {getattr(outcome, 'reason', '')}", retry_after_s=after, in_doubt=True)
