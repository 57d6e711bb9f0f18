"""Serves the query plane over HTTP, in replicas of Ray Serve."""
