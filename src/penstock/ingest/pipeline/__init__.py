"""Takes a batch of deliveries through its steps: fetch, decode, encode, write, settle."""
