"""Builds evaluation sets from packages of Debian and npm, for `penstock evaluate`; see docs/evaluate.md."""
