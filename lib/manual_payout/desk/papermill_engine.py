"""``papermill --engine manual_payout``: the truthful engine, with our reviewed templates and the secrets of this installation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from manual_payout.desk.results import ending_of
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.domain.parameters import CLOSE_PARAMETERS, NOTEBOOK_PARAMETERS

if not TYPE_CHECKING:
    # papermill loads the engines of installed packages while it is itself being imported. If this module is what imports
    # it, papermill looks for the class now, before it exists; the last lines of this module set that right.
    PayoutEngine = None

from truthful_papermill.lean import without

# papermill would bring it for outputs in Hadoop, of which the engine has none.
with without("pyarrow"):
    from papermill.engines import papermill_engines
    from papermill.translators import papermill_translators

from manual_payout.desk.secret_settings import named_secrets, redactor_of, refuse_our_words
from truthful_papermill.engine.holding import House, PlainTranslator
from truthful_papermill.engine.papermill_door import TruthfulEngine
from truthful_papermill.redaction import Redactor

_NAME = "manual_payout"


def _also_known(template: str | None) -> frozenset[str]:
    # One file of parameters serves all stages: each takes what another one declares, and compares or leaves it.
    return frozenset({*NOTEBOOK_PARAMETERS, *CLOSE_PARAMETERS}) if (template or "")[:1].isdigit() else frozenset()


HOUSE = House(
    reviewed=reviewed_digests(), imports=(_NAME, "payout_rehearsal"), also_known=_also_known, folder="runbooks/",
    ending=ending_of,
)  # fmt: skip


class PayoutEngine(TruthfulEngine):
    """What stands behind ``papermill --engine manual_payout``."""

    house: ClassVar[House] = HOUSE
    translator: ClassVar[str] = _NAME

    @classmethod
    def redactor(cls) -> Redactor:
        """
        Return what takes the secrets of this environment out of everything that is saved.

        Raises:
            SecretError: A secret of this environment is a word that evidence is made of.
        """
        refuse_our_words(named_secrets(os.environ))
        return redactor_of(os.environ)


class _Translator(PlainTranslator):
    """Writes parameters; a refusal is shown without the secrets of this environment."""

    @staticmethod
    def redactor() -> Redactor:
        return redactor_of(os.environ)


papermill_translators.register(_NAME, _Translator)
papermill_engines.register(_NAME, PayoutEngine)
