"""Identity, tables and where their rows lie, receipts, the state store, and the embedding cache."""

STATEMENTS = (
    "CREATE TABLE vectable.meta (name text PRIMARY KEY, value text NOT NULL)",
    "INSERT INTO vectable.meta VALUES ('identity', replace(gen_random_uuid()::text, '-', ''))",
    # --- tables: `columns` says under which name each column (by id) lies in the rows' table. `attached` is
    # null for tables we made. `floor`: changes before it can no longer be told.
    """CREATE TABLE vectable.tables (
        id text PRIMARY KEY,
        generation bigint NOT NULL,
        rows_schema text NOT NULL,
        rows_name text NOT NULL,
        columns jsonb NOT NULL DEFAULT '{}',
        attached jsonb,
        floor xid8 NOT NULL DEFAULT '0',
        UNIQUE (rows_schema, rows_name)
    )""",
    """CREATE TABLE vectable.versions (
        id text PRIMARY KEY,
        table_id text NOT NULL REFERENCES vectable.tables ON DELETE CASCADE
    )""",
    "CREATE INDEX versions_table ON vectable.versions (table_id)",
    """CREATE TABLE vectable.receipts (
        table_id text NOT NULL,
        key text COLLATE "C" NOT NULL,
        answer bytea NOT NULL,
        created timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (table_id, key)
    )""",
    "CREATE INDEX receipts_created ON vectable.receipts (created)",
    # --- the state store
    """CREATE TABLE vectable.state (
        key text COLLATE "C" PRIMARY KEY,
        value bytea NOT NULL,
        revision bigint NOT NULL
    )""",
    "CREATE SEQUENCE vectable.state_revision",
    # One statement, so one round trip. Locks on the keys' names stand for rows that are not there yet, and
    # are taken in one order by all.
    """CREATE FUNCTION vectable.state_commit(
        expect_keys text[], expect_revisions bigint[],
        put_keys text[], put_values bytea[], gone_keys text[],
        OUT conflict text, OUT expected bigint, OUT actual bigint
    ) LANGUAGE plpgsql AS $$
    DECLARE
        lock bigint;
        new_revision bigint;
    BEGIN
        FOR lock IN
            SELECT DISTINCT hashtextextended(k, 0) AS h
            FROM unnest(expect_keys || put_keys || gone_keys) AS k ORDER BY h
        LOOP
            PERFORM pg_advisory_xact_lock(lock);
        END LOOP;
        SELECT e.key, e.revision, coalesce(s.revision, 0) INTO conflict, expected, actual
        FROM unnest(expect_keys, expect_revisions) AS e (key, revision)
        LEFT JOIN vectable.state s ON s.key = e.key COLLATE "C"
        WHERE coalesce(s.revision, 0) <> e.revision LIMIT 1;
        IF conflict IS NOT NULL THEN
            RETURN;
        END IF;
        IF cardinality(gone_keys) > 0 THEN
            DELETE FROM vectable.state WHERE key = ANY (gone_keys);
        END IF;
        IF cardinality(put_keys) > 0 THEN
            new_revision := nextval('vectable.state_revision');
            INSERT INTO vectable.state AS s (key, value, revision)
            SELECT p.key, p.value, new_revision FROM unnest(put_keys, put_values) AS p (key, value)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision;
        END IF;
    END $$""",
    # --- the embedding cache, with its size kept beside it. `id` grows with time: the oldest go first.
    """CREATE TABLE vectable.cache (
        key bytea PRIMARY KEY,
        vector bytea STORAGE EXTERNAL NOT NULL,
        model text NOT NULL,
        id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        created timestamptz NOT NULL DEFAULT now()
    )""",
    "CREATE TABLE vectable.cache_size (entries bigint NOT NULL, bytes bigint NOT NULL)",
    "INSERT INTO vectable.cache_size VALUES (0, 0)",
    """CREATE FUNCTION vectable.cache_put(put_keys bytea[], put_vectors bytea[], put_model text)
    RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        fewer bigint; freed bigint; more bigint; taken bigint;
    BEGIN
        PERFORM FROM vectable.cache WHERE key = ANY (put_keys) ORDER BY key FOR UPDATE;
        WITH gone AS (DELETE FROM vectable.cache WHERE key = ANY (put_keys) RETURNING vector)
        SELECT count(*), coalesce(sum(octet_length(vector)), 0) INTO fewer, freed FROM gone;
        WITH put AS (
            INSERT INTO vectable.cache (key, vector, model)
            SELECT p.key, p.vector, put_model FROM unnest(put_keys, put_vectors) AS p (key, vector)
            ORDER BY p.key ON CONFLICT (key) DO NOTHING RETURNING vector
        )
        SELECT count(*), coalesce(sum(octet_length(vector)), 0) INTO more, taken FROM put;
        UPDATE vectable.cache_size SET entries = entries + more - fewer, bytes = bytes + taken - freed;
    END $$""",
)
