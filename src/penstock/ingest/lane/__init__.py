"""Drives the events of one Kafka consumer from receipt to commit."""
