"""`penstock demo`: the command, its run, its sample media and its sample queries."""
