"""``python -m tests.canary``: let incidents go wrong in every way, and search every byte for a secret."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from .campaign import campaign
from .scenes import PLAYED, SCENES


def main(arguments: list[str] | None = None) -> int:
    """Return 1 where a byte of a canary was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.canary", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--scene", choices=list(SCENES), action="append", help="only this one; may be given again")
    parser.add_argument("--few", action="store_true", help="only a part of each")
    parser.add_argument("--record", type=Path, help="write the sums into this file")
    parser.add_argument("--keep", type=Path, help="leave everything in this empty folder with a short name")
    options = parser.parse_args(arguments)
    # Short: the paths of sockets are limited to about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="cny") as folder:
        root = options.keep or Path(folder)
        tally = campaign(
            root,
            options.database,
            names=options.scene or PLAYED[options.database],
            few=options.few,
            say=lambda text: sys.stderr.write(f"{text}\n"),
        )
    sys.stdout.write(f"{tally}\n")
    if options.record is not None:
        options.record.write_text(json.dumps(tally.as_json(), indent=1), "utf-8")
    return 1 if tally.violated else 0


if __name__ == "__main__":
    sys.exit(main())
