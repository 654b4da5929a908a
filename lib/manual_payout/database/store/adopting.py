"""A transfer that was made by hand, put on record: row, attempt, decision and outcome in one transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

from manual_payout.database.schema import manual_payouts
from manual_payout.database.store.rows import record_stream, record_values
from manual_payout.database.store.sending import Sendings, announce_made, intent_data
from manual_payout.database.store.shapes import shape_of
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.models import PayoutRecord, State

# The event of the decision that a transfer which was made by hand is this payout's.
ADOPTED = "transfer_adopted"


class Adoptions(Sendings):
    """What is recorded of a transfer that no run of ours has sent."""

    def record_adoption(
        self,
        record: PayoutRecord,
        approval_ids: tuple[str, str],
        *,
        state: State,
        made: dict[str, Any],
        made_text: str,
        because: str,
        not_after: datetime,
        rules: dict[str, Any],
    ) -> PayoutRecord:
        """
        Commit that a transfer was made by hand: the row, its attempt, the decision and the outcome, in one transaction.

        Args:
            record: The attempt as it would have been begun.

            state: Paid, or partly reversed where some of it has come back.

            made, made_text: What Stripe shows, and the same as JSON text.

            because: Why it was made by hand; may be empty.

            approval_ids, not_after, rules: As for `record_intent`.

        Raises:
            ClaimError, ApprovalError: As for `record_intent`; or another row names the transfer.
        """
        stream, reason = record_stream(record), "made by hand and taken up"
        try:
            with self._write() as connection:
                now = self._hold(connection, stream)
                self._require_current(connection, record, now, not_after)
                record = replace(
                    record, state=state, created_at=now, lease_until=now, outcome_at=now, outcome_reason=reason,
                    stripe_transfer_id=made["id"], transfer=made_text,
                )  # fmt: skip
                values = record_values(manual_payouts, record) | {
                    "approval_payments_ops": approval_ids[0],
                    "approval_finance": approval_ids[1],
                }
                self._begin(connection, record, values)
                self._begin_attempt(connection, record, now)
                self._end_attempt(connection, record, now, (state, "", reason, ""))
                told = {"stripe_transfer_id": made["id"]}
                decided = told | {
                    "idempotency_key": record.idempotency_key,
                    "made_at": instant_text(datetime.fromtimestamp(made["created"], UTC)),
                    "because": because,
                }
                outcome = told | {"state": state.value, "reason": reason, "code": "", "stripe_request_id": ""}
                intent = intent_data(record) | {"approval_ids": list(approval_ids), "rules": rules}
                for kind, data in (
                    ("intent_recorded", intent), (ADOPTED, decided), (f"outcome_{state.value}", outcome),
                ):  # fmt: skip
                    self._append(connection, now, stream, kind, record.operator_id, data)
                present = shape_of(record).present(connection, record)
                announce_made(connection, now, present)
                return present
        except IntegrityError:
            raise self._lost_to(record) from None
