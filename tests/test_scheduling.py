"""
The ways to schedule the monitor that docs/monitoring.md shows, taken from the page and run as they stand there.

Only paths are replaced. Airflow is not among the requirements: name a Python that has it, with its papermill provider, in
AIRFLOW_PYTHON to run the DAG itself.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import sqlalchemy as sa

import local_stripe
from manual_payout.database import engines
from manual_payout.desk.settings import variables

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
BIN = Path(sys.executable).parent
AIRFLOW = os.environ.get("AIRFLOW_PYTHON", "")

# What a cron job is given, and nothing else (crontab(5)).
BARE = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "LOGNAME": "payouts"}

# What the demo's night is firing about.
FIRING = "credential-due-14"


def block(name):
    """One snippet of the page."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", PAGE, re.DOTALL).group(1)


@dataclass(frozen=True)
class Place:
    """Where the paths of the page are in this test, with a database and a Stripe to look at."""

    root: Path
    url: str

    def here(self, text):
        """Replace every path of the page."""
        for there, path in {
            "/etc/manual-payout.env": self.root / "manual-payout.env",
            "/opt/manual-payout/.venv/bin": BIN,
            "/opt/manual-payout/runbooks": ROOT / "runbooks",
            "/var/log/manual-payout": self.root / "log",
            "/var/lib/manual-payout": self.root / "notebooks",
            "/var/lib/node_exporter": self.root,
        }.items():
            text = text.replace(there, str(path))
        assert "/opt/" not in text
        return text

    def settings(self, base_url, **changed):
        """Write the settings' file as the page shows one: each value in single quotes."""
        values = {
            "DATABASE_URL": self.url,
            "STRIPE_READ_SECRET_KEY": local_stripe.READ_KEY,
            "STRIPE_API_BASE": base_url,
            "MANUAL_PAYOUT_OUTPUTS": str(self.root / "outputs"),
        } | changed
        (self.root / "manual-payout.env").write_text("".join(f"{n}='{v}'\n" for n, v in values.items()), "utf-8")

    def environment(self):
        """What a scheduler gives to what it starts."""
        return BARE | {"HOME": str(self.root)}

    def raised(self):
        """The rules of all alerts on record."""
        engine = engines.connect(self.url, name="DATABASE_URL").execution_options(own_schema=True)
        with engine.connect() as connection:
            found = {row.rule for row in connection.execute(sa.text("SELECT rule FROM alerts"))}
        engine.dispose()
        return found


@pytest.fixture(name="place")
def _place(any_demo_url, tmp_path, shared_stripe):
    """Nothing has happened; the settings' file is there, and the folders that the page asks for."""
    shared_stripe.reset()
    place = Place(tmp_path, any_demo_url)
    place.settings(shared_stripe.base_url)
    (tmp_path / "log").mkdir()
    (tmp_path / "notebooks").mkdir()
    return place


@pytest.fixture(name="sqlite_place")
def _sqlite_place(demo_file, tmp_path, shared_stripe):
    """The same, where the kind of database does not matter."""
    shared_stripe.reset()
    shutil.copy(demo_file, tmp_path / "state.sqlite")
    place = Place(tmp_path, f"sqlite:///{tmp_path / 'state.sqlite'}")
    place.settings(shared_stripe.base_url)
    (tmp_path / "notebooks").mkdir()
    return place


def cron(place):
    """Run the cron line's command as cron does: the shell, the bare environment, the home folder."""
    line = place.here(block("cron").splitlines()[-1])
    assert re.match(r"(\S+ ){5}payouts ", line)
    # cron turns a bare % into a line break.
    assert "%" not in line
    command = line.split(maxsplit=6)[-1]
    return subprocess.run(
        [BARE["SHELL"], "-c", command], cwd=place.root, env=place.environment(), capture_output=True, check=False
    ).returncode


def test_settings_file_reads_as_it_is_written():
    """A shell gives each value whole, the & in an address included, and each is a setting that is known."""
    text = block("settings")
    named = re.findall(r"^([A-Z_]+)='(.*)'$", text, re.MULTILINE)
    show = "; ".join(f'printf "%s\\n" "${name}"' for name, _ in named)
    shown = subprocess.run(["/bin/sh", "-c", f"{text}\n{show}"], capture_output=True, text=True, check=True, env={})

    assert [value for _, value in named] == shown.stdout.splitlines()
    assert {name for name, _ in named} <= {*variables().values(), "PATH"}
    assert len(named) == len([line for line in text.splitlines() if not line.startswith("#")])


def test_cron_line_does_a_round(place):
    """Under a bare environment, with what is firing as exit code and in the log; a second round raises nothing twice."""
    codes = [cron(place), cron(place)]
    text = (place.root / "log" / "monitor.log").read_text("utf-8")
    rounds = [json.loads(one) for one in re.findall(r"^\{.*?^\}", text, re.DOTALL | re.MULTILINE)]
    raised = [[one["rule"] for one in answer["raised"]] for answer in rounds if "raised" in answer]

    assert [6, 6] == codes, text
    assert [[FIRING], []] == raised
    assert {FIRING} == place.raised()


