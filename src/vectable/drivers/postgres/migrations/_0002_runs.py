"""The server's runs, forgotten in a crash, for so are the numbers of its last transactions."""

STATEMENTS = (
    # A crash, of one process of the server even, takes back numbers that were given to transactions, and may
    # have been seen by others, but had not reached the log; then they are given again. The server empties
    # tables that are not logged whenever that may be so, and no other time: on its way back from a crash, in
    # a backup taken while it ran, when a standby takes over.
    """CREATE UNLOGGED TABLE vectable.runs (
        one boolean PRIMARY KEY DEFAULT TRUE CHECK (one),
        started timestamptz NOT NULL,
        ids text[] NOT NULL
    )""",
)
