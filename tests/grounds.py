"""The sandbox posing as Stripe's test mode: real time, the full key for seeding, the restricted one for the run."""

from __future__ import annotations

from dataclasses import replace

from pydantic import SecretStr

import local_stripe
from manual_payout.approval.approvals import approve
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.requesting import file_request
from manual_payout.database.clock import SandboxClock
from manual_payout.desk.messengers import NO_MESSENGERS
from manual_payout.desk.settings import STRIPE_API, load_settings
from manual_payout.domain.models import Stage
from manual_payout.steps.runner import DRY_RUN, LIVE_RUN, run_stages
from payout_rehearsal import testmode
from payout_rehearsal.testmode.seeding import Patience

# The sandbox's payouts take days, which its clock passes at once.
PATIENT = Patience(available_s=3 * 86_400, payout_s=5 * 86_400, look_s=3_600)
KEYS = {
    "fallback_key": local_stripe.FALLBACK_KEY,
    "read_key": local_stripe.READ_KEY,
    "rehearsal_key": local_stripe.FULL_KEY,
}


def settings_with(**given):
    """A user's settings, with the sandbox's keys unless others are given."""
    keys = {name: SecretStr(key) if key is not None else None for name, key in (KEYS | given).items() if name in KEYS}
    others = {name: value for name, value in given.items() if name not in KEYS}
    base = {"stripe_api_base": STRIPE_API, "policy_file": None, "approvers_file": None, "signing_key": None}
    commands = dict.fromkeys(("fallback_key_command", "read_key_command", "rehearsal_key_command"), "")
    return load_settings(**(NO_MESSENGERS | base | commands | keys | others))


def ground_on(stripe, root, settings=None, **options):
    """Stripe's test mode, played by *stripe*: a sandbox, or the address of something else."""
    address = stripe if isinstance(stripe, str) else stripe.base_url
    given = {"upstream": address, "patience": PATIENT, "waits": SandboxClock(address)} | options
    return testmode.ground(root, settings or settings_with(), **given)


def approved(ground, parameters, approvers=("priya", "amara")):
    """File the request of a case and have both teams approve it with the keys of this rehearsal."""
    desk = ground.desk
    requester = desk.registry.get_allowed("maya", "request", desk.now(), field="as")
    request, _ = file_request(desk, parameters, requester, replace=False, key=ground.key_of("maya"))
    for approver in approvers:
        approve(
            desk.store, desk.registry, request, approver=approver, amount=parameters.amount,
            destination_last4=parameters.destination_account[-4:], shown=shown_to_approver(desk, request),
            rules=desk.settings.policy.request, key=ground.key_of(approver),
        )  # fmt: skip
    return request


class Incident:
    """One case with its request approved and its dry run made."""

    def __init__(self, ground, scene):
        self.ground, self.parameters = ground, ground.case(scene)
        self.request = approved(ground, self.parameters)
        self.dry = run_stages(ground.desk, DRY_RUN, self.parameters)
        self.operator = ground.desk.registry.find(self.parameters.operator)
        self.typed = replace(self.parameters, dry_run=False, confirm=self.dry[-1].confirm)

    def live(self, stages=LIVE_RUN):
        """Run *stages* live with the ordinary runner."""
        return run_stages(self.ground.desk, stages, self.typed)

    def close(self):
        """Close the incident."""
        return run_stages(self.ground.desk, (Stage.CLOSE,), self.typed, extra=self.ground.closing())

    @property
    def record(self):
        """Our row."""
        return self.ground.desk.store.find_payout(self.request.line_for().line_id)
