"""
A stage: databases, services and an environment full of canaries, and commands as processes of their own.

Everything that a command may write lies below one folder; what it is given (keys in files, parameter files, the policy) lies
in another one, which is not searched.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import multiprocessing
import os
import pty
import re
import select
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import trustme
from tests.crash.kills.postmaster import Server
from tests.jira_server import ISSUE, USER
from tests.outbox.servers import Mail

import local_stripe
import payout_rehearsal
from manual_payout.desk.settings import SANDBOX_APPROVERS, read_policy
from manual_payout.desk.signatures import APPROVAL, SEAL, new_key_file
from manual_payout.desk.wiring import open_desk
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.settings import demo_settings
from proofs import leave_dry_run

from .canaries import PASSPHRASE, Canary, make_canaries, quoted
from .life import live
from .services import QuotingJira, QuotingPagerDuty, QuotingSlack, StripeFront, Tap

MAIL_USER = "support"
# Whom Jira does not know.
STRANGER = "somebody@else.example"
DEMO = SANDBOX_APPROVERS.parent
RUNBOOKS = Path(__file__).parents[2] / "runbooks"

# Real waits are not what is asked here.
_POLICY = """
[stripe]
mode = "sandbox"
platform_account = "acct_1SandboxPlatform00"
timeout_s = 3.0
[request.amount_minor_max]
usd = 5000000
[settlement]
poll_limit_s = 864000
[messages]
rehearsal_email = "rehearsal@marketplace.example"
rehearsal_slack_channel_id = "C0REHEARSAL"
support_from = "Marketplace support <support@marketplace.example>"
timeout_s = 2.0
"""

# No command takes this long on any machine.
PATIENCE_S = 240.0

# Said by the one start of a kernel that is not forked.
FORK_SERVER = b"truthful_papermill.warm.server"


class Watch:
    """
    What every user of the machine can see of the processes that run: their command lines.

    Attributes:
        seen: Each that was seen.

        shoot: Processes below this one with this in their command line are killed on sight.
    """

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.shoot = b""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.03):
            for path in Path("/proc").iterdir():
                if path.name.isdigit():
                    # One that has ended meanwhile.
                    with contextlib.suppress(OSError):
                        self._note(int(path.name), (path / "cmdline").read_bytes())

    def _note(self, pid: int, line: bytes) -> None:
        self.seen.add(line)
        # Never somebody else's, on a machine that others test on.
        if self.shoot and self.shoot in line and pid in _below(os.getpid()):
            os.kill(pid, signal.SIGKILL)


class Databases:
    """SQLite files, or databases of a PostgreSQL server whose roles have passwords; each begins with the demo's ledger."""

    def __init__(self, kind: str, root: Path, canaries: dict[str, Canary]) -> None:
        self.kind, self._root, self._number = kind, root, 0
        self.server: Server | None = None
        if kind == "sqlite":
            payout_rehearsal.set_up_database(root / "template")
            return
        self.server = Server(root / "pg")
        self._socket = re.search(r"host=([^&]+)", self.server.uri)[1]
        self._passwords = {"payout": canaries["DATABASE_URL"], "ledger": canaries["LEDGER_DATABASE_URL"]}
        with psycopg.connect(self.server.uri, autocommit=True) as connection:
            for role, canary in self._passwords.items():
                literal = canary.value.replace("'", "''")
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{literal}'")
            connection.execute("GRANT payout TO ledger")
            connection.execute("CREATE DATABASE template_canary OWNER payout")
            rules = root / "pg" / "pg_hba.conf"
            rules.write_text(f"local all payout,ledger scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
        payout_rehearsal.set_up_database(root / "template", self.url("payout", "template_canary"))

    def url(self, role: str, name: str) -> str:
        """The URL of one database for one role, with its password."""
        return f"postgresql://{role}:{quoted(self._passwords[role].value)}@/{name}?host={quoted(self._socket)}"

    def fresh(self, folder: Path) -> dict[str, str]:
        """Make a database for one scene; returns the settings that name it."""
        self._number += 1
        if self.kind == "sqlite":
            shutil.copy(self._root / "template" / "demo.sqlite", folder / "state.sqlite")
            return {"DATABASE_URL": f"sqlite:///{folder / 'state.sqlite'}"}
        name = f"scene_{self._number}"
        with psycopg.connect(self.server.uri, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template_canary OWNER payout")
        return {"DATABASE_URL": self.url("payout", name), "LEDGER_DATABASE_URL": self.url("ledger", name)}

    def dumps(self) -> Iterator[tuple[str, bytes]]:
        """Every row of every table of every database, and what the server has written to its own log."""
        if self.server is None:
            return
        for number in range(1, self._number + 1):
            uri = self.server.uri.replace("/postgres?", f"/scene_{number}?")
            with psycopg.connect(uri) as connection:
                tables = connection.execute(
                    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                    "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
                ).fetchall()
                for (table,) in tables:
                    with connection.cursor().copy(f"COPY {table} TO STDOUT") as rows:
                        yield f"database {number}, table {table}", b"".join(bytes(part) for part in rows)
        for log in (self._root / "pg").glob("*log"):
            if log.is_file():
                yield f"the server's {log.name}", log.read_bytes()

    def close(self) -> None:
        """Stop the server, if there is one."""
        if self.server is not None:
            self.server.close()


class World:
    """
    The services and databases of one kind of database, for all scenes.

    Args:
        root: An empty folder with a short name.

        defect: What every command does before anything else: a mistake that the search has to notice.
    """

    def __init__(self, root: Path, kind: str, *, seed: str = "0", defect: str = "") -> None:
        self.defect = defect
        self.kind, self.root, self.vault = kind, root / "seen", root / "vault"
        for folder in (self.root, self.vault):
            folder.mkdir()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.vault / "ca.pem"))
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self.tls)
        self.slack, self.pager = QuotingSlack(), QuotingPagerDuty(self.tls)
        self.canaries = make_canaries(seed, self.slack.url)
        if kind == "sqlite":
            self.canaries = {name: one for name, one in self.canaries.items() if not name.endswith("DATABASE_URL")}
        keys = tuple(self.canaries[name].value for name in ("STRIPE_FALLBACK_SECRET_KEY", "STRIPE_READ_SECRET_KEY"))
        self.mail = Mail(login=(MAIL_USER, self.canaries["SMTP_PASSWORD"].value))
        self.mail_tap = Tap(self.mail.port)
        self.jira = QuotingJira(self.canaries["JIRA_API_TOKEN"].value)
        self.jira_tap = Tap(int(self.jira.url.rpartition(":")[2]))
        self._books = contextlib.ExitStack()
        accounts, available = payout_rehearsal.sandbox_books()
        self.stripe = self._books.enter_context(
            local_stripe.running(start=incident.NOW, accounts=accounts, available=available)
        )
        self.front = StripeFront(self.stripe.base_url, keys)
        self.databases = Databases(kind, root, self.canaries)
        self.watch = Watch()
        self._make_vault()

    def close(self) -> None:
        """Stop everything."""
        servers = (self.watch, self.slack, self.pager, self.mail, self.mail_tap, self.jira, self.jira_tap, self.front)
        for server in (*servers, self.databases, self._books):
            server.close()

    def _make_vault(self) -> None:
        shutil.copy(DEMO / "revoked_keys", self.vault / "revoked_keys")
        shutil.copy(DEMO / "approvers.toml", self.vault / "approvers.toml")
        lines = (DEMO / "allowed_signers").read_text("utf-8")
        for handle, namespace in (("priya.raman", APPROVAL), ("tomas.lindqvist", SEAL)):
            email = f"{handle}@marketplace.example"
            public = new_key_file(self.vault / handle, self.canaries[PASSPHRASE].value, email)
            lines += f'{email} namespaces="{namespace}",valid-after="20250101000000Z" {public.text}\n'
        (self.vault / "allowed_signers").write_text(lines, "utf-8")
        (self.vault / "policy.toml").write_text(_POLICY, "utf-8")
        for name, canary in self.canaries.items():
            if name.startswith("STRIPE"):
                (self.vault / name).write_text(f"{canary.value}\n")

    def sent(self) -> Iterator[tuple[str, bytes]]:
        """Every byte that a service was sent, without each secret in the one field where its own service wants it."""
        value = {name: canary.value for name, canary in self.canaries.items()}
        # Twice: what a field holds a second time, or another field, stays.
        keys = ("STRIPE_FALLBACK_SECRET_KEY", "STRIPE_READ_SECRET_KEY")
        bearer = [f"authorization: bearer {value[name]}" for name in keys]
        yield "sent to Stripe", _without(self.front.received, bearer)
        hook = "/services/" + value["SLACK_REHEARSAL_WEBHOOK_URL"].partition("/services/")[2]
        slack = [f"authorization: bearer {value['SLACK_REHEARSAL_BOT_TOKEN']}", f"post {hook}"]
        yield "sent to Slack", _without(self.slack.received, slack)
        key = value["PAGERDUTY_REHEARSAL_ROUTING_KEY"]
        yield "sent to PagerDuty", _without(self.pager.received, [f'"routing_key":"{key}"', f'"routing_key": "{key}"'])
        users = (f"{user}:{value['JIRA_API_TOKEN']}" for user in (USER, STRANGER))
        basic = [f"authorization: basic {base64.b64encode(text.encode()).decode()}" for text in users]
        yield "sent to Jira", _without(self.jira_tap.received, basic)
        plain = base64.b64encode(f"\0{MAIL_USER}\0{value['SMTP_PASSWORD']}".encode()).decode()
        login = base64.b64encode(value["SMTP_PASSWORD"].encode()).decode()
        yield "sent to the mail server", _without(self.mail_tap.received, [f"auth plain {plain}", f"{login}\r\n"])

    def used(self) -> dict[str, bool]:
        """Whether each secret that a rehearsal has was really sent to its own service."""

        def heard(parts: list[bytes], *names: str) -> dict[str, bool]:
            data = b"".join(parts)
            return {name: self.canaries[name].hidden.encode() in data for name in names}

        mail, jira = b"".join(self.mail_tap.received), b"".join(self.jira_tap.received)
        return (
            heard(self.front.received, "STRIPE_FALLBACK_SECRET_KEY", "STRIPE_READ_SECRET_KEY")
            | heard(self.slack.received, "SLACK_REHEARSAL_BOT_TOKEN", "SLACK_REHEARSAL_WEBHOOK_URL")
            | heard(self.pager.received, "PAGERDUTY_REHEARSAL_ROUTING_KEY")
            | {"SMTP_PASSWORD": b"AUTH PLAIN" in mail, "JIRA_API_TOKEN": b"Basic " in jira}
        )


