"""Weights of the reference models, with a card for each."""
