"""What a worker counts, as Prometheus metrics."""
