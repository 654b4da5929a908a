"""
What the fallback key may do beyond its purpose, found out and said: least privilege shown, not assumed.

Stripe names a key's permissions to nobody, so the key is tried: one list of one entry for each kind of thing that a
payout does not need. A refusal is the good answer. Nothing is written; a write permission includes the read (Stripe
documentation, *Restricted API keys*), so what may be written is among what may be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from manual_payout.domain.errors import SettingsError, StripeRefusedError
from manual_payout.domain.models import Check, CheckStatus

if TYPE_CHECKING:
    from manual_payout.gateway import Gateway

# Transfers and balance are what the SOP grants (Security controls, first line). Accounts are left out: the check of the
# platform account asks for them to be readable.
_PLATFORM = (
    "payouts",
    "topups",
    "charges",
    "payment_intents",
    "refunds",
    "disputes",
    "customers",
    "invoices",
    "subscriptions",
    "products",
    "application_fees",
    "webhook_endpoints",
    "events",
)
_CONNECTED = ("payouts", "charges")

_QUESTION = "Can the key do nothing beyond transfers and balance?"

# After these, as after a key that is not accepted, every further question would end in the same way, perhaps slowly.
_OVER = frozenset({"unreachable", "rate_limit"})


@dataclass(frozen=True, slots=True)
class Privileges:
    """
    What trying the key showed.

    Attributes:
        open_to_it: What the key may read, and perhaps write, beyond its purpose; in words.

        denied: What Stripe does not let it read.

        unknown: What could not be found out.

        why_unknown: Why not, in a sentence; empty where everything was.
    """

    open_to_it: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    why_unknown: str = ""


def try_key(gateway: Gateway, destination_account: str) -> Privileges:
    """
    Try what the key may read beyond its purpose, on the platform and on the destination's behalf. Reads only.

    It never raises for what Stripe answers: a question that is not answered is listed as such.
    """
    found: dict[str, list[str]] = {"open": [], "denied": [], "unknown": []}
    why = ""
    probes = [(name, None) for name in _PLATFORM] + [(name, destination_account) for name in _CONNECTED]
    for number, (name, account) in enumerate(probes):
        try:
            answer = "open" if gateway.may_read(f"/v1/{name}", account=account) else "denied"
        except (StripeRefusedError, SettingsError) as error:
            answer, why = "unknown", error.message
            if isinstance(error, SettingsError) or error.code in _OVER:
                found["unknown"] += [_words(*probe) for probe in probes[number:]]
                break
        found[answer].append(_words(name, account))
    return Privileges(tuple(found["open"]), tuple(found["denied"]), tuple(found["unknown"]), why)


def least_privilege(seen: Privileges) -> Check:
    """SOP, security controls: the restricted key has transfers and balance read only. It warns; it never stops."""
    asked = len(seen.open_to_it) + len(seen.denied) + len(seen.unknown)
    expected = f"Stripe denies all {asked} other things that were tried"
    if seen.open_to_it:
        return Check(
            "least_privilege", _QUESTION, CheckStatus.WARN, expected,
            f"it may read, and perhaps write: {', '.join(seen.open_to_it)}{_rest(seen)}",
            "The payout may go on. Have Security narrow the key to Transfers: Write and Balance: Read, and note it in the ticket.",
        )  # fmt: skip
    if seen.unknown:
        return Check(
            "least_privilege", _QUESTION, CheckStatus.WARN, expected,
            f"{len(seen.denied)} denied{_rest(seen)}",
            "The payout may go on. Look at the key's permissions in the Dashboard under API keys.",
        )  # fmt: skip
    return Check("least_privilege", _QUESTION, CheckStatus.OK, expected, f"all {asked} denied")


def clocks_differ(said: str) -> Check:
    """Warn of two clocks that disagree; it never stops, since the database's alone judges."""
    return Check(
        "clocks_agree", "Do this machine's clock and the database's agree?", CheckStatus.WARN, "less than a minute apart",
        said, "The payout may go on. Read times by the database's clock, and have the other one corrected.",
    )  # fmt: skip


def _rest(seen: Privileges) -> str:
    if not seen.unknown:
        return ""
    return f"; {len(seen.unknown)} could not be found out ({seen.why_unknown.rstrip('.')})"


def _words(name: str, account: str | None) -> str:
    return name.replace("_", " ") if account is None else f"{name.replace('_', ' ')} of connected accounts"
