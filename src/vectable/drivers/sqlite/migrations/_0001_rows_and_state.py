"""Identity, tables and their history, receipts, and the state store."""

STATEMENTS = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # One line per user table: where its history stands. `floor`: changes before it can no longer be told.
    """CREATE TABLE tables (
        id TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        next_rid INTEGER NOT NULL,
        floor INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE versions (id TEXT PRIMARY KEY, table_id TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE receipts (
        table_id TEXT NOT NULL,
        key TEXT NOT NULL,
        answer BLOB NOT NULL,
        created INTEGER NOT NULL,
        PRIMARY KEY (table_id, key)
    ) WITHOUT ROWID""",
    "CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('identity', lower(hex(randomblob(16))))",
    "INSERT INTO meta VALUES ('incarnation', lower(hex(randomblob(8))))",
    "INSERT INTO meta VALUES ('state_revision', 0)",
)
