"""Audio and video: containers, tracks, speech windows, shots and transcripts, independent of events."""
