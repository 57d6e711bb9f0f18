"""Finds the cheapest index of vectors that still finds what an exact search finds, in every direction."""