def _without(parts: list[bytes], fields: list[str]) -> bytes:
    data = b"\n".join(parts)
    for field in fields:
        data = re.sub(re.escape(field.encode()), b"[in its field]", data, flags=re.IGNORECASE)
    return data


class Stage:
    """
    One scene's database, folder and environment.

    Args:
        ready: Whether the request is filed, approved and read beforehand.

        webhook: Whether Slack is reached by it and not by the token.

        disk: How large the file system of the evidence is, where it is one of its own, as ``mount`` takes it.

    Attributes:
        folder: Where everything is written.

        environment: What every command is given.

        mounted: Whether the evidence has a file system of its own; mounting needs privileges.
    """

    def __init__(self, world: World, name: str, *, ready: bool = True, webhook: bool = False, disk: str = "") -> None:
        self.world, self.name, self.mounted = world, name, False
        world.stripe.reset()
        world.front.plan.clear()
        self.folder = world.root / name
        self.outputs = self.folder / "out"
        for folder in (self.outputs, self.folder / "tmp", self.folder / "home", self.folder / "said"):
            folder.mkdir(parents=True)
        if disk:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(self.outputs)]
            self.mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
        self.process: subprocess.Popen[bytes] | None = None
        self.commands = 0
        self.environment = self._environment(world.databases.fresh(self.folder), webhook=webhook)
        self.confirm = self._prepare() if ready else ""

    def _environment(self, databases: dict[str, str], *, webhook: bool) -> dict[str, str]:
        world, given = self.world, {}
        for name, canary in world.canaries.items():
            if name not in {PASSPHRASE, "DATABASE_URL", "LEDGER_DATABASE_URL"}:
                given[name] = canary.value
        if webhook:
            del given["SLACK_REHEARSAL_BOT_TOKEN"]
        return given | databases | {
            "PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), "COLUMNS": "120",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SSL_CERT_FILE": str(world.vault / "ca.pem"),
            "STRIPE_API_BASE": world.front.url,
            "SLACK_API_BASE": f"{world.slack.url}/api/",
            "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(world.mail_tap.port), "SMTP_SECURITY": "none", "SMTP_USERNAME": MAIL_USER,
            "PAGERDUTY_EVENTS_BASE": world.pager.url,
            "JIRA_BASE_URL": f"http://127.0.0.1:{world.jira_tap.port}", "JIRA_USER": USER, "JIRA_REHEARSAL_ISSUE": ISSUE,
            "MANUAL_PAYOUT_OUTPUTS": str(self.outputs),
            "MANUAL_PAYOUT_HOME": str(RUNBOOKS.parent),
            "MANUAL_PAYOUT_POLICY": str(world.vault / "policy.toml"),
            "MANUAL_PAYOUT_APPROVERS": str(world.vault / "approvers.toml"),
            "MANUAL_PAYOUT_OPERATOR": incident.OPERATOR,
        }  # fmt: skip

    def _prepare(self) -> str:
        """File, approve and read: what comes before the night, not through commands, which cost seconds."""
        settings = demo_settings(self.outputs, self.world.stripe.base_url, self.environment["DATABASE_URL"])
        # The dry run is bound to the rules under which the commands run.
        policy = read_policy(self.world.vault / "policy.toml")
        desk = open_desk(settings.model_copy(update={"policy": policy}))
        try:
            request = payout_rehearsal.file_and_approve(desk)
            return leave_dry_run(desk, request)
        finally:
            desk.store._engine.dispose()
            desk.ledger._engine.dispose()

    def run(self, *arguments: object, **environment: str | None) -> int:
        """Give ``manual-payout`` a command; what it says is kept. A variable that is None is unset."""
        if arguments[0] in {"run", "db"}:
            code = f"{self.world.defect}\nfrom manual_payout.cli import main; main()"
            return self.python("-c", code, *arguments, **environment)
        given = {name: value for name, value in (self.environment | environment).items() if value is not None}
        streams = tuple(map(str, self._said()))
        life = _processes().Process(
            target=live, args=(list(map(str, arguments)), given, str(self.folder / "home"), streams, self.world.defect)
        )
        life.start()
        life.join(PATIENCE_S)
        return life.exitcode

    def python(self, *arguments: object, **environment: str | None) -> int:
        """Run this Python."""
        out, err = self._said()
        given = {name: value for name, value in (self.environment | environment).items() if value is not None}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)], env=given, cwd=self.folder / "home",
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            )  # fmt: skip
            return self.process.wait(PATIENCE_S)

    def live(self, *more: object, **environment: str | None) -> int:
        """Give the command of the live run."""
        return self.run(
            "run", "-f", self.typed(), "--operator", incident.OPERATOR, "--confirm", self.confirm, *more, **environment
        )

    def typed(self, **changed: str) -> Path:
        """Return a parameter file with the demo's values, some of them changed."""
        parameters = payout_rehearsal.demo_parameters().as_dict() | changed
        text = "".join(f"{name}: {_yaml(value)}\n" for name, value in parameters.items() if name not in _OWN)
        path = self.world.vault / f"{self.name}-{self.commands}.yaml"
        path.write_text(text, "utf-8")
        return path

    def at_terminal(self, answers: dict[str, str], *arguments: object, **environment: str) -> int:
        """Give a command at a terminal of its own, and type *answers*, each once its question is shown."""
        out, _ = self._said()
        pid, terminal = pty.fork()
        if not pid:
            os.execve(
                sys.executable,
                [sys.executable, "-c", "from manual_payout.cli import main; main()", *map(str, arguments)],
                self.environment | environment,
            )
        shown, given, until = b"", dict.fromkeys(answers, 0), time.monotonic() + PATIENCE_S
        with contextlib.suppress(OSError):  # its end has closed the terminal
            while select.select([terminal], [], [], until - time.monotonic())[0] and (data := os.read(terminal, 4096)):
                shown += data
                for question, answer in answers.items():
                    # Who goes on asking is left alone.
                    while given[question] < min(shown.count(question.encode()), _TIMES):
                        given[question] += 1
                        # What is typed before the terminal has stopped to echo is thrown away.
                        time.sleep(0.5)
                        os.write(terminal, answer.encode() + b"\n")
                if any(shown.count(question.encode()) > _TIMES for question in answers):
                    os.kill(pid, signal.SIGINT)
        os.close(terminal)
        out.write_bytes(shown)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def kill(self, how: int, *, below: bool = False) -> Callable[[], None]:
        """Return what kills the command that runs, or every process below it."""

        def strike() -> None:
            pids = _below(self.process.pid) if below else [self.process.pid]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            time.sleep(0.3)

        return strike

    def said(self) -> str:
        """What the last command said."""
        parts = sorted((self.folder / "said").glob(f"{self.commands:03d}.*"))
        return "".join(part.read_text("utf-8", "replace") for part in parts)

    def _said(self) -> tuple[Path, Path]:
        self.commands += 1
        return tuple(self.folder / "said" / f"{self.commands:03d}.{name}" for name in ("out", "err"))


@functools.cache
def _processes() -> Any:
    # Forked from a process that has imported everything and runs no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.canary.life"])
    return context


# A person who is asked more often gives up.
_TIMES = 3

_OWN = {"operator", "dry_run", "confirm"}


def _yaml(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _below(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(path.name))
    found, todo = [], [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return found


def written(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below *root*, under its name, which counts too."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            yield name, f"{name}\n{path.readlink()}".encode(errors="surrogateescape")
        elif path.is_file():
            yield name, name.encode(errors="surrogateescape") + b"\n" + path.read_bytes()
