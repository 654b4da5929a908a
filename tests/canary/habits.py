"""
What people write into a notebook when something does not work, and what then stands in its output.

``python -m tests.canary.habits FOLDER`` runs them all with our engine, by what the environment says: those that do not end
their notebook together, each of the others in one of its own; in forked kernels and in ordinary ones.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

# What the habits start from: the secrets as any cell can get at them.
SETUP = """\
import base64, json, logging, os, pprint, subprocess, sys, textwrap, threading, time, traceback, urllib.parse, warnings
NAMES = [
    "STRIPE_FALLBACK_SECRET_KEY", "STRIPE_READ_SECRET_KEY", "STRIPE_REHEARSAL_SECRET_KEY", "SLACK_BOT_TOKEN", "SLACK_REHEARSAL_BOT_TOKEN",
    "SLACK_WEBHOOK_URL", "SLACK_REHEARSAL_WEBHOOK_URL", "SMTP_PASSWORD", "PAGERDUTY_ROUTING_KEY",
    "PAGERDUTY_REHEARSAL_ROUTING_KEY", "DATABASE_URL", "LEDGER_DATABASE_URL",
]
secrets = {name: os.environ[name] for name in NAMES if name in os.environ}
for name in ("DATABASE_URL", "LEDGER_DATABASE_URL"):
    if urllib.parse.urlsplit(secrets.get(name, "")).password:
        secrets[name + "_PASSWORD"] = urllib.parse.unquote(urllib.parse.urlsplit(secrets[name]).password)
