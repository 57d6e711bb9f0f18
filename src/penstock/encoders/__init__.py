"""Models that turn text, images and speech into embeddings and transcripts, and the profiles that name them."""
