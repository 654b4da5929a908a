"""Passkeys: what a browser signs is an OpenSSH signature, and what OpenSSH does not ask of it is asked by us."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.passkeys import USUAL, Authenticator, encoded

from desks import LAST4
from manual_payout.approval.approvals import check_approvals, draft_approval, record_signed
from manual_payout.approval.approving import shown_to_approver
from manual_payout.desk.settings import ApprovalsPolicy, Policy, StripePolicy
from manual_payout.desk.signatures import (
    ANY_LOCALHOST,
    APPROVAL,
    SEAL,
    SIGN_IN,
    AllowedSigner,
    AllowedSigners,
    PasskeyRules,
    challenge_of,
    check_signature,
    passkey_of,
    public_key,
    signer_line,
    signer_of,
)
from manual_payout.desk.signing import judge_of
from manual_payout.domain.errors import ApprovalError, SignatureError
from manual_payout.domain.models import Mode
from manual_payout.evidence import verifier
from openssh import openssh, required

ORIGIN, HOST, WHO = "https://payouts.example.com", "payouts.example.com", "priya@x.example"
PASSKEY, DATA = Authenticator(HOST), b'{"a statement":1}'
SIGNED = PASSKEY.sign(APPROVAL, DATA, origin=ORIGIN)


def client(**changed):
    """The client data of an honest ceremony over `DATA`, some of it changed, with the rest of the text as it is."""
    told = {"type": "webauthn.get", "challenge": encoded(challenge_of(APPROVAL, DATA)), "origin": ORIGIN} | changed
    return "{" + ",".join(f'"{name}":"{value}"' for name, value in told.items())


# What an honest ceremony never gives, and what is said of it.
BAD = {
    "another origin": ({"origin": "https://payouts.example.com:8443"}, "none of the policy's origins"),
    "a parent's key": ({"origin": "https://example.com"}, "none of the policy's origins"),
    "no encryption": ({"origin": "http://payouts.example.com"}, "none of the policy's origins"),
    "in a frame": ({"more": {"crossOrigin": True}}, "in a frame"),
    "in a named frame": ({"more": {"topOrigin": "https://bad.example"}}, "in a frame"),
    "unverified": ({"flags": 0x01}, "without verifying the user"),
    "untouched": ({"flags": 0x04}, "without anybody touching"),
    "attested": ({"flags": USUAL | 0x40}, "holds what no signature"),
    "another host": ({"rp_id": "example.com"}, "does not fit"),
    "a registration": ({"client": (client(type="webauthn.create") + "}").encode()}, "does not fit"),
    "another order": ({"client": ('{"crossOrigin":false,' + client()[1:] + "}").encode()}, "does not fit"),
    "two origins": ({"client": (client() + ',"origin":"https://bad.example"}').encode()}, "stands twice"),
}  # fmt: skip


def keygen(tmp_path, armored, *, data=DATA, line=None, namespace=APPROVAL):
    """What stock OpenSSH says."""
    signers, signature = tmp_path / "allowed_signers", tmp_path / "sig"
    signers.write_text(line or signer_line(AllowedSigner(WHO, (namespace,), signer_of(armored))))
    signature.write_text(armored)
    command = ("ssh-keygen", "-Y", "verify", "-f", signers, "-I", WHO, "-n", namespace, "-s", signature)
    return openssh(*command, stdin=data).returncode


@required("ssh-keygen")
def test_stock_openssh_accepts_a_passkeys_signature_and_nothing_that_was_changed(tmp_path):
    """An auditor needs no other program; the registry's line is one of its own."""
    assert PASSKEY.key == public_key(f"{PASSKEY.key.text} a comment")
    assert HOST == PASSKEY.key.application
    assert 0 == keygen(tmp_path, SIGNED)
    assert 0 != keygen(tmp_path, SIGNED, data=DATA + b" ")
    assert 0 != keygen(tmp_path, SIGNED, namespace=SIGN_IN)


