"""The demo's own data folder: each run begins with an empty one, and nothing that is not the demo's is ever removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from everloop.folders import Folders, held
from feedback.errors import UsageError

MARK: Final = ".everloop-demo"
"""Stands in a folder that the demo may empty."""


def begin(root: Path) -> Folders:
    """Return the data folder, empty but for its mark.

    Raises:
        UsageError: a loop runs in it, or it holds something that the demo did not write.
    """
    folders = Folders(root.absolute())
    if held(folders):
        raise UsageError(f"everloop is up in {folders.root}: stop it with `everloop down`, or name another --data")
    if folders.root.is_dir() and any(folders.root.iterdir()) and not (folders.root / MARK).is_file():
        raise UsageError(f"{folders.root} is not empty and not the demo's: name another --data")
    if folders.root.is_dir():
        _empty(folders.root)
    folders.root.mkdir(parents=True, exist_ok=True)
    (folders.root / MARK).write_text("The demo empties this folder when it begins.\n", encoding="utf-8")
    return folders


def _empty(root: Path) -> None:
    for path in root.iterdir():
        if path.name == MARK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
