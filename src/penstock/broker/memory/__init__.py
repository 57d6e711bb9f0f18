"""A broker in memory, for tests and for the lane's state machine."""
