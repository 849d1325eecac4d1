"""What makes immutable tables immutable: the database itself refuses to change or remove their rows."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection


def protect(connection: Connection, tables: Iterable[str]) -> None:
    """Abort UPDATE and DELETE on the tables from now on."""
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION heedful_immutable() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME; END $$"
        )
    for table in tables:
        for action in ("UPDATE", "DELETE"):
            name = f"immutable_{table}_{action.lower()}"
            body = (
                "FOR EACH ROW EXECUTE FUNCTION heedful_immutable()"
                if postgres
                else f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
            connection.exec_driver_sql(f"CREATE TRIGGER {name} BEFORE {action} ON {table} {body}")
