"""The real parts of the ingest plane over doubles, in steps that a test decides."""
