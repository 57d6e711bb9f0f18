"""The parts of a query beside its words: images, indexed entries and what to avoid; loaded, then composed by space.

1 base      the parts of a request, and of a checked query
2 load      the stored vectors and images of the entries that a query names
3 compose   → the input of each channel's vector, from the parts that are in its space
4 vectors   adds and subtracts the vectors
"""
