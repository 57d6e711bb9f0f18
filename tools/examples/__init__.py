"""Runs the worked examples of `docs/examples`, and makes their media."""
