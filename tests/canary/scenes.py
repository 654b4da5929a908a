"""
The scenes: incidents from the first form to the archive on the ticket, and everything that goes wrong in one.

Each is a function that plays on a world and counts what it did; it judges nothing but that the fault was really met. Whether
anything was told is seen afterwards, in every byte.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from payout_rehearsal.demo import incident

from .canaries import PASSPHRASE
from .services import error
from .stage import FORK_SERVER, RUNBOOKS, STRANGER, Stage, World

INCIDENT = incident.INCIDENT_ID
OPERATOR = ("--operator", incident.OPERATOR)
PAYMENTS = ("POST", "/v1/transfers")
HTML = "<html><body>upstream said no; the request was: {keys}</body></html>"

Step = Callable[[World, Stage], Any]


def front(step: Any, method: str = "POST", path: str = "/v1/transfers") -> Step:
    """Have the front of Stripe do *step* instead of passing on the first such request."""
    return lambda world, _: world.front.plan.append((method, path, step))


def planted(kind: str, **options: Any) -> Step:
    """Have the sandbox itself meet a fault."""
    return lambda world, _: world.stripe.fault(kind, **options)


# What can become of a request to Stripe; the last ones quote what they were sent.
STRIPE: dict[str, Step] = {
    "request lost": planted("drop_before"),
    "answer lost": planted("drop_after"),
    "429": planted("rate_limit", retry_after="1"),
    "lock timeout": planted("lock_timeout"),
    "409": planted("conflict"),
    "400": planted("refuse", code="transfers_not_allowed"),
    "500 after the effect": planted("error_500"),
    "500 without effect": planted("error_500", effect=False),
    "no JSON": planted("garbage"),
    "too slow": planted("slow", seconds=5.0),
    "403 with a masked key": front((403, error(
        "invalid_request_error",
        "The provided key '{masked}' does not have the required permissions for this endpoint on account "
        "'acct_1SandboxPlatform00'. Having the 'rak_transfer_write' permission would allow this request to continue.",
        ', "code": "more_permissions_required"',
    ))),
    "401 with a masked key": front((401, error("invalid_request_error", "Invalid API Key provided: {masked}"))),
    "401 with the whole key": front((401, error("invalid_request_error", "Invalid API Key provided: {key}"))),
    "400 that quotes the key": front((400, error("invalid_request_error", "No such transfer: '{key}' {keys}", ', "code": "resource_missing", "param": "{key}"'))),
    "500 that quotes the key": front((500, error("api_error", "We have recorded an error for {keys}"))),
    "503 of a proxy that quotes the request": front((503, HTML)),
    "200 that is the request quoted": front((200, HTML)),
    "200 with the key as the transfer": front((200, '{"id": "{key}", "object": "transfer", "description": "{keys}"}')),
    "reset before": front("reset"),
    "reset after": front("lose"),
    "the listing quotes the key": front((400, error("invalid_request_error", "Bad {keys}")), "GET", "/v1/transfers"),
    "the listing is reset": front("reset", "GET", "/v1/transfers"),
    "the balance quotes the key": front((401, error("invalid_request_error", "Invalid API Key provided: {key}")), "GET", "/v1/balance"),
    "the balance is HTML that quotes it": front((502, HTML), "GET", "/v1/balance"),
}  # fmt: skip

# Fault of the service, and what the environment says meanwhile.
SLACK: list[tuple[str, dict[str, str | None]]] = [
    *((fault, {}) for fault in ("limit", "refuse", "rubbish", "drop", "lose500", "lose", "quote", "quote_word")),
    *(
        (fault, {"SLACK_REHEARSAL_BOT_TOKEN": None})
        for fault in ("limit", "refuse", "rubbish", "drop", "quote", "lose")
    ),
    ("", {"SLACK_API_BASE": "http://127.0.0.1:1/api/"}),
    ("", {"SLACK_API_BASE": "https://127.0.0.1:{slack}/api/"}),
    ("", {"SLACK_REHEARSAL_BOT_TOKEN": None, "SLACK_REHEARSAL_WEBHOOK_URL": "http://127.0.0.1:1{hook}"}),
    ("", {"SLACK_REHEARSAL_BOT_TOKEN": None, "SLACK_REHEARSAL_WEBHOOK_URL": "https://127.0.0.1:{slack}{hook}"}),
    ("quote_ok", {}),
]
MAIL: list[tuple[str, dict[str, str | None]]] = [
    *((fault, {}) for fault in ("refuse", "drop", "lose", "reject", "invalid")),
    ("", {"SMTP_PORT": "1"}),
    ("", {"SMTP_USERNAME": "somebody-else"}),
    ("", {"SMTP_SECURITY": "starttls"}),
    ("", {"SMTP_SECURITY": "tls"}),
    ("", {"SMTP_USERNAME": "käthe"}),
    ("quoted login", {}),
]
PAGER: list[tuple[str, dict[str, str | None]]] = [
    *((fault, {}) for fault in ("limit", "drop", "invalid", "refuse", "lose", "quote")),
    ("", {"PAGERDUTY_EVENTS_BASE": "https://127.0.0.1:1"}),
    ("", {"SSL_CERT_FILE": None}),
    ("quote_ok", {}),
]
JIRA: list[tuple[Any, dict[str, str | None]]] = [
    *((status, {}) for status in (401, 403, 404, 413, 429, 500, "drop", "lose")),
    *((f"quote {status}", {}) for status in (200, 400, 401, 500)),
    ("", {"JIRA_BASE_URL": "http://127.0.0.1:1"}),
    ("", {"JIRA_BASE_URL": "https://127.0.0.1:{jira}"}),
    ("", {"JIRA_USER": STRANGER}),
]


def night(world: World, stage: Stage) -> Iterator[str]:
    """A whole incident by the command line, with keys that have a passphrase, and every answer once more as JSON."""
    path = stage.typed()
    stage.environment["MANUAL_PAYOUT_ALLOWED_SIGNERS"] = str(world.vault / "allowed_signers")
    passphrase = world.canaries[PASSPHRASE].value
    stage.run("db", "upgrade")
    stage.run("request", "--as", "maya", "-f", path)
    stage.run("request", "--as", "maya", "-f", path, "--json")
    facts = ("--amount", incident.AMOUNT, "--destination-last4", incident.DESTINATION_ACCOUNT[-4:])
    priya = ("approve", INCIDENT, "--as", "priya", *facts, "--key", world.vault / "priya.raman")
    stage.run(*priya)
    yield "a passphrase and nobody to ask"
    stage.at_terminal({"Passphrase": f"not {passphrase}"}, *priya)
    yield "a wrong passphrase"
    stage.at_terminal({"Passphrase": passphrase}, *priya)
    stage.run("approve", INCIDENT, "--as", "amara", *facts, "--json")
    stage.run("run", "-f", path, *OPERATOR, "--dry-run")
    stage.confirm = stage.said().rpartition("--confirm ")[2].split()[0]
    stage.live("--json")
    _expect(stage, stage.live(), 0)
    for command in (
        ("status",),
        ("status", "--json"),
        ("reconcile", INCIDENT, *OPERATOR),
        ("deliver", *OPERATOR, "--json"),
    ):
        stage.run(*command)
    stage.run("run", "-f", path, *OPERATOR, "--stage", "settle")
    closing = (
        "--root-cause",
        "The scheduler stopped",
        "--follow-ups",
        "Mend it, Tomas, 2026-03-13",
        "--automation-restored",
    )
    stage.run("run", "-f", path, *OPERATOR, "--stage", "close", *closing, "--access-review-on", "2026-04-20")
    stage.at_terminal(
        {"Passphrase": passphrase},
        "seal",
        INCIDENT,
        *OPERATOR,
        MANUAL_PAYOUT_SIGNING_KEY=str(world.vault / "tomas.lindqvist"),
    )
    (stage.outputs / "attached").mkdir()
    for to in ("jira", stage.outputs / "attached"):
        _expect(stage, stage.run("attach", INCIDENT, "--to", to, *OPERATOR, "--json"), 0)
    folder = stage.outputs / INCIDENT / incident.LEDGER_PAYOUT_ID
    for more in ((), ("--json",)):
        _expect(stage, stage.run("verify", folder, "--registry", world.vault / "approvers.toml", *more), 0)
        stage.run("monitor", "--once", *more)
    stage.run("keys", "show", "--json")
    new = {"Passphrase": passphrase, "Repeat": passphrase}
    stage.at_terminal(new, "keys", "new", "--as", "amara", "--out", str(world.vault / f"{stage.name}-key"))
    stage.run("reversal", "request", INCIDENT, "--as", "maya", "--all", "--reason", "wrong_destination", "--json")


def stripe_faults(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """One request to Stripe goes wrong, in each of the ways; then somebody looks what became of it."""
    first, each = (12, 20) if few else (0, _each(world))
    for name, plant in list(STRIPE.items())[first::each]:
        stage = Stage(world, f"stripe-{name.replace(' ', '-')}")
        plant(world, stage)
        stage.live("--stage", "execute")
        stage.run("reconcile", INCIDENT, *OPERATOR)
        assert not world.front.plan, f"nobody met {name}"
        yield name


def signals(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """The command, or what runs below it, is shot while Stripe has the request; then it is given again."""
    shots = [
        (how, below)
        for below in (False, True)
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ]
    for how, below in shots[: 1 if few else 5]:
        stage = Stage(world, f"{how.name}-{below}")
        front(stage.kill(how, below=below))(world, stage)
        stage.live("--stage", "execute")
        stage.live()
        stage.run("reconcile", INCIDENT, *OPERATOR)
        yield f"{how.name} of {'the kernel' if below else 'the command'}"


def database_faults(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """The database is away before, during and after the payment, or its URL is wrong."""
    for when, step in (("before", None), ("at the look", ("GET", "/v1/transfers")), ("at the payment", PAYMENTS)):
        if few and step != PAYMENTS:
            continue
        stage = Stage(world, f"database-away-{when.replace(' ', '-')}")
        away, back = _away(world, stage)
        if step is None:
            away()
        else:
            front(away, *step)(world, stage)
        stage.live("--stage", "execute")
        stage.run("status")
        back()
        stage.run("reconcile", INCIDENT, *OPERATOR)
        stage.live("--stage", "execute", "--json")
        yield f"database away {when}"


def _away(world: World, stage: Stage) -> tuple[Callable[[], None], Callable[[], None]]:
    server = world.databases.server
    if server is not None:
        import random

        return lambda: server.shoot(random.Random(0)) and None, server.restart
    file, aside = stage.folder / "state.sqlite", stage.folder / "aside.sqlite"
    return lambda: file.rename(aside) and None, lambda: aside.rename(file) and None


def full_disk(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """The disk of the evidence fills while Stripe has the request."""
    del few
    stage = Stage(world, "disk", disk="2m")
    if not stage.mounted:
        return
    front(lambda: _fill(stage.outputs))(world, stage)
    stage.live("--stage", "execute")
    stage.run("status")
    (stage.outputs / "fill").unlink()
    stage.live()
    yield "disk full"


def _fill(folder: Path) -> None:
    with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 512)


def messages(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """Slack, the mail server and PagerDuty fail in every way, and quote what they were sent."""
    stage = Stage(world, "messages")
    _expect(stage, stage.live("--stage", "execute"), 0)
    hook = "/services/" + world.canaries["SLACK_REHEARSAL_WEBHOOK_URL"].value.partition("/services/")[2]
    fill = {"{slack}": str(world.slack.port), "{hook}": hook}
    password = world.canaries["SMTP_PASSWORD"].value
    nowhere = {"SLACK_API_BASE": "http://127.0.0.1:1/api/"}
    for service, server, faults in (("mail", world.mail, MAIL), ("slack", world.slack, SLACK)):
        for fault, changed in faults[-1:] if few else faults:
            given = {name: _filled(value, fill) for name, value in changed.items()}
            world.mail_tap.quote_login = password if fault == "quoted login" else ""
            # Only the service in question gets through, so that the others' messages stay.
            given = (nowhere | given) if service == "mail" else ({"SMTP_PORT": "1"} | given)
            if fault and fault != "quoted login":
                server.faults.planned.append(fault)
            stage.run("deliver", "--now", "--refused", *OPERATOR, **given)
            stage.run("status", **given)
            server.faults.planned.clear()
            world.mail_tap.quote_login = ""
            yield f"{service}: {fault or ', '.join(changed)}"
    for fault, changed in PAGER[-1:] if few else PAGER:
        if fault:
            world.pager.faults.planned.extend([fault] * 3)
        stage.run("seal", INCIDENT, *OPERATOR, **changed)
        stage.run("monitor", "--once", **changed)
        world.pager.faults.planned.clear()
        yield f"pagerduty: {fault or ', '.join(changed)}"
    if not few:
        stage.run("deliver", "--now", "--refused", *OPERATOR)
        stage.run("deliver", "--now", "--refused", *OPERATOR, SLACK_REHEARSAL_BOT_TOKEN=None)
        stage.live()


def ticket(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """Jira refuses, quotes, breaks off."""
    stage = Stage(world, "ticket")
    stage.run("run", "-f", stage.typed(), *OPERATOR, "--stage", "verify", "--dry-run")
    for fault, changed in JIRA[-4:-3] if few else JIRA:
        if str(fault).startswith("quote"):
            world.jira.quote = int(str(fault).split()[1])
        elif fault:
            world.jira.faults["GET PAY-7" if fault == "drop" else "POST attachments"] = fault
        given = {name: _filled(value, {"{jira}": str(world.jira_tap.port)}) for name, value in changed.items()}
        stage.run("attach", INCIDENT, "--to", "jira", *OPERATOR, **given)
        world.jira.quote = 0
        world.jira.faults.clear()
        yield f"jira: {fault or ', '.join(changed)}"
    _expect(stage, stage.run("attach", INCIDENT, "--to", "jira", *OPERATOR), 0)


def settings(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """A secret is malformed, in the wrong variable, or in a command that fails."""
    stage = Stage(world, "settings")
    for number, (name, changed) in enumerate(_wrong_settings(world, stage)):
        if few and number % 24 and "MANUAL_PAYOUT_POLICY" not in changed:
            continue
        stage.run("status", "--json", **changed)
        if name.startswith(("key", "FALLBACK", "READ")):
            stage.run("run", "-f", stage.typed(), *OPERATOR, "--stage", "verify", **changed)
        elif not number % 4:
            stage.run("attach", INCIDENT, "--to", "jira", *OPERATOR, **changed)
        yield name
    bad = world.vault / "bad.toml"
    for name, canary in list(world.canaries.items())[:-1]:
        bad.write_text(f'[stripe]\n"{canary.value!r}" = {canary.value}\n'.replace("'", ""))
        stage.run("status", MANUAL_PAYOUT_POLICY=str(bad))
        bad.write_text(f"[messages]\nsupport_from = '''{canary.value.replace(chr(39), '')}'''\n")
        stage.run("status", MANUAL_PAYOUT_POLICY=str(bad))
        yield f"{name} in the policy file"
        if few:
            break


def _wrong_settings(world: World, stage: Stage) -> Iterator[tuple[str, dict[str, str | None]]]:
    value = {name: canary.value for name, canary in world.canaries.items()}
    key, file = value["STRIPE_FALLBACK_SECRET_KEY"], world.vault / "STRIPE_FALLBACK_SECRET_KEY"
    for name, wrong in {
        "ends in a line break": f"{key}\n", "is broken in two": f"{key[:30]}\n{key[30:]}", "stands in quotes": f"'{key}'",
        "with a space": f"{key} {key}", "of another mode": f"rk_live_{key[8:]}", "with a letter too many": f"{key}é",
        "unknown to Stripe": f"{key}x",
    }.items():  # fmt: skip
        yield f"key {name}", {"STRIPE_FALLBACK_SECRET_KEY": wrong}
    for name, command in {
        "works": f"cat {file}", "fails and prints the key": f"cat {file}; exit 3", "prints it as an error": f"cat {file} >&2; exit 1",
        "prints it twice": f"cat {file} {file}", "prints it and more": f"echo key: $(cat {file})", "is killed": f"cat {file}; kill -9 $$",
    }.items():  # fmt: skip
        for which in ("FALLBACK", "READ"):
            given = {f"STRIPE_{which}_SECRET_KEY": None, f"STRIPE_{which}_SECRET_KEY_COMMAND": command}
            yield f"{which} command {name}", given
    for name in (
        "SLACK_REHEARSAL_BOT_TOKEN",
        "PAGERDUTY_REHEARSAL_ROUTING_KEY",
        "SLACK_REHEARSAL_WEBHOOK_URL",
        "JIRA_API_TOKEN",
    ):
        yield f"{name} in quotes", {name: f'"{value[name]}"'}
        yield f"{name} broken in two", {name: f"{value[name][:20]}\n{value[name][20:]}"}
    # What is pasted into the variable beside it.
    for number, (name, secret) in enumerate(value.items()):
        # What is only ever typed is known to nobody.
        if name == PASSPHRASE:
            continue
        for wrong in _NEIGHBOURS[number % 4 :: 4 * _each(world)]:
            yield f"{name} in {wrong}", {wrong: secret}
    yield "a mail password without a user", {"SMTP_USERNAME": None}
    yield "Jira's token in its address", {"JIRA_BASE_URL": f"https://ops:{value['JIRA_API_TOKEN']}@jira.example"}
    hook = value["SLACK_REHEARSAL_WEBHOOK_URL"].partition("/services/")[2]
    yield "a webhook at another host", {"SLACK_REHEARSAL_WEBHOOK_URL": f"https://evil.example/services/{hook}"}
    yield "a webhook in the address of Slack", {"SLACK_API_BASE": f"https://hooks.slack.com/services/{hook}"}
    if world.kind == "postgresql":
        yield from _wrong_urls(world, stage)


_NEIGHBOURS = [
    "STRIPE_API_BASE", "DATABASE_URL", "LEDGER_DATABASE_URL", "SLACK_API_BASE", "SMTP_HOST", "SMTP_PORT", "SMTP_SECURITY",
    "PAGERDUTY_EVENTS_BASE", "JIRA_BASE_URL", "JIRA_REHEARSAL_ISSUE", "MANUAL_PAYOUT_POLICY", "MANUAL_PAYOUT_APPROVERS",
    "MANUAL_PAYOUT_OPERATOR", "SMTP_USERNAME", "JIRA_USER", "MANUAL_PAYOUT_SIGNING_KEY",
]  # fmt: skip


def _wrong_urls(world: World, stage: Stage) -> Iterator[tuple[str, dict[str, str | None]]]:
    for name, role in (("DATABASE_URL", "payout"), ("LEDGER_DATABASE_URL", "ledger")):
        url, password = stage.environment[name], world.canaries[name].value
        socket = url.partition("?host=")[2]
        for what, wrong in {
            "of nobody": url.replace(f"//{role}:", "//nobody:"), "of another database": url.replace("/scene_", "/none_"),
            "of another driver": url.replace("postgresql:", "postgresql+psycopg:"), "of an unknown driver": url.replace("postgresql:", "mysql:"),
            "without a server": f"{url.partition('?')[0]}?host=/nowhere", "with a port": f"postgresql://{role}:{password}@127.0.0.1:5x/db",
            "not quoted": f"postgresql://{role}:{password}@/db?host={socket}", "refused": f"{url.partition('@')[0]}@127.0.0.1:1/db",
            "of an unknown host": f"{url.partition('@')[0]}@nowhere.invalid/db", "with an odd option": f"{url}&sslmode=odd",
            "with an unknown option": f"{url}&passwort=x", "in its query": f"postgresql://{role}@/db?host={socket}&password={url.partition(':')[2].partition(':')[2].partition('@')[0]}",
            "in key and value": f"host={socket} user={role} password='{password}'",
            "with another password": url.replace(f"{role}:", f"{role}:x"), "with a bracket": url.replace(f"{role}:", f"{role}:["),
        }.items():  # fmt: skip
            yield f"{name} {what}", {name: wrong}


def typed(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """A secret is typed by mistake into each thing that a person types."""
    stage = Stage(world, "typed", ready=False)
    fields = (
        "notes",
        "studio_name",
        "amount",
        "reserve_after",
        "reason",
        "destination_account",
        "studio_id",
        "ledger_payout_id",
        "incident_id",
    )
    for number, (name, canary) in enumerate(world.canaries.items()):
        if name == PASSPHRASE or (few and number % 6) or (number % _each(world) == 1):
            continue
        for field in ("notes", "studio_name") if few else {"notes", "studio_name", fields[number % len(fields)]}:
            path = stage.typed(
                **{field: f"Failed with {canary.value}" if field in {"notes", "studio_name"} else canary.value}
            )
            stage.run("request", "--as", "maya", "-f", path, "--json")
            if field == "notes":
                stage.run("run", "-f", path, *OPERATOR, "--dry-run")
            yield f"{name} in {field}"
        if few:
            continue
        path = stage.typed(root_cause=f"Because of {canary.value}")
        stage.run("run", "-f", path, *OPERATOR, "--stage", "close", "--json")
        yield f"{name} in the root cause"
    if not few:
        yield from _typed_for_papermill(world, stage)


def _typed_for_papermill(world: World, stage: Stage) -> Iterator[str]:
    for number, (name, canary) in enumerate(world.canaries.items()):
        if name != PASSPHRASE:
            path = stage.typed(notes=f"Failed with {canary.value}", operator=incident.OPERATOR)
            _papermill(stage, RUNBOOKS / "1-verify.ipynb", f"typed-{number}.ipynb", "-f", path)
            yield f"{name} in papermill's notes"


def habits(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """What people print; with our engine, and through papermill's own command."""
    from . import habits as written

    stage = Stage(world, "habits", ready=False)
    vault = world.vault / "templates"
    vault.mkdir()
    code = f"{world.defect}\nfrom pathlib import Path; from tests.canary.habits import main; main(Path({str(stage.outputs)!r}), Path({str(vault)!r}), few={few})"
    _expect(stage, stage.python("-c", code), 0)
    yield from written.SHOWN
    yield from list(written.RAISED)[: 2 if few else None]
    if few:
        return
    for template in sorted(vault.glob("*.ipynb"))[:: _each(world)]:
        _papermill(stage, template, f"papermill-{template.name}", "-r", "notes", "nothing")
        yield f"{template.stem} through papermill"


