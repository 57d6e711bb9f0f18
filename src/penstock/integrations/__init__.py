"""Penstock for other programs' interfaces. Each module needs the extra of its name."""
