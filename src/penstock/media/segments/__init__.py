"""Timed media: decodes audio and video in segments, which any worker can continue."""
