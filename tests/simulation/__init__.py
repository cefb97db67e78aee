"""Deterministic simulation: the real worker on a Kafka and a Redis in memory, with every kind of fault, from one seed.

`loop` keeps virtual time, `kafka` and `redis` are the servers, `process` is a machine that may be paused or killed,
`clients` is what its worker uses in place of aiokafka and redis-py, `workload` writes the inputs, `faults` chooses
what goes wrong and when, `world` runs all that, `invariants` says what must hold, `mutations` breaks the protocol,
and `runs` does it many times.

Run one seed again with `pytest tests/simulation --seed N`, many with `make simulate RUNS=10000`.
"""
