"""Fills a new version of the index beside the served one, also with what the topics no longer have."""
