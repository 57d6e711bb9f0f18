"""Measures how well the index is searched: sets, metrics, intervals, and runs offline or through the planes."""
