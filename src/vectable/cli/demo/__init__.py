"""`vectable demo`: a table of text that every Python brings along, its library's documentation."""
