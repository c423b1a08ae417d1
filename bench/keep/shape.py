"""Has an archive the tables that bench makes, and do their cells hold what bench writes? Anybody may have made it.

SQLite keeps any value in any column, so that a column's type says nothing of what is found there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any, NamedTuple

from bench.keep import migrations

# What a type is called where a cell holds it.
_FOUND = {"INTEGER": "integer", "REAL": "real", "TEXT": "text"}
# Beyond its type, what a cell of a table cannot be.
_IMPOSSIBLE = {
    "studies": "batch_size < 1 OR finished NOT IN (0, 1)",
    "trials": "number < 0 OR max_steps < 0 OR step < 0",
    "readings": "step < 0 OR status NOT IN ('nan', 'inf', '-inf', '-0') OR value IS NULL AND status IS NOT 'nan'",
}
_MOST_NESTED = 50


class Column(NamedTuple):
    """A column's type, as SQLite calls it, and whether each row has to have a value there."""

    type: str
    needed: bool


@cache
def columns(schema: str) -> dict[str, dict[str, Column]]:
    """The columns of every table that the statements make."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(schema)
        return {
            name: {
                column: Column(kind, bool(needed or key))
                for _, column, kind, needed, _, key in empty.execute(f"PRAGMA table_info({name})")
            }
            for name in _tables(empty)
        }


def odd_tables(connection: sqlite3.Connection, schema: str, version: int) -> Iterator[str]:
    """What is wrong with the tables of an archive of a schema version, the end of a sentence each."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(schema)
        right = {**_tables(empty), **migrations.tables(version)}
    found = _tables(connection)
    for name in sorted(right.keys() | found.keys()):
        if right.get(name) != found.get(name):
            yield f"has {'another' if name in found else 'no'} table {name!r} than bench makes"


def odd_cells(connection: sqlite3.Connection, schema: str) -> Iterator[str]:
    """What is wrong with the values in the tables of an archive, the end of a sentence each."""
    for table, kinds in columns(schema).items():
        odd = [
            f"typeof({name}) != '{_FOUND[kind]}'" + ("" if needed else f" AND {name} IS NOT NULL")
            for name, (kind, needed) in kinds.items()
        ]
        query = f"SELECT count(*) FROM {table} WHERE {' OR '.join(odd)} OR {_IMPOSSIBLE.get(table, 'FALSE')}"
        (count,) = connection.execute(query).fetchone()
        if count:
            yield f"has {count:,} rows of {table!r} with values that bench does not write"


def parsed(text: str) -> Any:
    """JSON that an archive holds; raises ValueError where it is none, or nested deeper than bench writes."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested without end") from error
    if _nested(value, _MOST_NESTED):
        raise ValueError(f"JSON that is nested more than {_MOST_NESTED} times")
    return value


def _nested(value: Any, times: int) -> bool:
    """Whether a value is nested more than so many times."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return times < 0 or any(_nested(each, times - 1) for each in inside)


def _tables(connection: sqlite3.Connection) -> dict[str, str | None]:
    """The statement that made each thing an archive holds, however it was broken into lines."""
    rows = connection.execute("SELECT name, sql FROM main.sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return {name: " ".join(str(sql).split()) for name, sql in rows}
