"""How long things take beside each other: ``python -m tests.bench``, or ``make bench``."""
