"""Tests of learned fusion."""
