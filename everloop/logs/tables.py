"""A log's file as Arrow tables: CSV, JSONL or Parquet, only the columns that the mapping names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from everloop.logs.mapping import Mapping
from feedback.errors import ConfigError, UsageError

_PARQUET: Final = (".parquet", ".pq", ".parquet.brotli", ".parquet.gzip", ".parquet.snappy", ".parquet.zstd")
_CSV: Final = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".tsv", ".tsv.gz", ".tab")
_JSONL: Final = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz")


def batches(path: Path, columns: Iterable[tuple[str, str]], *, mapping: Mapping, texts: Iterable[str]) -> Iterator[Any]:
    """Yield a file's rows as Arrow tables of at most `mapping.batch` rows (CSV and JSONL: of one block).

    `columns` are pairs of the mapping's key and the column's name; `texts` are read as text where the file has no types.

    Raises:
        UsageError: there is no such file, its format is not known, or it can't be read.
        ConfigError: the mapping names a column that the file does not have.
    """
    wanted = {column: key for key, column in columns}
    try:
        names, tables = _open(path, list(wanted), mapping.batch, set(texts))
        for column, key in wanted.items():
            if column not in names:
                allowed = f"a column of {path.name}: {', '.join(names)}"
                raise ConfigError(file=mapping.path, key=key, value=column, allowed=allowed)
        yield from (table.select(list(wanted)) for table in tables() if table.num_rows)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (pa.ArrowException, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def _open(path: Path, columns: list[str], rows: int, texts: set[str]) -> tuple[list[str], Any]:
    """The file's column names, and a function that yields its tables."""
    name = path.name.lower()
    if name.endswith(_PARQUET):
        file = pa.parquet.ParquetFile(path)
        read = lambda: (pa.table(each) for each in file.iter_batches(batch_size=rows, columns=columns))  # noqa: E731
        return file.schema_arrow.names, read
    if name.endswith(_CSV):
        reader = pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=1 << 22),
            parse_options=pa.csv.ParseOptions(delimiter="\t" if ".t" in name else ","),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
        )
        return reader.schema.names, lambda: (pa.table(each) for each in _each(reader))
    if name.endswith(_JSONL):
        table = pa.json.read_json(path)
        return table.schema.names, lambda: (pa.table(each) for each in table.to_batches(max_chunksize=rows))
    raise UsageError(f"{path}: its name must end in {', '.join((*_PARQUET[:1], *_CSV[:2], '.tsv', *_JSONL[:2]))}")


def _each(reader: Any) -> Iterator[Any]:
    with reader:
        yield from reader
