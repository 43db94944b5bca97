"""Small logs in each format, and mappings for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from everloop.logs.mapping import load
from everloop.logs.slates import Log

BASE = """
name = "tiny"
user = "who"
item = "what"
[time]
column = "at"
[slate]
gap_s = 60
[[outcome]]
when = "stars >= 4"
"""

ROWS: list[dict[str, Any]] = [
    {"at": 1_000, "who": "a", "what": "x", "stars": 5},
    {"at": 1_030, "who": "a", "what": "y", "stars": 1},
    {"at": 1_010, "who": "b", "what": "x", "stars": 4},
    {"at": 1_200, "who": "a", "what": "z", "stars": 3},
]


def log_of(folder: Path, rows: list[dict[str, Any]] | None = None, *, text: str = BASE, form: str = "csv") -> Log:
    """Write a log and its mapping into a folder, and open it."""
    path = folder / f"log.{form}"
    table = pa.Table.from_pylist(ROWS if rows is None else rows)
    if form == "parquet":
        pa.parquet.write_table(table, path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        pa.csv.write_csv(table, path)
    mapping = folder / "mapping.toml"
    mapping.write_text(text)
    return Log(path, load(mapping))
