"""Requests and their approvals: written once, never changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from manual_payout.database import journal
from manual_payout.database.schema import approvals, manual_payouts, manual_reversals, request_lines, requests
from manual_payout.database.store.base import StorePart
from manual_payout.database.store.rows import approval_of, approval_values, line_values, request_of
from manual_payout.domain.errors import ApprovalError, ClaimError, EvidenceError, ParameterError
from manual_payout.domain.models import LIVE_STATES, OPEN_STATES, Approval, Kind, Request, State, stream_of


class RequestsAndApprovals(StorePart):
    """What was asked for, and who said yes."""

    def record_request(self, request: Request) -> None:
        """
        Write *request* and its lines, and withdraw the request that it replaces, if any, in the same transaction.

        Raises:
            ClaimError: The same was filed a moment ago, or money of the replaced request is under way.
        """
        streams = [stream_of(request.incident_id, line.ledger_payout_id) for line in request.lines]
        try:
            with self._write() as connection:
                at = self._hold(connection, *streams)
                if request.replaces:
                    self._require_nothing_under_way(connection, request.replaces)
                self._insert_request(connection, request)
                for stream in streams:
                    if request.replaces:
                        data = {"request_id": request.replaces}
                        self._append(connection, at, stream, "request_withdrawn", request.requested_by, data)
                    told = {
                        "request_id": request.request_id,
                        "digest": request.digest,
                        "statement": request.statement(),
                        "signature": request.signature,
                    }
                    self._append(connection, at, stream, "request_filed", request.requested_by, told)
        except IntegrityError:
            raise ClaimError(
                f"The same request for {request.incident_id} was filed a moment ago.",
                "Run the same command again; it returns the request on record.",
            ) from None

    def record_withdrawal(self, request: Request, *, actor: str, statement: dict[str, Any], signature: str) -> None:
        """
        Withdraw *request*, which nothing replaces; the journal keeps what was signed.

        Raises:
            ClaimError: Money of it is under way.
        """
        streams = [stream_of(request.incident_id, line.ledger_payout_id) for line in request.lines]
        data = {"request_id": request.request_id, "statement": statement, "signature": signature}
        with self._write() as connection:
            at = self._hold(connection, *streams)
            self._require_nothing_under_way(connection, request.request_id)
            for stream in streams:
                self._append(connection, at, stream, "request_withdrawn", actor, data)

    def find_request(
        self, incident_id: str, ledger_payout_id: str | None = None, *, kind: Kind = Kind.TRANSFER
    ) -> Request | None:
        """
        Return the request of the incident that counts: not withdrawn, in force rather than expired, then the newest.

        Args:
            ledger_payout_id: Only a request with this line.

        Raises:
            EvidenceError: What is stored does not have the digest it was filed under.
        """
        query = (
            sa.select(requests)
            .join(request_lines, request_lines.c.request_id == requests.c.request_id)
            .where(requests.c.incident_id == incident_id, requests.c.kind == kind.value)
            .distinct()
        )
        if ledger_payout_id is not None:
            query = query.where(request_lines.c.ledger_payout_id == ledger_payout_id)
        now = self.clock.now()
        with self._read() as connection:
            found = [self._request(connection, row) for row in connection.execute(query).all()]
            standing = self._standing(connection, found)
        return min(standing, key=lambda request: now >= request.expires_at, default=None)

    def open_requests(self, incident_id: str | None = None) -> list[Request]:
        """Return the requests that are neither withdrawn nor expired, newest first."""
        query = sa.select(requests).where(requests.c.expires_at > self.clock.now())
        if incident_id is not None:
            query = query.where(requests.c.incident_id == incident_id)
        with self._read() as connection:
            found = [self._request(connection, row) for row in connection.execute(query).all()]
            return self._standing(connection, found)

    def get_request(self, request_id: str) -> Request:
        """
        Return the request as it was filed.

        Raises:
            EvidenceError: There is none, or what is stored does not have the digest it was filed under.
        """
        with self._read() as connection:
            row = connection.execute(sa.select(requests).where(requests.c.request_id == request_id)).first()
            if row is None:
                raise EvidenceError(
                    f"There is no request {request_id}.", "Use the request id that `manual-payout request` printed."
                )
            return self._request(connection, row)

    def is_withdrawn(self, request: Request) -> bool:
        """Whether *request* has been replaced or withdrawn."""
        with self._read() as connection:
            return self._withdrawn(connection, request)

    def record_approval(self, approval: Approval, request: Request) -> None:
        """
        Write *approval* and tell the journal of every line of *request*.

        Raises:
            ApprovalError: The same person approved it a moment ago.
        """
        streams = [stream_of(request.incident_id, line.ledger_payout_id) for line in request.lines]
        try:
            with self._write() as connection:
                at = self._hold(connection, *streams)
                connection.execute(approvals.insert().values(approval_values(approval)))
                for stream in streams:
                    self._append(connection, at, stream, "approved", approval.approver_id, approval.told())
        except IntegrityError:
            raise ApprovalError(
                "This approval was given a moment ago.", "Run `manual-payout status`; one person counts once."
            ) from None

    def approvals_of(self, request_id: str) -> list[Approval]:
        """Return every approval of the request, oldest first, valid or not."""
        query = (
            sa.select(approvals)
            .where(approvals.c.request_id == request_id)
            .order_by(approvals.c.approved_at, approvals.c.team.desc(), approvals.c.approval_id)
        )
        with self._read() as connection:
            return [approval_of(row) for row in connection.execute(query)]

    def _insert_request(self, connection: sa.Connection, request: Request) -> None:
        own = ("filed_at", "expires_at", "replaces", "signature")
        values = request.statement() | {name: getattr(request, name) for name in own}
        for name in ("version", "lines"):
            del values[name]
        connection.execute(requests.insert().values(**values, digest=request.digest))
        lines = [line_values(line) | {"request_id": request.request_id} for line in request.lines]
        connection.execute(request_lines.insert(), lines)

    def _require_nothing_under_way(self, connection: sa.Connection, request_id: str) -> None:
        # Under the lock of the journal, as `record_intent` is: of a withdrawal and a sending, one comes first.
        for what, table, states in (
            ("payout", manual_payouts, LIVE_STATES),
            ("reversal", manual_reversals, (*OPEN_STATES, State.REVERSED)),
        ):
            begun = connection.execute(
                sa.select(table.c.state, table.c.owner)
                .where(table.c.request_id == request_id)
                .where(table.c.state.in_([state.value for state in states]))
            ).first()
            if begun is not None:
                raise ClaimError(
                    f"Request {request_id} cannot be replaced: its {what} is {begun.state}, by {begun.owner}.",
                    "Run `manual-payout status`.",
                )

    def _request(self, connection: sa.Connection, row: sa.Row[Any]) -> Request:
        query = sa.select(request_lines).where(request_lines.c.request_id == row.request_id)
        lines = connection.execute(query.order_by(request_lines.c.line_no)).all()
        try:
            request = request_of(row, lines)
        except (ValueError, ParameterError):
            request = None
        if request is None or request.digest != row.digest:
            raise EvidenceError(
                f"Request {row.request_id} was altered after it was filed: its digest no longer fits.",
                "Stop, keep the database as it is and call Security; file a new request.",
            )
        return request

    def _standing(self, connection: sa.Connection, found: list[Request]) -> list[Request]:
        """
        Return those that were not withdrawn, the last filed first.

        Of two that were filed in the same instant, which the sandbox's standing clock allows, the journal says which was
        the later; two journals do not, and there the id decides, so that the order is the same whenever it is asked for.
        """
        standing = [request for request in found if not self._withdrawn(connection, request)]
        standing.sort(key=lambda request: request.request_id)
        instants = [request.filed_at for request in standing]
        place = {
            request.request_id: self._filed_as(connection, request) if instants.count(request.filed_at) > 1 else 0
            for request in standing
        }
        standing.sort(key=lambda request: (request.filed_at, place[request.request_id]), reverse=True)
        return standing

    def _filed_as(self, connection: sa.Connection, request: Request) -> int:
        """Return the number of the event that tells of the filing."""
        stream = stream_of(request.incident_id, request.lines[0].ledger_payout_id)
        chain = journal.read(connection, stream)
        told = (e.seq for e in chain if e.kind == "request_filed" and e.data["request_id"] == request.request_id)
        return next(told, 0)

    def _withdrawn(self, connection: sa.Connection, request: Request) -> bool:
        stream = stream_of(request.incident_id, request.lines[0].ledger_payout_id)
        chain = journal.read(connection, stream)
        return any(e.kind == "request_withdrawn" and e.data["request_id"] == request.request_id for e in chain)
