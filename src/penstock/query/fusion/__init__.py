"""Combines the rankings of several channels into hits."""
