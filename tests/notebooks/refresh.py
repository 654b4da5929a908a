"""
Run the committed notebooks on the demo incident, and keep their outputs and digests (``make notebooks``).

The digest of a changed notebook changes with it: whoever commits it says that it was reviewed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from manual_payout.desk import reviewed
from manual_payout.desk.settings import SANDBOX_APPROVERS
from truthful_papermill import templates

RUNBOOKS = Path(__file__).parents[2] / "runbooks"

# Its rehearsal is always one of these very notebooks.
INVENTORY = SANDBOX_APPROVERS.parent / "inventory.toml"


def main() -> None:
    """Refresh all of them, in order."""
    paths = sorted(RUNBOOKS.glob("*.ipynb"))
    # First, since the runner refuses a notebook that is not the reviewed one; outputs are no part of the digest.
    digests = {path.stem: templates.load_template(path).digest for path in paths}
    reviewed.FILE.write_text(json.dumps(digests, indent=2) + "\n", "utf-8")
    INVENTORY.write_text(
        re.sub(
            "^procedure = .*$",
            f'procedure = "{reviewed.procedure_digest()}"',
            INVENTORY.read_text("utf-8"),
            flags=re.MULTILINE,
        ),
        "utf-8",
    )
    # Not before: the runner's house reads the digests when it is imported, and would know the notebooks as they were.
    from tests.notebooks.story import told

    with told() as story:
        for path in paths:
            story.reach(path.stem)
            book = nbformat.read(path, as_version=4)
            NotebookClient(book, timeout=120, kernel_name="python3", record_timing=False).execute()
            # The exact Python that refreshed it is not part of a template.
            book.metadata = {
                "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
            nbformat.write(book, path)
            print(path.name)  # noqa: T201


if __name__ == "__main__":
    main()
