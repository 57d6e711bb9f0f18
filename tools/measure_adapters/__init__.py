"""Measures what adapters gain on the evaluation sets, by method, pairs and language, and writes the page of it."""
