"""Detects the type of media from their bytes: a module for each family, which `media.sniff` calls in order."""
