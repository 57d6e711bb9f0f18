"""Makes what the reference profile ships: renderings, the image tower, and the figures of its card."""
