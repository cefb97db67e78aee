"""From scores to what is published: decisions in order, changes, profiles, re-activation, and the day due next."""
