"""Learns how the vectors of an asset's modalities become one score, and measures what each part of that is worth."""
