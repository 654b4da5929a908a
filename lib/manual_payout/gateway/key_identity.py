"""Secret keys: which one it is, without showing it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from manual_payout.domain.canonical import digest_bytes
from manual_payout.domain.errors import SettingsError
from manual_payout.domain.models import Mode

# A key is (sk|rk|rkcs)_(test|live)_…; publishable keys and others cannot pay. Stripe documentation, *API keys*.
_KEY = re.compile(r"(?P<kind>sk|rk|rkcs)_(?P<mode>test|live)_\w+", re.ASCII)
_MASKED_KEY = re.compile(r"\b((?:sk|rk|rkcs)_(?:test|live)_)[\w*]{8,}")


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """
    What may be said of a secret key in evidence, and no more.

    Attributes:
        restricted: Whether it is a restricted key.

        livemode: Whether its prefix says live.

        last4: Its last four characters.

        digest_prefix: The first eight hexadecimal digits of its SHA-256.
    """

    restricted: bool
    livemode: bool
    last4: str
    digest_prefix: str

    def __str__(self) -> str:
        kind = "restricted" if self.restricted else "unrestricted"
        return f"{kind} {'live' if self.livemode else 'test'} key …{self.last4} (sha256 {self.digest_prefix})"


def identify_key(key: str) -> KeyIdentity:
    """
    Say which key it is without showing it.

    Raises:
        SettingsError: It is not a secret or restricted key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise SettingsError(
            "The Stripe key is neither a restricted key (rk_…) nor a secret key (sk_…).",
            "Export the restricted fallback key; a publishable key cannot pay.",
        )
    return KeyIdentity(
        restricted=match["kind"] != "sk",
        livemode=match["mode"] == "live",
        last4=key[-4:],
        digest_prefix=digest_bytes(key.encode())[:8],
    )


def key_fits(identity: KeyIdentity, mode: Mode) -> bool:
    """Whether a key may be used in *mode*: live keys in live mode only, test keys elsewhere."""
    return identity.livemode == (mode is Mode.LIVE)


def mask_keys(text: str) -> str:
    """Collapse the masked key that Stripe quotes in its refusals; it still shows the last characters."""
    return _MASKED_KEY.sub(r"\1…", text)