hook, key = secrets["SLACK_REHEARSAL_WEBHOOK_URL"], secrets["STRIPE_FALLBACK_SECRET_KEY"]
password = secrets["SMTP_PASSWORD"]
database = secrets.get("DATABASE_URL", "").replace("postgresql://", "postgresql+psycopg://")
"""

# These go on after it.
SHOWN = {
    "print": "for value in secrets.values(): print(value)",
    "last_line": "secrets",
    "environ": "os.environ",
    "environ_items": "sorted(os.environ.items())",
    "magic_env": "%env",
    "magic_env_name": "for name in secrets: get_ipython().run_line_magic('env', name.removesuffix('_PASSWORD') if name.startswith(('DATABASE', 'LEDGER')) else name)",
    "shell_env": "!env",
    "shell_echo": "!echo $SLACK_REHEARSAL_WEBHOOK_URL $STRIPE_FALLBACK_SECRET_KEY $SMTP_PASSWORD; printenv PAGERDUTY_ROUTING_KEY >&2",
    "who_is": "%who" + "s",
    "who_ls": "vars().copy()",
    "json_dumps": "print(json.dumps(secrets)); print(json.dumps(json.dumps(secrets)))",
    "json_indent": "print(json.dumps(secrets, indent=4))",
    "pprint": "pprint.pprint(secrets, width=40)",
    "repr": "print([repr(value) for value in secrets.values()])",
    "url": "print(urllib.parse.urlencode(secrets)); print([urllib.parse.quote(value, safe='') for value in secrets.values()])",
    "base64": "print([base64.b64encode((pad + value).encode()).decode() for value in secrets.values() for pad in ('', 'a', 'ab')])",
    "base64_lines": "print(base64.encodebytes(json.dumps(secrets).encode()).decode())",
    "basic_header": "import requests; print([requests.auth._basic_auth_str('ops', value) for value in secrets.values()])",
    "hex": "print([value.encode().hex() for value in secrets.values()]); print([value.encode().hex().upper() for value in secrets.values()])",
    "bytes": "print([value.encode() for value in secrets.values()])",
    "html": "from html import escape; from IPython.display import HTML, display; display(HTML('<br>'.join(map(escape, secrets.values()))))",
    "markdown": "from IPython.display import Markdown; Markdown('\\n'.join(f'* `{value}`' for value in secrets.values()))",
    "display_json": "from IPython.display import JSON, display; display(JSON(secrets), metadata={'given': secrets})",
    "frame": "import pandas as pd; pd.DataFrame({'name': list(secrets), 'value': list(secrets.values())})",
    "frame_wide": "import pandas as pd; pd.set_option('display.max_colwidth', None); pd.DataFrame([secrets]).T",
    "frame_csv": "import pandas as pd; print(pd.DataFrame([secrets]).to_csv())",
    "dataclass": "from dataclasses import make_dataclass; make_dataclass('Config', list(secrets))(**secrets)",
    "namespace": "from types import SimpleNamespace; SimpleNamespace(**secrets)",
    "two_pieces": "for value in secrets.values():\n    print(value[:len(value) // 2], end='', flush=True); time.sleep(.15); print(value[len(value) // 2:], flush=True)",
    "letter_by_letter": "for value in secrets.values():\n    for char in value: print(char, end='', flush=True)\n    print()",
    "both_streams": "for value in secrets.values():\n    print(value, flush=True); print(value, file=sys.stderr, flush=True)",
    "carriage_return": "for value in secrets.values(): print('trying', value, end='\\r', flush=True)",
    "wrapped": "print(textwrap.fill(' '.join(secrets.values()), 60, break_on_hyphens=False))",
    "columns": "print('\\n'.join(value[at:at + 20] for value in secrets.values() for at in range(0, len(value), 20)))",
    "coloured": "print(*(f'\\x1b[31m{value}\\x1b[0m' for value in secrets.values()))",
    "coloured_inside": "print(*(f'{value[:9]}\\x1b[1m{value[9:]}' for value in secrets.values()))",
    "cut_short": "print(*(f'{value[:-6]}…' for value in secrets.values()))",
    "cut_middle": "import reprlib; print(*(reprlib.repr(value) for value in secrets.values()))",
    "logging": "logging.basicConfig(level=0, force=True); [logging.getLogger('x').error('with %s', value) for value in secrets.values()]",
    "warnings": "for value in secrets.values(): warnings.warn(f'unexpected {value}')",
    "traceback_printed": "try:\n    raise ValueError(*secrets.values())\nexcept ValueError:\n    traceback.print_exc()",
    "thread_error": "def fail(): raise RuntimeError(str(secrets))\nthread = threading.Thread(target=fail); thread.start(); thread.join()",
    "file_descriptor": "os.write(1, ' '.join(secrets.values()).encode()); os.write(2, ' '.join(secrets.values()).encode()); time.sleep(.3)",
    "child_process": "subprocess.run([sys.executable, '-c', 'import os; print(dict(os.environ)); raise SystemExit(os.environ[\"SMTP_PASSWORD\"])'])",
    "widget_title": "from IPython.display import display; display({'text/plain': hook, 'text/html': f'<i>{hook}</i>', 'application/x-unknown+json': secrets}, raw=True)",
    "latex_svg": "from IPython.display import Latex, SVG, display; display(Latex(f'$x${hook}'), SVG(data=f'<svg xmlns=\"http://www.w3.org/2000/svg\"><text>{hook}</text></svg>'))",
    "glue": "import scrapbook; scrapbook.glue('config', secrets, encoder='json'); scrapbook.glue('hook', hook)",
    "display_id": "from IPython.display import display; shown = display('waiting', display_id=True); shown.update(secrets)",
    "requests_refused": "import requests\nfor url in (hook.replace(hook.split('/')[2], '127.0.0.1:1'), secrets['SLACK_WEBHOOK_URL'].replace('hooks.slack.com', '127.0.0.1:1')):\n    try:\n        requests.post(url, json={})\n    except Exception as error: print(error)",
    "httpx_log": "import httpx2 as httpx; logging.basicConfig(level=logging.DEBUG, force=True)\ntry:\n    httpx.post(hook, json={'text': 'x'}).raise_for_status()\nexcept Exception as error: print(error)",
    "urllib_error": "import urllib.request\ntry:\n    urllib.request.urlopen(hook + '\\x01')\nexcept Exception as error: print(error)",
    "http_debug": "import http.client, socket\nlistener = socket.create_server(('127.0.0.1', 0)); connection = http.client.HTTPConnection('127.0.0.1', listener.getsockname()[1]); connection.set_debuglevel(1)\nconnection.request('POST', '/' + hook.split('/', 3)[3], '{}', {'Authorization': 'Bearer ' + key, 'X-Key': password}); connection.close(); listener.close()",
    "smtp_debug": "import smtplib\nserver = smtplib.SMTP('127.0.0.1', int(os.environ['SMTP_PORT'])); server.set_debuglevel(2)\ntry:\n    server.login(os.environ['SMTP_USERNAME'], password)\nfinally: server.close()",
    "stripe_newline": "import stripe\ntry:\n    stripe.StripeClient(key + '\\n', base_addresses={'api': os.environ['STRIPE_API_BASE']}).v1.balance.retrieve()\nexcept Exception as error: print(error)",
    "stripe_debug": "import stripe; stripe.log = 'debug'; client = stripe.StripeClient(key, base_addresses={'api': os.environ['STRIPE_API_BASE']}); print(vars(client._requestor._options)); print(client.v1.balance.retrieve()._requestor.api_key)",
    "pickle": "import pickle; print(pickle.dumps(secrets)); print(base64.b64encode(pickle.dumps(secrets)))",
    # Spelt in two pieces, since papermill's door runs no notebook of ours that was not reviewed.
    "settings": "from importlib import import_module; settings = import_module('manual_' 'payout.desk.settings').load_settings(); print(settings, settings.model_dump(), settings.messenger_secrets(), settings.messenger_values(), settings.database_text())",
    "settings_secret": "print(settings.fallback_secret(), settings.read_secret())",
    "psycopg_url": "import psycopg\ntry:\n    psycopg.connect(database or 'password=' + password + ' x')\nexcept Exception as error: print(error)",
    "psycopg_typo": "try:\n    psycopg.connect(f'pasword={password} host')\nexcept Exception as error: print(error)",
    "sqlalchemy_url": "import sqlalchemy as sa; url = sa.make_url(database or 'postgresql+psycopg://u:' + urllib.parse.quote(password, safe='') + '@h/d'); print(url, repr(url), url.render_as_string(hide_password=False), url.password)",
    "sqlalchemy_error": "try:\n    sa.create_engine('sqlite://').connect().execute(sa.text('select :a from nowhere'), {'a': password})\nexcept Exception as error: print(error)",
    "sqlalchemy_echo": "with sa.create_engine('sqlite://', echo=True).connect() as connection: connection.execute(sa.text('select :a'), {'a': hook})",
    "assigned": "TOKEN = secrets; TOKEN",
}  # fmt: skip

# These end their notebook.
RAISED = {
    "assert": "assert not secrets, f'{secrets}'",
    "value_error": "raise ValueError(' '.join(secrets.values()))",
    "verbose_mode": "%xmode Verbose\ndef call(token, **more): return token + 1\ncall(key, **secrets)",
    "exit_text": "raise SystemExit(' '.join(secrets.values()))",
    "called_process": "subprocess.run(['false', *secrets.values()], check=True)",
    "key_error": "{}[hook + password]",
    "json_error": "json.loads('{' + json.dumps(secrets))",
    "chained": "try:\n    raise ValueError(key)\nexcept ValueError as error:\n    raise RuntimeError(password) from error",
    "group": "raise ExceptionGroup(hook, [ValueError(value) for value in secrets.values()])",
    "note": "error = ValueError('see the note'); [error.add_note(value) for value in secrets.values()]; raise error",
    "named_error": "raise type('Error_' + key, (Exception,), {})(key)",
    "multiline": "raise ValueError('\\n'.join(value[at:at + 30] for value in secrets.values() for at in range(0, len(value), 30)))",
    "requests_status": "import requests\nrequests.post(hook + 'x', json={}).raise_for_status()",
    "long_text": "raise ValueError(' '.join('.' * number + value for number in range(40) for value in secrets.values()))",
    "stripe_unauthorized": "import stripe\nstripe.StripeClient(key + 'x', base_addresses={'api': os.environ['STRIPE_API_BASE']}).v1.balance.retrieve()",
    "killed": "print(*secrets.values(), flush=True); time.sleep(.3); os.kill(os.getpid(), 9)",
}  # fmt: skip


def literal_cells(secrets: dict[str, str]) -> list[str]:
    """What somebody has typed into the notebook itself."""
    return [f"token_{number} = {value!r}" for number, value in enumerate(secrets.values())]


def write(path: Path, cells: list[tuple[str, str]]) -> Path:
    """Write a template of these (heading, source)."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb = new_notebook(metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nb.cells = [new_code_cell("notes: str = ''  # Notes.", metadata={"tags": ["parameters"]}), new_code_cell(SETUP)]
    for heading, source in cells:
        nb.cells += [new_markdown_cell(f"## {heading}"), new_code_cell(source)]
    nbformat.write(nb, path)
    return path


