"""The live worker: from the records of a partition to its changes.

`worker` follows the group's assignment, `partition_task` runs one partition: recover, then fetch, compute, persist and
publish, one micro-batch after the other.
"""
