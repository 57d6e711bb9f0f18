"""Text: charsets, markup and passages."""
