"""A marketplace that does not exist: its ledger, its automation and its people, for rehearsals and tests."""
