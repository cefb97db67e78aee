"""Kafka: how it is connected to, what is asked of it, and what comes from it before it is decoded."""
