"""Many rows at once: looked up together, inserted together."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, bindparam, column, func, select
from sqlalchemy.dialects import postgresql, sqlite

from heedful.exact import encoder
from heedful.store.database.db import new_ids, now
from heedful.store.tables.schema import metadata

BATCH = 500  # of what is read together
MOST_KEYS = 1000  # in one query
FEW = 10  # rows that are sent one by one
MOST_TEXT = 16 << 20  # characters that are sent together
STYLES: dict[str, Any] = {"sqlite": "qmark", "postgresql": "format"}  # of parameters by place
OFTEN = gc.get_threshold()
Row = dict[str, Any]
as_json = encoder()


def batches(ids: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """For work on millions of rows, none of which points to itself: the collector of such circles, which would look
    through them again and again, takes up to a quarter of the time."""
    gc.set_threshold(100 * OFTEN[0], *OFTEN[1:])
    try:
        yield
    finally:
        gc.set_threshold(*OFTEN)  # also where several such works overlap


def renew_statistics(connection: Connection) -> None:
    """Tell PostgreSQL how many rows there are now: what is asked before it looks by itself, a minute later, is planned
    for empty tables and takes hours. SQLite plans without."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        connection.exec_driver_sql(f"ANALYZE {names}")


class Overtaken(Exception):
    """Somebody else wrote what this transaction was about to; roll it back and begin it anew."""


class _Insert(NamedTuple):
    """A statement as a driver takes it: its words, its parameters' names, what makes them of values, and the values of
    columns that rows leave to their default."""

    words: str
    together: str  # the words for many rows in one parameter, where PostgreSQL takes them so
    names: tuple[str, ...]
    binds: tuple[Callable[[Any], Any] | None, ...]
    defaults: dict[str, Any]


_inserts: dict[tuple[Any, ...], _Insert] = {}


def insert_all(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    skip_known: bool = False,
    **same: Any,
) -> None:
    """Insert rows that all have the same columns, and of `same` the same values, too; `skip_known`: but for those whose
    keys are there.

    What `connection.execute` does, a column at a time: it would compose the parameters of each row by themselves.
    """
    if not rows:
        return
    insert = _insert(connection, table, (*rows[0], *same), skip_known)
    same = insert.defaults | same
    columns: list[Iterable[Any]] = []
    for name, bind in zip(insert.names, insert.binds, strict=True):
        if name in same:
            value = same[name]
            columns.append(repeat(value if bind is None else bind(value), len(rows)))
            continue
        values = list(map(itemgetter(name), rows))
        # Nothing is bound as nothing, and most columns that may be empty are.
        if bind is None or values.count(None) == len(values):
            columns.append(values)
        else:
            columns.append(map(bind, values))
    values = list(zip(*columns, strict=True))
    if not insert.together or len(values) < FEW:
        connection.exec_driver_sql(insert.words, values)
        return
    for part in _parts(as_json(dict(zip(insert.names, row, strict=True))) for row in values):
        connection.exec_driver_sql(insert.together, (f"[{','.join(part)}]",))


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in their order, so many together as make a parameter of not much more than `MOST_TEXT`."""
    part, size = list[str](), 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= MOST_TEXT:
            yield part
            part, size = [], 0
    if part:
        yield part


def _insert(
    connection: Connection, table: Table, names: tuple[str, ...], skip_known: bool
) -> _Insert:
    """Composed once."""
    dialect = connection.dialect
    known = (table.name, names, skip_known, dialect.name)
    if known not in _inserts:
        kind: Any = postgresql if dialect.name == "postgresql" else sqlite
        made: Any = type(dialect)
        by_place = made(paramstyle=STYLES[dialect.name])

        def compiled(statement: Any) -> Any:
            statement = statement.on_conflict_do_nothing() if skip_known else statement
            return statement.compile(dialect=by_place, column_keys=list(names))

        one = compiled(kind.insert(table))
        order = tuple(one.positiontup)
        together = str(compiled(_together(table, order))) if kind is postgresql else ""
        types = [table.c[name].type.dialect_impl(dialect) for name in order]
        binds = tuple(each.bind_processor(dialect) for each in types)
        left: dict[str, Any] = {name: table.c[name].default for name in order if name not in names}
        defaults = {name: default.arg for name, default in left.items()}
        _inserts[known] = _Insert(str(one), together, order, binds, defaults)
    return _inserts[known]


def _together(table: Table, names: Sequence[str]) -> Any:
    """PostgreSQL's `INSERT` of any number of rows, which are objects in one JSON text."""
    cells = (column(name, table.c[name].type) for name in names)
    rows = func.json_to_recordset(bindparam("rows", type_=postgresql.JSON)).table_valued(*cells)
    return postgresql.insert(table).from_select(names, select(rows.render_derived(with_types=True)))


