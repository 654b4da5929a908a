"""A signature is one key's, over these bytes, for one purpose; and stock OpenSSH agrees."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.desk.signatures import (
    APPROVAL,
    SEAL,
    AllowedSigner,
    AllowedSigners,
    PublicKey,
    check_signature,
    key_from_file,
    key_from_seed,
    keys_of_agent,
    load_signers,
    new_key_file,
    parse_signers,
    public_key,
    signer_line,
    signer_of,
)
from manual_payout.domain.errors import SettingsError, SignatureError
from openssh import openssh, required

AT = datetime(2026, 3, 2, 3, tzinfo=UTC)
KEY, OTHER = key_from_seed(b"k" * 32, "a test"), key_from_seed(b"o" * 32, "a test")
DATA = b'{"amount_minor":125075}'
SIGNED = KEY.sign(APPROVAL, DATA)
WHO = "priya@x.example"


def never(path):
    raise AssertionError(path)


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory):
    """A key file with a passphrase, as `keys new` makes it."""
    path = tmp_path_factory.mktemp("keys") / "key"
    return path, new_key_file(path, "a passphrase", WHO)


# ---------------------------------------------------------------------------------------------------- signatures


def test_signature_is_checked_by_its_key():
    """The key that it names is the one that made it."""
    check_signature(DATA, SIGNED, KEY.public_key, APPROVAL)

    assert KEY.public_key == signer_of(SIGNED)


@pytest.mark.parametrize(
    ("data", "signed", "key", "namespace", "why"),
    [
        (DATA + b" ", SIGNED, KEY, APPROVAL, "does not fit these bytes"),
        (b"", SIGNED, KEY, APPROVAL, "does not fit these bytes"),
        (DATA, SIGNED, OTHER, APPROVAL, "is by the key SHA256:.*expected"),
        (DATA, SIGNED, KEY, SEAL, "was made for 'approval@manual-payout', expected 'seal@"),
        (DATA, KEY.sign(SEAL, DATA), KEY, APPROVAL, "was made for 'seal@"),
        (DATA, "", KEY, APPROVAL, "not an OpenSSH signature"),
        (DATA, SIGNED.replace("\n", "\r\n"), KEY, APPROVAL, "not an OpenSSH signature"),
        (DATA, SIGNED + " ", KEY, APPROVAL, "not an OpenSSH signature"),
        (DATA, SIGNED * 20, KEY, APPROVAL, "not an OpenSSH signature"),
    ],
)
def test_other_bytes_key_or_purpose_are_refused_with_the_reason(data, signed, key, namespace, why):
    """Each by its own sentence."""
    with pytest.raises(SignatureError, match=why) as caught:
        check_signature(data, signed, key.public_key, namespace)

    assert 3 == caught.value.exit_code


@given(st.integers(min_value=0, max_value=len(DATA) - 1), st.integers(min_value=1, max_value=255))
def test_any_changed_byte_of_what_was_signed_is_refused(at, change):
    """One byte anywhere."""
    changed = DATA[:at] + bytes([DATA[at] ^ change]) + DATA[at + 1 :]
    with pytest.raises(SignatureError):
        check_signature(changed, SIGNED, KEY.public_key, APPROVAL)


@given(st.integers(min_value=0, max_value=len(SIGNED) - 1), st.characters(max_codepoint=255))
def test_any_changed_character_of_the_signature_is_refused(at, character):
    """Its text included: line breaks, the spare bits of the last base64 character, header and footer."""
    changed = SIGNED[:at] + character + SIGNED[at + 1 :]
    if changed != SIGNED:
        with pytest.raises(SignatureError):
            check_signature(DATA, changed, KEY.public_key, APPROVAL)


def armored(blob):
    text = base64.b64encode(blob).decode()
    lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n"


BLOB = base64.b64decode("".join(SIGNED.splitlines()[1:-1]))


@given(st.integers(min_value=0, max_value=len(BLOB) - 1), st.integers(min_value=0, max_value=7))
def test_any_changed_bit_of_the_signature_is_refused(at, bit):
    """Below its text too, with the text made right again."""
    changed = BLOB[:at] + bytes([BLOB[at] ^ (1 << bit)]) + BLOB[at + 1 :]
    with pytest.raises(SignatureError):
        check_signature(DATA, armored(changed), KEY.public_key, APPROVAL)


@given(st.integers(min_value=0, max_value=len(BLOB)), st.binary(min_size=1, max_size=8), st.booleans())
def test_nothing_added_or_cut_is_passed_over(at, more, cut):
    """Neither behind the signature nor inside it."""
    changed = BLOB[:at] if cut else BLOB[:at] + more + BLOB[at:]
    if changed != BLOB:
        with pytest.raises(SignatureError):
            check_signature(DATA, armored(changed), KEY.public_key, APPROVAL)


def test_unknown_purpose_is_a_bug():
    """There is no third purpose by a typing mistake."""
    with pytest.raises(ValueError, match="Bug"):
        KEY.sign("file", DATA)
    with pytest.raises(ValueError, match="Bug"):
        check_signature(DATA, SIGNED, KEY.public_key, "file")


# ------------------------------------------------------------------------------------------------------- OpenSSH


@required("ssh-keygen")
@pytest.mark.parametrize(("namespace", "data", "code"), [(APPROVAL, DATA, 0), (SEAL, DATA, 255), (APPROVAL, b"", 255)])
def test_stock_ssh_keygen_verifies_what_is_signed_here(tmp_path, namespace, data, code):
    """And refuses what this module refuses, with the line that is written here."""
    entry = AllowedSigner(WHO, (APPROVAL, SEAL), KEY.public_key, AT, AT + timedelta(days=3650), "a comment")
    (tmp_path / "allowed_signers").write_text(f"{signer_line(entry)}\n")
    (tmp_path / "s").write_text(SIGNED)
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", WHO, "-n", namespace, "-s", "s"]
    done = openssh(*command, "-O", "verify-time=20260701Z", stdin=data, cwd=tmp_path)

    assert code == done.returncode, done.stderr


@required("ssh-keygen")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_what_stock_ssh_keygen_signs_is_accepted_here(tmp_path, kind):
    """Its key, its text, its signature."""
    openssh("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / "key", "-C", WHO)
    (tmp_path / "data").write_bytes(DATA)
    openssh("ssh-keygen", "-Y", "sign", "-f", tmp_path / "key", "-n", APPROVAL, tmp_path / "data")
    key = public_key((tmp_path / "key.pub").read_text())
    check_signature(DATA, (tmp_path / "data.sig").read_text(), key, APPROVAL)
    ours = key_from_file(tmp_path / "key", never)
    check_signature(DATA, ours.sign(APPROVAL, DATA), key, APPROVAL)
    shown = openssh("ssh-keygen", "-l", "-f", tmp_path / "key").stdout.decode()

    assert key.fingerprint == shown.split()[1]


@required("ssh-keygen")
def test_ssh_keygen_opens_a_new_key_with_its_passphrase_only(made):
    """It is an OpenSSH key like any other."""
    path, key = made
    shown = openssh("ssh-keygen", "-y", "-P", "a passphrase", "-f", path)

    assert key.text == " ".join(shown.stdout.decode().split()[:2])
    assert 0 != openssh("ssh-keygen", "-y", "-P", "another", "-f", path).returncode


@required("ssh-agent")
def test_agent_signs_with_the_keys_it_holds(agent, tmp_path):
    """What an agent signs is checked like everything else; a .pub file names one of its keys."""
    openssh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key", "-C", "")
    openssh("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", tmp_path / "rsa", "-C", "")
    assert [] == keys_of_agent()
    openssh("ssh-add", tmp_path / "rsa", tmp_path / "key")
    (held,) = keys_of_agent()
    named = key_from_file(tmp_path / "key.pub", never)
    check_signature(DATA, named.sign(APPROVAL, DATA), held.public_key, APPROVAL)
    openssh("ssh-add", "-D")
    with pytest.raises(SignatureError, match="did not do what was asked"):
        held.sign(APPROVAL, DATA)
    with pytest.raises(SettingsError, match="the agent does not hold"):
        key_from_file(tmp_path / "key.pub", never)


def test_without_an_agent_there_are_no_keys_and_a_dead_one_is_named(monkeypatch):
    """No agent is ordinary; one that does not answer is not."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert [] == keys_of_agent()
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
    with pytest.raises(SignatureError, match="/nonexistent/agent did not do"):
        keys_of_agent()


