"""What the events mean: pure functions from events to state, features, scores, standings and changes.

No input or output, no async, no wall clock and no randomness here; time comes in as an argument.
"""