def test_log_that_cannot_be_opened_keeps_cron_from_beginning(sqlite_place):
    """As the page says: its folder has to be there, and be the user's."""

    assert cron(sqlite_place) not in (0, 6)
    assert set() == sqlite_place.raised()


def units(place):
    """Write the page's units into files and return their paths."""
    found = re.split(r"^# /etc/systemd/system/(\S+)\n", place.here(block("systemd")), flags=re.MULTILINE)[1:]
    paths = []
    for name, text in zip(found[::2], found[1::2], strict=True):
        (place.root / name).write_text(text, "utf-8")
        paths.append(place.root / name)
    return paths


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_what_systemd_reads(sqlite_place):
    """No unknown section or entry, no command that is not there; and a misspelt entry would be found."""

    def verify(*paths):
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    service, timer = units(sqlite_place)
    good = verify(service, timer)
    service.write_text(service.read_text("utf-8").replace("SuccessExitStatus", "SucessExitStatus"), "utf-8")

    assert "" == good.stderr
    assert 0 == good.returncode
    assert "SucessExitStatus" in verify(service).stderr


def test_unit_does_a_round_and_its_exit_code_is_a_success(place):
    """``ExecStart`` with the settings' file, in systemd's environment; the gauges are where the exporter looks."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read(units(place)[0], "utf-8")
    service = unit["Service"]
    given = dict(line.split("=", 1) for line in Path(service["EnvironmentFile"]).read_text("utf-8").splitlines())
    environment = place.environment() | {name: value.strip("'") for name, value in given.items()}
    done = subprocess.run(
        shlex.split(service["ExecStart"]), cwd="/", env=environment, capture_output=True, text=True, check=False
    )

    assert service["SuccessExitStatus"] == str(done.returncode), done.stderr
    assert {FIRING} == place.raised()
    assert f'rule="{FIRING}"' in (place.root / "manual_payout.prom").read_text("utf-8")


# ---------------------------------------------------------------------------------------------------------- Airflow


def kernel(place):
    """Install the page's kernel, and return the variable by which Jupyter finds it."""
    folder = place.root / "jupyter" / "kernels" / "manual-payout"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(place.here(block("kernel")), "utf-8")
    return {"JUPYTER_PATH": str(place.root / "jupyter")}


def operator_arguments(place):
    """What the page's DAG gives to the operator, whatever Python can read of it without running it."""
    calls = [node for node in ast.walk(ast.parse(place.here(block("airflow")))) if isinstance(node, ast.Call)]
    call = next(node for node in calls if getattr(node.func, "id", "") == "PapermillOperator")
    return {
        keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg != "execution_timeout"
    }


def test_dags_task_runs_through_plain_papermill(place):
    """With the page's notebook, parameters and kernel, called as the operator calls it, from an environment that knows no setting."""
    given = operator_arguments(place)
    output = given["output_nb"].replace("{{ dag_run.run_after | ts_nodash }}", "20261126T150000")
    code = (
        "import papermill, json, sys; given = json.loads(sys.argv[1]); papermill.execute_notebook(given['input_nb'], "
        "sys.argv[2], parameters=given['parameters'], progress_bar=False, report_mode=True, log_output=False, "
        "kernel_name=given['kernel_name'], language=None, engine_name=None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given), output], env=place.environment() | kernel(place), cwd=place.root,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert {"task_id", "input_nb", "output_nb", "parameters", "kernel_name"} == set(given)
    assert 0 == done.returncode, done.stderr[-2000:]
    assert {FIRING} == place.raised()
    assert FIRING in nbformat.writes(nbformat.read(output, as_version=4))


@pytest.mark.skipif(not AIRFLOW, reason="AIRFLOW_PYTHON names no Python that has Airflow and its papermill provider")
def test_dag_runs_in_airflow_and_fails_where_the_notebook_does(sqlite_place):
    """Triggered without a logical date, as by hand; then with our database away: the task fails, its notebook is kept."""
    place = sqlite_place
    (place.root / "dags").mkdir()
    (place.root / "dags" / "watch.py").write_text(place.here(block("airflow")), "utf-8")
    environment = place.environment() | kernel(place)
    environment |= {
        "AIRFLOW_HOME": str(place.root / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.root / "dags"),
        "PYTHONPATH": str(place.root / "dags"),
    }

    def airflow(*arguments):
        return subprocess.run(
            [AIRFLOW, *arguments], env=environment, cwd=place.root, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip

    def state():
        done = airflow("-c", "from watch import dag\nprint('state:', dag.test(logical_date=None).state)")
        return re.search(r"state: (\w+)", done.stdout + done.stderr).group(1), done

    assert 0 == airflow("-m", "airflow", "db", "migrate").returncode
    well, done = state()
    assert "success" == well, done.stderr[-3000:]
    assert {FIRING} == place.raised()
    place.settings("http://127.0.0.1:1", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    ill, _ = state()
    books = sorted((place.root / "notebooks").glob("monitor-*.ipynb"))

    assert "failed" == ill
    assert 2 == len(books)
    assert "did not answer as it should" in books[-1].read_text("utf-8")
