"""`everloop train --from LOG`: a report of what a log taught."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from everloop import cli
from everloop.figures import Report
from everloop.results import page

MAPPING = """
name = "tiny"
user = "who"
item = "what"
[time]
column = "at"
[slate]
column = "slate"
[[outcome]]
when = "y == 1"
[[feature]]
name = "recent"
of = "history"
kind = "strings"
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    rows = [
        {"at": 10 * n, "who": f"u{n % 7}", "what": f"i{(n + k) % 9}", "slate": n, "y": int((n * k) % 3 == 1)}
        for n in range(120)
        for k in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "log.jsonl.toml").write_text(MAPPING)
    return path


def test_a_log_that_is_only_measured_gives_a_report_and_writes_nothing(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert cli.run(["train", "--from", str(log), "--no-write", "--json", "--data", str(data)]) == 0
    printed = capsys.readouterr().out
    found = msgspec.json.decode(printed, type=Report)
    assert found.bench == "train --from tiny"
    assert (found.value("samples"), found.value("rows"), found.value("version")) == (120, 480, 0)
    assert 0 <= found.value("auc") <= 1
    assert not data.exists()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tiny.json").write_text(printed)
    assert "`everloop train --from tiny --json`" in page(tmp_path / "results")
