"""Finds out what became of dead letters, and produces them again."""
