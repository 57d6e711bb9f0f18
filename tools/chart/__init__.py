"""Makes what the Helm chart derives from other sources: its schema, its README, and its copies of `ops/`."""
