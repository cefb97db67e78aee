"""Reading a partition's inputs: what was fetched, what cannot be read, what stays silent, what is skipped."""
