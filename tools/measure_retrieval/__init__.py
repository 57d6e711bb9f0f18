"""Measures how well the profiles and the fusions search the evaluation sets, and writes docs/measured-retrieval.md."""
