"""Dashboards, recording rules, alerts and their tests for Prometheus and Grafana, rendered from code."""
