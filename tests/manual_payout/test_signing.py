"""Who signs with which key: the one that was named, the sandbox's, or the agent's; and nobody with two people's."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pexpect
import pytest

from manual_payout.desk.people import load_registry
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signatures import (
    APPROVAL,
    SEAL,
    WITHDRAWAL,
    AllowedSigner,
    AllowedSigners,
    check_signature,
    key_from_seed,
    new_key_file,
    parse_signers,
    public_key,
    signer_line,
)
from manual_payout.desk.signing import find_signing_key, refuse_sandbox_keys, sandbox_key
from manual_payout.domain.errors import SettingsError, SignatureError
from manual_payout.domain.models import Mode
from openssh import openssh, required
from shells import Shell

DEMO = SANDBOX_APPROVERS.parent
REGISTRY = load_registry(DEMO / "approvers.toml")
PRIYA = REGISTRY.find("priya")
NIGHT = datetime(2026, 3, 2, 3, tzinfo=UTC)
STRANGER = key_from_seed(b"s" * 32, "a test")


def never(path):
    raise AssertionError(path)


def find(registry=REGISTRY, who="priya", namespace=APPROVAL, at=NIGHT, mode=Mode.SANDBOX, file=None):
    person = registry.find(who)
    return find_signing_key(registry, person, namespace, at, mode=mode, file=file, ask_passphrase=never)


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """A copy of the demo's registry, to be altered."""
    for name in ("approvers.toml", "allowed_signers", "revoked_keys"):
        shutil.copy(DEMO / name, tmp_path)
    return tmp_path


@pytest.fixture(name="bare")
def _bare(folder):
    """The command line without a database and without a sandbox: keys need neither."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"COLUMNS": "200"}
    return Shell(folder, None, None, kept | {"MANUAL_PAYOUT_APPROVERS": str(folder / "approvers.toml")})


# ---------------------------------------------------------------------------------------------------- the registry


def test_every_signer_of_the_demo_has_the_key_that_anybody_can_make():
    """Nobody's private key is in the repository; what one may sign is what one may do."""
    for entry in REGISTRY.signers.entries:
        person = REGISTRY.find(entry.principal)

        assert entry.key == sandbox_key(person.handle).public_key
        assert sorted(entry.namespaces) == sorted(person.purposes())
        assert (entry.valid_after, entry.valid_before) == (datetime(2025, 1, 1, tzinfo=UTC), person.valid_until)

    assert {person.email for person in REGISTRY.people} == {entry.principal for entry in REGISTRY.signers.entries}


def test_one_key_for_two_people_is_refused_when_the_registry_is_read(folder):
    """Two names on one key are one person."""
    lines = (folder / "allowed_signers").read_text()
    twin = signer_line(AllowedSigner("maya.okafor@marketplace.example", (APPROVAL,), sandbox_key("priya").public_key))
    (folder / "allowed_signers").write_text(f"{lines}{twin}\n")
    with pytest.raises(SettingsError, match=r"for priya\.raman@marketplace.example and maya.okafor"):
        load_registry(folder / "approvers.toml")


@pytest.mark.parametrize("email", ["priya.ramann@marketplace.example", "Priya.Raman@marketplace.example"])
def test_key_of_nobody_is_refused_when_the_registry_is_read(folder, email):
    """A mistyped address would leave somebody without the key that was reviewed for them."""
    text = (folder / "allowed_signers").read_text().replace("priya.raman@marketplace.example", email)
    (folder / "allowed_signers").write_text(text)
    with pytest.raises(
        SettingsError, match=f"allowed_signers, line 3: {email} is not the email of anybody in approvers.toml"
    ):
        load_registry(folder / "approvers.toml")


@pytest.mark.parametrize("name", ["allowed_signers", "revoked_keys"])
def test_registry_without_its_keys_is_refused(folder, name):
    """A missing list of revoked keys would revoke nobody."""
    (folder / name).unlink()
    with pytest.raises(SettingsError, match=f"{name} cannot be read"):
        load_registry(folder / "approvers.toml")


@pytest.mark.parametrize("mode", [Mode.TEST, Mode.LIVE])
def test_keys_that_anybody_can_make_are_refused_outside_the_sandbox(mode):
    """Whoever copies the demo's files and forgets the keys is told, by line."""
    refuse_sandbox_keys(AllowedSigners((AllowedSigner("x", (APPROVAL,), STRANGER.public_key),), frozenset(), "f"), mode)
    refuse_sandbox_keys(REGISTRY.signers, Mode.SANDBOX)
    with pytest.raises(SettingsError, match=f"allowed_signers, line 3: priya.raman.* key of the sandbox.* {mode} mode"):
        refuse_sandbox_keys(REGISTRY.signers, mode)


# ------------------------------------------------------------------------------------------------------ which key