@required("ssh-keygen")
@pytest.mark.parametrize("seed", range(1, 40))
def test_every_number_is_written_as_openssh_reads_it(tmp_path, seed):
    """Whatever the first bits of r, s, X and Y are."""
    armored = Authenticator(HOST, seed).sign(APPROVAL, DATA, origin=ORIGIN, counter=seed * 9_999_999)

    check_signature(DATA, armored, signer_of(armored), APPROVAL, (ORIGIN,))

    assert 0 == keygen(tmp_path, armored)


@pytest.mark.parametrize("how", BAD)
def test_what_openssh_does_not_ask_is_asked_by_the_software(how):
    """The origin, the frame, the user's verification; each by name."""
    changed, why = BAD[how]

    with pytest.raises(SignatureError, match=why):
        check_signature(
            DATA, PASSKEY.sign(APPROVAL, DATA, **{"origin": ORIGIN} | changed), PASSKEY.key, APPROVAL, (ORIGIN,)
        )


@required("ssh-keygen")
@pytest.mark.parametrize("how", [name for name in BAD if "key" not in name])
def test_the_one_file_verifier_asks_it_too(tmp_path, how):
    """What it and `ssh-keygen` say together is no: either of them may be the one."""
    changed, _ = BAD[how]
    try:
        armored = PASSKEY.sign(APPROVAL, DATA, **{"origin": ORIGIN} | changed)
    except SignatureError:
        return
    rules = {"origins": [ORIGIN], "passkeys_max": 1}

    said = verifier._unlike_its_page(armored, rules, sandbox=False)

    assert said or keygen(tmp_path, armored)
    assert "" == verifier._unlike_its_page(SIGNED, rules, sandbox=False)
    assert verifier._unlike_its_page(SIGNED, {}, sandbox=False)


@pytest.mark.parametrize("how", ["a browser's by a key of OpenSSH", "OpenSSH's by a passkey"])
def test_the_type_of_signature_fits_the_line(how):
    """A key for `ssh:` never signs in a browser, one for a host never elsewhere; OpenSSH would take both."""
    ours = Authenticator("ssh:" if how.startswith("a browser") else HOST)
    armored = ours.sign(APPROVAL, DATA, origin=ORIGIN)
    if ours.rp_id == HOST:
        blob = verifier.base64.b64decode("".join(armored.splitlines()[1:-1]))
        (*parts, signature), _ = verifier._strings(blob[10:], 5)
        (_, both), tail = verifier._strings(signature, 2)
        plain = b"".join(map(written, (verifier._SK_ECDSA, both))) + tail[:5]
        text = verifier.base64.b64encode(blob[:10] + b"".join(map(written, (*parts, plain)))).decode()
        lines = [text[at : at + 70] for at in range(0, len(text), 70)]
        armored = "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])

    with pytest.raises(SignatureError):
        check_signature(DATA, armored, ours.key, APPROVAL, (ORIGIN,))
    assert verifier._unlike_its_page(armored, {"origins": [ORIGIN]}, sandbox=False)


def written(content):
    """A string of SSH."""
    return len(content).to_bytes(4, "big") + content


def test_a_signature_without_a_policy_that_names_its_page_counts_nowhere():
    """Nothing is believed by default; a sign-in is no approval, and a passkey seals nothing."""
    for namespace, armored, origins in (
        (APPROVAL, SIGNED, ()),
        (APPROVAL, PASSKEY.sign(SIGN_IN, DATA, origin=ORIGIN), (ORIGIN,)),
        (SEAL, PASSKEY.sign(SEAL, DATA, origin=ORIGIN), (ORIGIN,)),
        (APPROVAL, SIGNED, (ANY_LOCALHOST,)),
    ):
        with pytest.raises(SignatureError):
            check_signature(DATA, armored, PASSKEY.key, namespace, origins)


