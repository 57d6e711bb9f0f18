"""Samples that ship with the package, so that a first run needs no network: images, texts, audio, video and documents.

All of it is reference material for first runs and tests; real use takes `--profile small` or `--profile gpu`.
Nothing here imports torch.
"""

from penstock.samples.images import Concept, compose, load_concepts, load_rendering
from penstock.samples.texts import SampleText, sample_texts

__all__ = ["Concept", "SampleText", "compose", "load_concepts", "load_rendering", "sample_texts"]
