"""
Crashes that are real: processes that die of SIGKILL, a sandbox over HTTP, SQLite files and a PostgreSQL server.

`python -m tests.crash.kills --runs 1000` sends failed payouts one after another, each by processes that are killed,
frozen, doubled and lied to, resumes them as people would, and then asks the sandbox's own books what became of the
money. `world` is where it happens, `filing` what comes before a send, `crew` the processes, `scenario` one payout's night,
`campaign` many of them, `shares` several processes that play them, `tally` the table at the end, `races` two at the same
moment, `notebooks` whole papermill runs.
"""
