"""Deterministic simulation: the real worker on a Kafka and a Redis in memory, with every kind of fault, from one seed.

The servers, the machine, its clients and virtual time are `ebbtide.testing.simulation`. Here `workload` writes the
inputs, `faults` chooses what goes wrong and when, `world` runs all that, `invariants` says what must hold, `mutations`
breaks the protocol, and `runs` does it many times.

Run one seed again with `pytest tests/simulation --seed N`, many with `make simulate RUNS=10000`.
"""
