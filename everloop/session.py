"""What every command begins with: a data folder and the configuration in force."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.config.load import FILENAME, Loaded, load
from everloop.folders import Folders, default_data


@dataclass(frozen=True)
class Session:
    """One command's data folder and configuration."""

    folders: Folders
    loaded: Loaded


def open_session(
    data: Path | None = None,
    file: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Session:
    """Find the data folder, read the configuration.

    The file is the named one, $EVERLOOP_CONFIG, everloop.toml here, or everloop.toml in the data folder: the first.

    Raises:
        ConfigError: something in it is wrong.
    """
    environ = os.environ if environ is None else environ
    folders = Folders((data or default_data(environ)).absolute())
    return Session(folders, load(file or _file(folders, environ), environ=environ, flags=flags))


def _file(folders: Folders, environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("EVERLOOP_CONFIG"):
        return Path(named)
    return next((path for path in (Path(FILENAME), folders.root / FILENAME) if path.is_file()), None)
