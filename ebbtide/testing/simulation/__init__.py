"""A whole worker in memory: servers, network and time that a test controls, the same again for the same seed.

`kafka` and `redis` are the servers: logs with transactions, retention and groups; commands and Lua scripts. `process`
is a machine that may be paused or killed, and a network that may lose, delay or repeat requests. `clients` is what a
worker on it uses in place of aiokafka and redis-py. `loop` keeps virtual time, in which nothing waits.

Needs the extras `worker` and `testing`.
"""
