"""A model's rules as a history suggests them: points as ranks, thresholds, the window of silence, what tiers go by."""
