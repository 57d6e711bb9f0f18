"""Limits the requests of each caller and each tenant: rates, and what is in progress."""
