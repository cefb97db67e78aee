"""Tiers of a given size: thresholds that let in so many customers, and how far a stream has drifted from them."""
