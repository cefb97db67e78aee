"""Restoring a partition: its states made anew from Kafka, by either core."""