def test_only_es256_becomes_a_key():
    """OpenSSH has no other form for a browser."""
    with pytest.raises(ValueError, match="ES256"):
        passkey_of(b"\x30" + PASSKEY.spki[1:-1], HOST)


@pytest.mark.parametrize("origin", ["https://x.example/", "https://10.0.0.1", "HTTPS://x.example", "http://x.example",
                                    "https://x.example:443", "https://u@x.example", "http://localhost:80"])  # fmt: skip
def test_the_policy_takes_origins_only_as_browsers_write_them(origin):
    """One that no browser sends would never fit, and nobody would know why."""
    with pytest.raises(ValueError, match="as browsers write it"):
        ApprovalsPolicy(origins=[origin])


def test_localhost_is_the_sandboxs_and_one_passkey_is_the_rule():
    """Two are a decision of the policy."""
    live = StripePolicy(mode=Mode.LIVE)

    assert PasskeyRules((ANY_LOCALHOST,), 2) == Policy().approvals.passkeys()
    assert PasskeyRules((), 1) == Policy(stripe=live).approvals.passkeys()
    for local in ("http://localhost:1", "https://localhost"):
        with pytest.raises(ValueError, match="for the sandbox alone"):
            Policy(stripe=live, approvals=ApprovalsPolicy(origins=[local]))


def with_passkeys(desk, at_most, **people):
    """Let people of the demo sign with passkeys, as if a reviewer had taken their lines."""
    before = desk.registry.signers
    before = AllowedSigners(desk.registry.signers.entries[:7], before.revoked, before.source, before.files)
    lines = tuple(AllowedSigner(desk.registry.find(who).email, (APPROVAL,), one.key) for who, one in people.items())
    passkeys = PasskeyRules((ANY_LOCALHOST,), at_most)
    desk.registry.signers = AllowedSigners(
        (*before.entries, *lines), before.revoked, before.source, before.files, passkeys
    )


def approve_by(desk, request, who, passkey, **how):
    """A whole ceremony."""
    told = {
        "shown": shown_to_approver(desk, request),
        "approver": who,
        "amount": request.total.text,
        "destination_last4": LAST4,
    }
    rules = desk.settings.policy.request
    draft = draft_approval(desk.store, desk.registry, request, rules=rules, **told)
    armored = passkey.sign(APPROVAL, draft.signed_text.encode(), origin="http://localhost:8000", **how)
    return record_signed(desk.store, desk.registry, request, replace(draft, signature=armored), rules)


def test_two_approvals_by_passkey_need_a_policy_that_says_so(scene):
    """The second is refused when it is given, and again by the gate; beside an SSH key one is good."""
    desk, priya, amara = scene.desk, Authenticator(seed=2), Authenticator(seed=3)
    filed = scene.file(notes="again", replace=True)
    with_passkeys(desk, 1, priya=priya, amara=amara)
    given = [approve_by(desk, filed, "priya", priya)]

    with pytest.raises(ApprovalError, match="passkeys_max"):
        approve_by(desk, filed, "amara", amara)
    given.append(scene.approve("amara", filed))

    rules = desk.settings.policy.request
    assert check_approvals(filed, given, desk.registry, rules, operator_id="somebody", at=desk.now())
    with_passkeys(desk, 0, priya=priya, amara=amara)
    with pytest.raises(ApprovalError, match="passkeys_max"):
        check_approvals(filed, given, desk.registry, rules, operator_id="somebody", at=desk.now())


def test_the_judge_of_a_folder_leaves_the_page_to_the_record():
    """Which pages were allowed then is on record, and a policy of today says nothing about it."""
    signers = AllowedSigners((AllowedSigner(WHO, (APPROVAL,), PASSKEY.key),), frozenset(), "f")

    assert "" == judge_of(signers)(DATA, SIGNED, WHO, APPROVAL, "2026-03-02T03:00:00+00:00")