def test_in_the_sandbox_a_person_of_the_demo_signs_with_their_sandbox_key():
    """Without an agent and without a file; the same signature each time."""
    key = find()
    first, second = key.sign(APPROVAL, b"x"), sandbox_key("priya").sign(APPROVAL, b"x")

    assert first == second
    check_signature(b"x", first, REGISTRY.signers.keys_for(PRIYA.email, APPROVAL, NIGHT)[0], APPROVAL)
    assert find(who="tomas", namespace=SEAL) is sandbox_key("tomas")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mode": Mode.TEST}, "No key was named, and the agent holds none that Priya Raman may sign with"),
        ({"namespace": SEAL}, "has no key of priya.raman@marketplace.example that is valid now for seal@"),
        ({"who": "maya"}, "has no key of maya.okafor"),
        ({"who": "greta"}, "has no key of greta.nystrom"),
        ({"at": datetime(2024, 12, 31, tzinfo=UTC)}, "has no key of priya"),
    ],
)
def test_without_a_key_nobody_signs(monkeypatch, changes, why):
    """Another mode, another purpose, a person without a key, a key that ended or has not begun."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(SignatureError, match=why) as caught:
        find(**changes)

    assert caught.value.remedy


def test_the_key_that_was_named_has_to_be_theirs(tmp_path):
    """A stranger's, or another approver's, is refused before anything is signed."""
    public = new_key_file(tmp_path / "key", "", "x")
    with pytest.raises(SignatureError, match="is not in allowed_signers"):
        find(file=tmp_path / "key")
    entry = AllowedSigner("amara.diallo@marketplace.example", (APPROVAL,), public)
    mine = replace(entry, principal=PRIYA.email)
    with pytest.raises(SignatureError, match=r"is amara\.diallo@marketplace\.example's, not priya"):
        find(with_signers(entry), file=tmp_path / "key")

    assert public == find(with_signers(mine), file=tmp_path / "key", mode=Mode.LIVE).public_key


@required("ssh-agent")
def test_agent_is_asked_for_a_key_that_is_theirs(agent, tmp_path):
    """Of all that it holds, the one that the reviewed file gives to this person."""
    for name in ("other", "mine"):
        new_key_file(tmp_path / name, "", "x")
        openssh("ssh-add", tmp_path / name)
    mine = public_key((tmp_path / "mine.pub").read_text())
    registry = with_signers(AllowedSigner(PRIYA.email, (APPROVAL,), mine))
    key = find(registry, mode=Mode.LIVE)
    check_signature(b"x", key.sign(APPROVAL, b"x"), mine, APPROVAL)
    with pytest.raises(SignatureError, match="is not in"):
        find(registry, mode=Mode.LIVE, file=tmp_path / "other.pub")
    openssh("ssh-add", "-d", tmp_path / "mine")
    with pytest.raises(SignatureError, match="the agent holds none that Priya Raman"):
        find(registry, mode=Mode.LIVE)


def test_nobody_else_has_a_sandbox_key():
    """The list of keys that are refused outside the sandbox is whole."""
    with pytest.raises(SettingsError, match="no signer called 'eve'"):
        sandbox_key("eve")


def with_signers(*entries):
    registry = load_registry(DEMO / "approvers.toml")
    registry.signers = AllowedSigners(entries, frozenset(), "allowed_signers")
    return registry


# ------------------------------------------------------------------------------------------------------- commands


def test_new_key_prints_the_line_that_gives_it_its_power(bare):
    """Added to the file, it is the person's key; the private file is theirs alone."""
    answer = bare("keys", "new", "--as", "jonas", "--out", bare.root / "key", "--json")
    told = json.loads(answer.out)
    (bare.root / "allowed_signers").write_text(told["line"] + "\n")
    (entry,) = parse_signers(told["line"], "f")
    shown = json.loads(bare("keys", "show", "--json").out)

    assert (0, told["fingerprint"]) == (answer.code, entry.key.fingerprint)
    assert ("jonas.weber@marketplace.example", (APPROVAL, WITHDRAWAL)) == (entry.principal, entry.namespaces)
    assert timedelta(days=365) == entry.valid_before - entry.valid_after
    assert 0o600 == stat.S_IMODE((bare.root / "key").stat().st_mode)
    assert [("Jonas Weber", told["fingerprint"], "good")] == [(one["person"], one["key"], one["now"]) for one in shown]


def test_keys_are_shown_with_what_is_wrong_with_them(bare):
    """Ended and revoked keys are named as such."""
    (bare.root / "revoked_keys").write_text(f"{sandbox_key('priya').public_key.text} lost on a train\n")
    answer = bare("keys", "show")
    lines = {line.split("  ")[0]: line for line in answer.out.splitlines()}

    assert lines["Priya Raman"].endswith("was revoked")
    assert lines["Greta Nyström"].endswith("expired at 2026-01-01 00:00 UTC")
    assert lines["Lucía Ferrer"].endswith("always            good")


def test_key_is_made_for_those_who_sign_only(bare):
    """A typing mistake makes no key."""
    answer = bare("keys", "new", "--as", "nobody", "--out", bare.root / "key")

    assert (2, False) == (answer.code, (bare.root / "key").exists())
    assert "as: found 'nobody'" in answer.err


def test_live_key_needs_a_passphrase_typed_twice(bare):
    """An empty one makes no key, differing ones are asked for again, and a script cannot give one."""
    policy = bare.root / "policy.toml"
    policy.write_text('[stripe]\nmode = "live"\n')
    environment = bare.environment | {"MANUAL_PAYOUT_POLICY": str(policy)}
    bare.environment = environment
    key = bare.root / "key"
    command = shlex.join([sys.executable, "-c", "from manual_payout.cli import main; main()"])
    command += shlex.join(["", "keys", "new", "--as", "jonas", "--out", str(key)])
    for typed, code, said in (
        (("", ""), 2, "The passphrase is empty, in live mode"),
        (("a passphrase", "another", "a passphrase", "a passphrase"), 0, "Have this line reviewed"),
    ):
        child = pexpect.spawn(command, env=environment, encoding="utf-8", timeout=60)
        for text in typed:
            child.expect("(Passphrase|confirmation): ")
            child.sendline(text)
        child.expect(pexpect.EOF)
        child.close()

        assert (code, not code) == (child.exitstatus, key.exists())
        assert said in child.before
        assert "a passphrase" not in child.before
    assert "There is no terminal" in bare("keys", "new", "--as", "jonas", "--out", bare.root / "second").err
