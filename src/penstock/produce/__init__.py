"""Turns sources of media into messages for Kafka: rows of tables, objects, shards, other topics, requests of HTTP."""
