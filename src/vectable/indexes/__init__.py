"""Searchable structures over a matrix: the VectorIndex implementations."""
