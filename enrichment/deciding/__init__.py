"""From scores to what is published: decisions in order, changes, triggers, profiles, and when to look again."""
