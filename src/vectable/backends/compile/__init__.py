"""Filters in the languages of engines, as supersets with an exact residual."""
