"""Commands for people who run workers: doctor, dead letters, erasure, and skipping what a partition is stuck at."""
