"""The types of media by their bytes: a module for each family, and `media.sniff`, which asks them in order."""
