"""Makes vectors smaller: fewer dimensions, fewer bits a dimension, and what each costs in figures."""
