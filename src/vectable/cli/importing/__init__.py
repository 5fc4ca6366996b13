"""`vectable import`: column types from a file, then its rows, with progress."""
