"""Checks that code and documents keep to the vocabulary of docs/glossary.md and to the size limits.

    python -m tools.vocabulary [--count] [PATH ...]

Exits with 1 if there are findings, each printed as `path:line: message`.
"""
