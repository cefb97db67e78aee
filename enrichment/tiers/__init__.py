"""Tiers of a given size: thresholds that fill them, and the customers that they are counted over."""
