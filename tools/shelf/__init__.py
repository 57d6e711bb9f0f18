"""Installs the packages whose weights the profile shelf reads."""
