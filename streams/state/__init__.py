"""What a worker keeps: customers and checkpoints in Redis, and the changelog in Kafka that a restore reads.

`keys` lists every Redis key with its lifetime. A write to customers or checkpoints goes
through a script in `scripts/`, which checks the owner.
"""
