"""Fits the numbers behind the ranking to questions with labels."""
