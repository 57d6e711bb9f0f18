"""Answers searches: understand, route, embed, retrieve, fuse, group."""
