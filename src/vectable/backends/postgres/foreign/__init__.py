"""Tables that others own: looked at, watched and enriched, never changed."""