# ---------------------------------------------------------------------------------------------------------- keys


def test_protected_key_is_opened_by_its_passphrase_only(made):
    """Asked for once; the file is its owner's."""
    path, key = made
    opened = key_from_file(path, lambda _: "a passphrase")
    check_signature(DATA, opened.sign(SEAL, DATA), key, SEAL)

    assert (key, 0o600) == (opened.public_key, path.stat().st_mode & 0o777)
    with pytest.raises(SettingsError, match="the passphrase does not open it"):
        key_from_file(path, lambda _: "another")


def test_key_file_is_never_overwritten(made):
    """A key that was lost to a second `keys new` would be an approver lost."""
    path, _ = made
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="File exists"):
        new_key_file(path, "x", WHO)

    assert before == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (None, 0o600, "No such file"),
        (b"", 0o600, "holds no private key"),
        (b"\xff\xfe", 0o600, "holds no private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", 0o600, "no private key"),
        (b"x", 0o640, "people other than its owner may read it"),
        (b"ssh-ed25519 AAAA", 0o644, "it ends too early"),
    ],
)
def test_file_that_is_no_key_is_refused_in_a_sentence(tmp_path, content, mode, why):
    """With the file, what is wrong, and what to do."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(SettingsError, match=why) as caught:
        key_from_file(path, never)

    assert caught.value.remedy


RSA = base64.b64encode(b"\0\0\0\7ssh-rsa\0\0\0\1\3\0\0\0\1\3").decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a public key"),
        ("ssh-ed25519", "not a public key"),
        ("ssh-ed25519 ****", "not base64"),
        (f"ssh-rsa {RSA}", "its kind is 'ssh-rsa'"),
        (KEY.public_key.text.replace("ssh-ed25519", "ssh-rsa"), "it says ssh-rsa and holds ssh-ed25519"),
        (f"ssh-ed25519 {base64.b64encode(KEY.public_key.blob + b'x').decode()}", "wrong length"),
    ],
)
def test_public_key_of_another_kind_is_refused(text, why):
    """No RSA, no certificate, nothing behind the key."""
    with pytest.raises(ValueError, match=why):
        public_key(text)


# ------------------------------------------------------------------------------------------------ allowed signers

LINE = signer_line(AllowedSigner(WHO, (APPROVAL,), KEY.public_key))
DAY = timedelta(days=1)
ENTRY = AllowedSigner(WHO, (APPROVAL,), KEY.public_key, AT, AT + DAY)

_names = st.lists(st.sampled_from([APPROVAL, SEAL, "git"]), min_size=1, max_size=3, unique=True)
_instants = st.none() | st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2026, 1, 1)).map(  # noqa: DTZ001
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


@given(_names, _instants, _instants, st.sampled_from(["", "a comment", "two  spaces # and a mark"]))
def test_line_is_read_as_it_was_written(namespaces, after, before, comment):
    """Round trip, but for an end that is not after the beginning."""
    entry = AllowedSigner(WHO, tuple(namespaces), KEY.public_key, after, before, comment, 1)
    if after and before and before <= after:
        with pytest.raises(SettingsError, match="valid-before is not after"):
            parse_signers(signer_line(entry), "f")
    else:
        assert (entry,) == parse_signers(signer_line(entry), "f")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{WHO} {KEY.public_key.text}", "expected: email"),
        (LINE.replace(WHO, "*@x.example"), "expected: email"),
        (LINE.replace(WHO, f"{WHO},bea@x.example"), "expected: email"),
        (LINE.replace(WHO, f"!{WHO}"), "expected: email"),
        (f"cert-authority,{LINE}", "expected: email"),
        (LINE.replace("namespaces=", "cert-authority,namespaces="), "expected: email"),
        (LINE.replace("namespaces=", 'principals="x",namespaces='), "'principals' is none of"),
        (LINE.replace(APPROVAL, "*"), "is not a plain name"),
        (LINE.replace(APPROVAL, f"{APPROVAL},"), "is not a plain name"),
        (LINE.replace("namespaces=", 'namespaces="x",namespaces='), "given once"),
        (LINE.replace("namespaces=", "valid-after="), "namespaces always"),
        (LINE.replace("namespaces=", 'valid-before="20260101",namespaces='), "not in UTC"),
        (LINE.replace("namespaces=", 'valid-before="20261301Z",namespaces='), "not in UTC"),
        (LINE.replace("ssh-ed25519 ", "ssh-rsa "), "it says ssh-rsa"),
        (LINE[:-9], "not base64|too early|wrong length"),
    ],
)
def test_line_that_grants_something_else_is_refused_by_its_number(line, why):
    """Patterns, certificates, unknown options, local times: nothing is passed over."""
    with pytest.raises(SettingsError, match=why) as caught:
        parse_signers(f"# people\n\n{line}\n", "allowed_signers")

    assert "allowed_signers, line 3:" in caught.value.message


@pytest.mark.parametrize(
    ("entry", "at", "revoked", "why"),
    [
        (replace(ENTRY, key=OTHER.public_key), AT, (), "is not in"),
        (replace(ENTRY, principal="bea@x.example"), AT, (), "is bea@x.example's"),
        (replace(ENTRY, namespaces=(SEAL,)), AT, (), "is for seal@"),
        (ENTRY, AT - timedelta(microseconds=1), (), "is valid from 2026-03-02 03:00"),
        (ENTRY, AT + DAY, (), "expired at 2026-03-03"),
        (ENTRY, AT, (KEY.public_key,), "was revoked"),
        (replace(ENTRY, key=OTHER.public_key), AT, (KEY.public_key,), "was revoked"),
    ],
)
def test_key_that_may_not_sign_is_refused_with_the_reason(entry, at, revoked, why):
    """Unknown, another person's, for another purpose, too early, too late, revoked."""
    signers = AllowedSigners((entry,), frozenset(revoked), "allowed_signers")
    with pytest.raises(SignatureError, match=why):
        signers.judge(KEY.public_key, WHO, APPROVAL, at)

    assert KEY.public_key not in signers.keys_for(WHO, APPROVAL, at)


