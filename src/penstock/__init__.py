"""Penstock: Kafka topics of text, images, audio, video and documents, searchable seconds after they were produced."""

__version__ = "0.1.0"
