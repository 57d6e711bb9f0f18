"""Kafka: topics, consumers, producers and dead letters; the only package that imports kafka-python."""
