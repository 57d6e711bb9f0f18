"""Makes the assets of the reference profile: renderings, image tower, speech model, sample media, and their figures."""
