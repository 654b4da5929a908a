"""Our own tables: their schema, the append-only journal, the store whose every write is one transaction with its event, and the clock that judges."""
