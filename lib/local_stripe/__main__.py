"""``python -m local_stripe``: a sandbox in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from local_stripe.admin import read_accounts
from local_stripe.errors import Json
from local_stripe.mistakes import InvalidValueError
from local_stripe.process import DEFAULT_START, serve


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        seed = _read_seed(options.seed_file)
        serve(
            options.host,
            options.port,
            start=None if options.start == "now" else options.start,
            ticking=options.ticking,
            accounts=read_accounts(seed.get("accounts", [])),
            available=seed.get("available"),
            on_ready=lambda base_url: _announce(base_url, options.port_file),
        )
    except InvalidValueError as error:
        sys.stderr.write(f"Cannot start: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_stripe", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--start", default=DEFAULT_START, help="instant at which the clock starts, or 'now'")
    parser.add_argument("--ticking", action="store_true", help="let the clock go by itself")
    parser.add_argument("--seed-file", type=Path, help='JSON: {"accounts": [...], "available": {"usd": 500000}}')
    parser.add_argument("--port-file", type=Path, help="file that receives the port once requests are accepted")
    return parser


def _read_seed(path: Path | None) -> Json:
    if path is None:
        return {}
    try:
        seed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError("seed-file", str(path), f"a readable JSON file ({error})") from error
    if isinstance(seed, list):
        return {"accounts": seed}
    if not isinstance(seed, dict):
        raise InvalidValueError("seed-file", str(path), "a JSON object with accounts and available")
    return seed


def _announce(base_url: str, port_file: Path | None) -> None:
    sys.stdout.write(f"{base_url}\n")
    sys.stdout.flush()
    if port_file is None:
        return
    # Written aside and moved, so that a reader finds the whole number or no file.
    handle, name = tempfile.mkstemp(dir=port_file.parent, prefix=f".{port_file.name}.")
    with os.fdopen(handle, "w", encoding="ascii") as draft:
        draft.write(base_url.rpartition(":")[2] + "\n")
    Path(name).replace(port_file)


if __name__ == "__main__":
    sys.exit(main())
