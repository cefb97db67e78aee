"""The live worker: from the records of a partition to its changes, exactly once."""
