"""The click memory in a search: what people chose for questions close to this one."""
