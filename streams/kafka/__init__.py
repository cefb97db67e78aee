"""Everything that speaks Kafka: connections, topics, transactions, and batches before they are decoded."""
