"""The persistent tier of the embedding cache, with its size kept beside it."""

STATEMENTS = (
    # `id` grows with time, so the oldest entries are found without an index on `created`.
    """CREATE TABLE cache (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        vector BLOB NOT NULL,
        model TEXT NOT NULL,
        created INTEGER NOT NULL
    )""",
    "INSERT INTO meta VALUES ('cache_entries', 0)",
    "INSERT INTO meta VALUES ('cache_bytes', 0)",
)
