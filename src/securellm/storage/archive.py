"""The tables on PostgreSQL that journals are shipped to: partitioned by month, walled, append-only for who serves."""

from sqlalchemy import Connection

from securellm.storage.walls import POLICY, PRESENT_TENANT, raise_wall

RECORDS = "audit_records"
SHIPPED = "audit_shipped"
REST = "audit_records_rest"
"""The partition for records of months that have none: nothing ever waits for a partition."""

ARCHIVE = (RECORDS, SHIPPED, REST)
"""Every table that a schema of ours has on PostgreSQL and not in a file, but for the months."""

MAKE_MONTH = "audit_records_month"
"""`audit_records_month(at_us)` makes the partition of that moment's month; whether it is there now."""

_SCHEMA = f"""
CREATE TABLE {RECORDS} (
  tenant TEXT COLLATE "C" NOT NULL,
  writer TEXT COLLATE "C" NOT NULL,
  seq BIGINT NOT NULL,
  at_us BIGINT NOT NULL,
  type TEXT COLLATE "C" NOT NULL,
  request_id TEXT COLLATE "C",
  entry BYTEA NOT NULL,
  record JSONB NOT NULL,
  CONSTRAINT {RECORDS}_pkey PRIMARY KEY (writer, seq, at_us)
) PARTITION BY RANGE (at_us);
CREATE INDEX {RECORDS}_at_us_idx ON {RECORDS} USING brin (at_us);
CREATE INDEX {RECORDS}_tenant_at_us_idx ON {RECORDS} (tenant, at_us);
CREATE TABLE {REST} PARTITION OF {RECORDS} DEFAULT;
CREATE TABLE {SHIPPED} (
  writer TEXT COLLATE "C" NOT NULL,
  seq BIGINT NOT NULL,
  head BYTEA NOT NULL,
  CONSTRAINT {SHIPPED}_pkey PRIMARY KEY (writer)
);
"""

# With the owner's rights, so that who serves needs none to make a table. It makes no more than a year's worth: a month
# far away has its records among the rest, as has one whose records came before its partition could be made.
_MAKE_MONTH = f"""
CREATE FUNCTION {MAKE_MONTH}(moment BIGINT) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = SCHEMA_OF_TABLES, pg_temp AS $$
DECLARE
  present CONSTANT TIMESTAMP := date_trunc('month', now() AT TIME ZONE 'UTC');
  month TIMESTAMP;
  name TEXT;
BEGIN
  IF moment NOT BETWEEN 0 AND 4102444800000000 THEN
    RETURN false;
  END IF;
  month := date_trunc('month', TIMESTAMP '1970-01-01' + moment / 1000000 * INTERVAL '1 second');
  name := '{RECORDS}_' || to_char(month, 'YYYY_MM');
  IF to_regclass(name) IS NOT NULL THEN
    RETURN true;
  END IF;
  IF month NOT BETWEEN present - INTERVAL '12 months' AND present + INTERVAL '1 month' THEN
    RETURN false;
  END IF;
  BEGIN
    EXECUTE format(
      'CREATE TABLE %I PARTITION OF {RECORDS} FOR VALUES FROM (%s) TO (%s)', name,
      extract(epoch FROM month)::bigint * 1000000,
      extract(epoch FROM month + INTERVAL '1 month')::bigint * 1000000
    );
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY {POLICY} ON %I
      USING (tenant = {PRESENT_TENANT} OR {PRESENT_TENANT} = '*')$policy$, name);
  EXCEPTION
    WHEN duplicate_table OR unique_violation THEN RETURN true;
    WHEN check_violation OR lock_not_available THEN RETURN false;
  END;
  RETURN true;
END
$$;
"""


def raise_archive(connection: Connection) -> None:
    """Make the tables that journals are shipped to; on PostgreSQL, for a file has its journal beside it."""
    if connection.dialect.name != "postgresql":
        return
    quote = connection.dialect.identifier_preparer.quote
    schema = quote(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)
    raise_wall(connection, RECORDS)
    raise_wall(connection, REST)
    connection.exec_driver_sql(_MAKE_MONTH.replace("SCHEMA_OF_TABLES", schema).replace("%", "%%"))
    connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {MAKE_MONTH}(BIGINT) FROM PUBLIC")


def rights(table: str, role: str) -> tuple[str, ...]:
    """The statements that let `role` use a table of the archive as shipping does, and no further."""
    if table == RECORDS:
        return (
            f"GRANT SELECT, INSERT ON {RECORDS} TO {role}",
            f"GRANT EXECUTE ON FUNCTION {MAKE_MONTH}(BIGINT) TO {role}",
        )
    return (f"GRANT SELECT, INSERT, UPDATE ON {SHIPPED} TO {role}",) if table == SHIPPED else ()
