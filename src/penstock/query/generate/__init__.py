"""Answers questions from what a search found: sources, a prompt, a generator, and a check of every sentence."""
