"""Weighs the channels of a query, and proposes filters that its words imply."""
