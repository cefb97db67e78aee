"""How Ebbtide runs: Kafka, Redis, Faust, time and the command line."""
