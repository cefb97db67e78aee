"""What the events mean: from events to customer state, features, scores, standings and changes.

Pure functions only: no input or output, no async, no wall clock and no randomness. The caller passes the time in.
"""
