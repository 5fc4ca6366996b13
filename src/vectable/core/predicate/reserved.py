"""The words of the filter language: a column of that name is written in double quotes."""

RESERVED = frozenset({"and", "or", "not", "in", "between", "like", "ilike", "is", "null", "true", "false"})
