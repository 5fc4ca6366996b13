"""What things are: schema, keys, predicates, queries, vectors. Pure: no I/O, no clock, no threads."""
