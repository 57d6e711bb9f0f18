"""Entries, asset rows and checkpoints: the interface, the writer, the double in memory, and Milvus."""
