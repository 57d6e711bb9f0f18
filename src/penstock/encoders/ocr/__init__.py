"""Optical character recognition: finds lines of text in an image, and reads them."""
