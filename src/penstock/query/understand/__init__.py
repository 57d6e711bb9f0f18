"""Turns requests into queries: checks them, decodes images and transcribes speech."""
