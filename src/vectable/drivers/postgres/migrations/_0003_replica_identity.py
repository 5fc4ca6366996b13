"""Every table of ours tells its rows apart to whoever replicates all tables of a database."""

STATEMENTS = (
    # Else the server refuses to update and delete rows of a table without a key, from the moment on that
    # somebody publishes it (FOR ALL TABLES).
    """DO $vectable$
    DECLARE
        found regclass;
    BEGIN
        FOR found IN
            SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'vectable' AND c.relkind = 'r' AND c.relreplident = 'd'
              AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
        LOOP
            EXECUTE 'ALTER TABLE ' || found || ' REPLICA IDENTITY FULL';
        END LOOP;
    END $vectable$""",
)
