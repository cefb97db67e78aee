"""What a worker keeps: customers and positions in Redis, and the changelog that they can be restored from."""
