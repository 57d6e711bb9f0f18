"""Metrics of all processes, and their exposition to Prometheus."""
