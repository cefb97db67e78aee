"""Fitting a value model to a business's own history: snapshots of it, fits, scales, and how good they are."""
