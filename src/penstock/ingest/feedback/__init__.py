"""Remembers what people choose: reads events of feedback, and keeps the click memory in step with the index."""