def papermill(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """The reviewed notebooks by papermill's own command, well and badly."""
    del few
    stage = Stage(world, "papermill")
    path = stage.typed(operator=incident.OPERATOR)
    faults: dict[str, tuple[Step | None, dict[str, str | None]]] = {
        "nothing": (None, {}),
        "the key quoted": (front((401, error("invalid_request_error", "Invalid API Key provided: {key}")), "GET", "/v1/balance"), {}),
        "a proxy quotes": (front((502, HTML), "GET", "/v1/balance"), {}),
        "a key command": (None, {"STRIPE_FALLBACK_SECRET_KEY": None, "STRIPE_FALLBACK_SECRET_KEY_COMMAND": f"cat {world.vault / 'STRIPE_FALLBACK_SECRET_KEY'}"}),
        "no database": (None, {"DATABASE_URL": stage.environment["DATABASE_URL"].replace("scene_", "none_").replace("state", "none")}),
    }  # fmt: skip
    for number, (name, (plant, changed)) in enumerate(faults.items()):
        if plant is not None:
            plant(world, stage)
        more = (
            "--log-output",
            "--stdout-file",
            stage.outputs / f"{number}.out",
            "--stderr-file",
            stage.outputs / f"{number}.err",
        )
        _papermill(stage, RUNBOOKS / "1-verify.ipynb", f"verify-{number}.ipynb", "-f", path, *more, **changed)
        world.front.plan.clear()
        yield f"papermill with {name}"


def _papermill(stage: Stage, template: Path, output: str, *more: object, **environment: str | None) -> int:
    command = ("-m", "papermill", "--engine", "manual_payout", "--no-progress-bar", template, stage.outputs / output)
    return stage.python(*command, *more, **environment)


def warm_night(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """A night in kernels that are forked."""
    del few
    yield from night(world, Stage(world, "night-warm", ready=False))


def ordinary_night(world: World, few: bool) -> Iterator[str]:  # noqa: FBT001  # one shape for all
    """A night in which the fork server is shot at sight, by the webhook, with a key that a command prints."""
    del few
    stage = Stage(world, "night-ordinary", ready=False, webhook=True)
    command = f"cat {world.vault / 'STRIPE_FALLBACK_SECRET_KEY'}"
    del stage.environment["STRIPE_FALLBACK_SECRET_KEY"]
    stage.environment["STRIPE_FALLBACK_SECRET_KEY_COMMAND"] = command
    world.watch.shoot = FORK_SERVER
    try:
        yield from night(world, stage)
        yield "the fork server is shot"
    finally:
        world.watch.shoot = b""


SCENES = {
    "night, warm": warm_night, "night, ordinary": ordinary_night, "Stripe": stripe_faults, "signals": signals,
    "database": database_faults, "disk": full_disk, "messages": messages, "ticket": ticket, "settings": settings,
    "typed": typed, "habits": habits, "papermill": papermill,
}  # fmt: skip

# The databases share the work: what has nothing to do with them is played on one of them, or only in part on the other.
PLAYED = {
    "sqlite": [name for name in SCENES if name != "night, ordinary"],
    "postgresql": [name for name in SCENES if name not in {"night, warm", "disk", "messages", "ticket"}],
}


def _each(world: World) -> int:
    """Return which part of a long list is played here: all of it, or each third."""
    return 1 if world.kind == "sqlite" else 3


# What the suite plays of them.
FEW = ("Stripe", "messages", "settings", "typed")

# Mistakes that the search must notice, as code that each command begins with, and the scene in which it does.
DEFECTS = {
    "a redactor that does nothing": (
        "from truthful_papermill.redaction import Redactor; Redactor.redact = lambda self, text: text", "habits",
    ),
    "errors that bypass it": (
        "import manual_payout.cli.answers as answers, manual_payout.cli as cli\nanswers.without_secrets = cli.without_secrets = str", "settings",
    ),
    "what is typed is not looked at": (
        "import manual_payout.desk.secret_settings as secrets, manual_payout.desk.wiring as desk\nsecrets.refuse_typed_secret = lambda values: None\ndesk.Desk.require_keepable = lambda self, *recorded: None", "typed",
    ),
}  # fmt: skip


def _filled(value: str | None, fill: dict[str, str]) -> str | None:
    for name, text in fill.items():
        value = value.replace(name, text) if value is not None else None
    return value


def _expect(stage: Stage, found: int, expected: int) -> None:
    assert expected == found, f"{stage.name}, command {stage.commands}: {stage.said()[-2000:]}"


def unmount(world: World) -> None:
    """Take back the small disk."""
    disk = world.root / "disk" / "out"
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)
