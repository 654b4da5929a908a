"""A plugin of pytest that makes our engine papermill's default. ``pytest -p ours_as_default``"""

from papermill.engines import papermill_engines

from manual_payout.desk.papermill_engine import PayoutEngine

papermill_engines.register(None, PayoutEngine)
