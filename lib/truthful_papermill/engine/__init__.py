"""
The papermill engine whose notebooks do not flatter themselves, and the start of its kernel.

Stock papermill calls every cell *completed* after a killed kernel, a timeout or Ctrl-C, rewrites its output in place
and overwrites what was there. Here a cell is ``completed``, ``failed``, ``unknown`` (it began, and what it did is not
known) or ``not_run``; the notebook on disk is always a whole one, and never replaces another run's.

Two doors lead in: :func:`execute` is the runner's, and :class:`TruthfulEngine` papermill's own command's; its module
says what of papermill stays as it was.

A dead run never proves that no money moved: only its kernel has stopped, and a request may have been on the wire.
"""

from truthful_papermill.lean import without

# papermill would bring it for outputs in Hadoop, of which the engine has none.
with without("pyarrow"):
    import papermill.engines  # noqa: F401

from truthful_papermill.engine.execution import execute
from truthful_papermill.engine.holding import House, PlainTranslator
from truthful_papermill.engine.papermill_door import TruthfulEngine
from truthful_papermill.engine.recording import SAID, Progress
from truthful_papermill.engine.saving import NameTakenError
from truthful_papermill.engine.signals import StoppedBySignal, orderly_signals
from truthful_papermill.engine.statuses import CellStatus, Execution, NotebookStatus, read_status

__all__ = [
    "SAID",
    "CellStatus",
    "Execution",
    "House",
    "NameTakenError",
    "NotebookStatus",
    "PlainTranslator",
    "Progress",
    "StoppedBySignal",
    "TruthfulEngine",
    "execute",
    "orderly_signals",
    "read_status",
]
