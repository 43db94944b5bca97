"""docs/results.md is what the reports in its folder say."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from everloop.figures import Peer, figure, report
from everloop.results import page
from feedback.errors import CorruptError


def test_a_report_becomes_a_table_of_its_figures_and_peers(tmp_path: Path) -> None:
    peer = Peer(name="theirs", version="1", figure="speed", value=1.0, unit="1/s", ratio=2.0)
    made = report("join", [figure("speed", "1/s", [3.0, 1.0, 2.0])], [peer])
    (tmp_path / "join-today.json").write_bytes(msgspec.json.encode(made))
    text = page(tmp_path)
    assert "## join today" in text
    assert "`everloop bench join --json`" in text
    assert "| `speed` | 2 | 1/s | 3 · 1 · 2 |" in text
    assert "| theirs | 1 | `speed` | 1 | 1/s | 2 |" in text


def test_the_command_of_a_report_is_the_one_that_prints_it(tmp_path: Path) -> None:
    for name in ("train", "train --from news", "experiment fit", "demo"):
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(report(name, [figure("x", "", [1.0])])))
    text = page(tmp_path)
    for command in ("bench train", "train --from news", "experiment fit", "demo"):
        assert f"`everloop {command} --json`" in text


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"bad\.json"):
        page(tmp_path)
