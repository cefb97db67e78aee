"""How Ebbtide runs: Kafka, Redis, Faust, time, files and the command line.

`streams.worker` is the live path. `streams.replay` runs the same core on files.
"""