def fetch_all(
    connection: Connection, query: Select, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """What `connection.execute(query, parameters).all()` has, as plain tuples, and read a column at a time."""
    cursor: Any = connection.execute(query, parameters).cursor
    dialect, rows = connection.dialect, cursor.fetchall()
    types = [column.type.dialect_impl(dialect) for column in query.selected_columns]
    readers = [
        (place, read)
        for place, (kind, told) in enumerate(zip(types, cursor.description, strict=True))
        if (read := kind.result_processor(dialect, told[1]))
    ]
    cursor.close()
    if not (rows and readers):
        return rows
    columns: list[Any] = list(zip(*rows, strict=True))
    for place, read in readers:
        columns[place] = map(read, columns[place])
    return list(zip(*columns, strict=True))


def once(
    connection: Connection,
    table: Table,
    key: tuple[str, ...],
    rows: Sequence[Row],
    *conditions: Any,
    by: str | None = None,
    absent: Collection[str] = (),
    **same: Any,
) -> list[tuple[str, bool]]:
    """The ids of the rows with these keys (and conditions), and which of them are new: inserted as there were none.

    Each row has all columns but `id`, which it gets here, `created_at` and those of `same`. `by` names the
    column of the key that few rows share, by which they are looked up; by default the last. Of its values, those that
    are `absent` are known to be in no row.
    """
    by = by or key[-1]
    place = key.index(by)
    columns = (repeat(same[n], len(rows)) if n in same else [row[n] for row in rows] for n in key)
    keys = list(zip(*columns, strict=True))
    wanted: dict[tuple[Any, ...], Row] = {}
    for k, row in zip(keys, rows, strict=True):
        wanted.setdefault(k, row)
    unknown = [k for k in wanted if k[place] not in absent] if absent else wanted
    there = _ids(connection, table, key, unknown, by, conditions)
    fresh = [k for k in wanted if k not in there] if there else list(wanted)
    new = dict(zip(fresh, new_ids(len(fresh)), strict=True))
    if new:
        made = [wanted[k] for k in new]
        for row, key_id in zip(made, new.values(), strict=True):
            row["id"] = key_id
        same["created_at"] = now(connection)
        # Somebody else may have inserted one of them in between, but not on SQLite, which has one writer at a time.
        insert_all(connection, table, made, skip_known=True, **same)
        if connection.dialect.name == "postgresql":
            there |= _ids(connection, table, key, new, by, conditions)
    told: list[tuple[str, bool]] = []
    for k in keys:
        mine = new.pop(k, None)  # a second row with this key is not new
        key_id = there.setdefault(k, mine) if mine else there[k]
        told.append((key_id, mine == key_id))
    return told


def _ids(
    connection: Connection,
    table: Table,
    key: tuple[str, ...],
    wanted: Iterable[tuple[Any, ...]],
    by: str,
    conditions: Sequence[Any],
) -> dict[tuple[Any, ...], str]:
    """The ids of rows that are there, by their keys."""
    wanted = list(wanted)
    columns = [table.c[name] for name in key]
    shared = (
        [
            c == wanted[0][i]
            for i, c in enumerate(columns)
            if c.name != by and len({k[i] for k in wanted}) == 1
        ]
        if wanted
        else []
    )
    place = key.index(by)
    ids: dict[tuple[Any, ...], str] = {}
    for part in batches(list(dict.fromkeys(k[place] for k in wanted)), MOST_KEYS):
        query = select(table.c.id, *columns).where(table.c[by].in_(part), *shared, *conditions)
        for found, *values in connection.execute(query):
            ids[tuple(values)] = found
    return ids