@pytest.mark.parametrize("at", [AT, AT + DAY - timedelta(microseconds=1)])
def test_key_signs_from_its_first_instant_to_before_its_last(at):
    """The line is returned; its key is offered."""
    signers = AllowedSigners((ENTRY,), frozenset((OTHER.public_key,)), "allowed_signers")

    assert ENTRY == signers.judge(KEY.public_key, WHO, APPROVAL, at)
    assert (KEY.public_key,) == signers.keys_for(WHO, APPROVAL, at)


def test_one_key_for_two_lines_is_refused():
    """Nobody signs as two people, and no line widens another."""
    twin = replace(ENTRY, principal="bea@x.example", line_no=2)
    with pytest.raises(SettingsError, match="stands on lines 0 and 2"):
        AllowedSigners((ENTRY, twin), frozenset(), "allowed_signers")


def test_both_files_are_read_and_have_to_be_there(tmp_path):
    """A list of revoked keys that went missing would revoke nobody."""
    signers, revoked = tmp_path / "allowed_signers", tmp_path / "revoked_keys"
    signers.write_text(f"{LINE}\n")
    with pytest.raises(SettingsError, match="revoked_keys cannot be read: No such file"):
        load_signers(signers, revoked)
    revoked.write_text(f"# lost on a train\n{OTHER.public_key.text} greta\n")
    found = load_signers(signers, revoked)

    assert {name: (tmp_path / name).read_text() for name in ("allowed_signers", "revoked_keys")} == found.files
    assert (WHO, {OTHER.public_key}) == (found.find(KEY.public_key).principal, found.revoked)
    revoked.write_text("SHA256:abc\n")
    with pytest.raises(SettingsError, match="revoked_keys, line 1: it is not a public key"):
        load_signers(signers, revoked)


def test_key_shows_nothing_secret():
    """Neither in a traceback nor in a notebook."""

    assert "k" * 32 not in repr(KEY)
    assert repr(KEY) == f"SigningKey(public_key={KEY.public_key!r}, source='a test')"
    assert PublicKey(KEY.public_key.text) == KEY.public_key
