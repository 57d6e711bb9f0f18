"""The ingest plane: consumes Kafka topics and writes what they carry into the index."""
