"""Fitting a value model to a business's own history, and telling how well it predicts.

`calibrate` leads: it takes snapshots of the history, fits lifetime value and scales, and judges them by what came
later.
"""
