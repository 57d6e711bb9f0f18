"""Standing queries: which they are, and which new entries match them."""