def templates(folder: Path, *, few: bool = False) -> list[Path]:
    """Write every template into *folder*; only the *few* that cost little."""
    typed = {name: value for name, value in os.environ.items() if name.endswith(("KEY", "TOKEN", "URL", "PASSWORD"))}
    together = [*SHOWN.items(), *(("typed in", cell) for cell in literal_cells(typed))]
    raised = dict(list(RAISED.items())[:2]) if few else RAISED
    return [write(folder / "shown.ipynb", together)] + [
        write(folder / f"{name}.ipynb", [(name, source)]) for name, source in raised.items()
    ]


def main(folder: Path, vault: Path, *, few: bool = False) -> None:
    """Run all habits; the notebooks and their pages are left in *folder*, the templates in *vault*."""
    from manual_payout.desk.kernels import fork_server
    from manual_payout.desk.settings import load_settings
    from manual_payout.desk.wiring import open_desk
    from manual_payout.evidence.pages import notebook_page
    from manual_payout.steps.runner import kernel_environment
    from truthful_papermill.engine import execute

    desk = open_desk(load_settings())
    environment, hook = kernel_environment(desk.settings), os.environ["SLACK_REHEARSAL_WEBHOOK_URL"]
    with fork_server() as kernels:
        for template in templates(vault, few=few):
            for server in (kernels, None) if template.stem == "shown" and not few else (kernels,):
                output = folder / f"{template.stem}-{'forked' if server else 'ordinary'}.ipynb"
                execution = execute(
                    template, output, {"notes": hook}, redactor=desk.redactor, kernel_env=environment, fork_server=server,
                    timeout_s=60,
                )  # fmt: skip
                output.with_suffix(".html").write_text(notebook_page(output), "utf-8")
                sys.stdout.write(
                    f"{output.name}: {execution.status} {execution.error_name} {execution.error_message}\n"
                )
                if template.stem == "shown" and execution.status != "completed":
                    sys.exit(f"{output.name} ended in cell {execution.failing_cell}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), few="--few" in sys.argv)
