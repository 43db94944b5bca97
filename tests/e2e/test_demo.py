"""The whole loop on a small log made here, while every part is killed once: it comes back and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv

from everloop.folders import Folders
from everloop.runtime.supervise import read

PARTS = ("trainer", "gateway", "streams", "kafka", "follower", "redis", "model-server")
MAPPING = """
name = "made"
user = "reader"
item = "story"
window_s = 60
lateness_s = 30
sorted = true
crosses = ["user*item"]
[loop]
"streams.join.hold_s" = 5.0
"streams.join.positives" = "at_close"
"trainer.gate.enabled" = false
[time]
column = "t"
[slate]
column = "slate"
[[outcome]]
when = "y == 1"
"""


def made(folder: Path, slates: int = 1_500) -> Path:
    """A log in which half of the stories are liked by half of the readers."""
    chance = random.Random(5)
    rows = []
    for slate in range(slates):
        reader = chance.randrange(60)
        for story in chance.sample(range(30), 5):
            clicked = chance.random() < (0.6 if (reader + story) % 2 else 0.1)
            rows.append(
                {"t": 1_000_000 + 4 * slate, "slate": slate, "reader": reader, "story": story, "y": int(clicked)}
            )
    log = folder / "made.csv"
    pa.csv.write_csv(pa.Table.from_pylist(rows), log)
    (folder / "made.csv.toml").write_text(MAPPING)
    return log


def kill_each_once(folders: Folders, done: threading.Event, killed: list[str]) -> None:
    """Wait until the loop learns, then SIGKILL one part after another, whatever the others are doing."""
    waiting = list(PARTS)
    while waiting and not done.wait(0.5):
        part = read(folders).get("parts", {}).get(waiting[0], {})
        if part.get("state") == "ready" and any((folders.root / "trainer").glob("*/settled-*.bin")):
            os.kill(part["pid"], signal.SIGKILL)
            killed.append(waiting.pop(0))
            done.wait(3.0)


def test_any_part_may_be_killed_during_the_demo_and_nothing_is_lost(tmp_path: Path) -> None:
    log, data = made(tmp_path), tmp_path / "data"
    killed: list[str] = []
    done = threading.Event()
    killer = threading.Thread(target=kill_each_once, args=(Folders(data), done, killed))
    killer.start()
    try:
        demo = subprocess.run(
            [
                sys.executable,
                "-m",
                "everloop",
                "demo",
                "--json",
                f"--log={log}",
                "--limit=0",
                f"--data={data}",
                "--replay-s=60",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        done.set()
        killer.join()
    assert demo.returncode == 0, demo.stderr[-3000:]
    found = {figure["name"]: figure["value"] for figure in msgspec.json.decode(demo.stdout)["figures"]}
    assert sorted(killed) == sorted(PARTS)
    lost = ("residual", "sample_residual", "unsettled", "failed_requests")
    assert {name: found[name] for name in lost} == dict.fromkeys(lost, 0), demo.stderr[-3000:]
    assert found["impressions"] == found["settled_positive"] + found["settled_negative"] == 7_500
    assert found["restarts"] >= len(PARTS)
    assert found["swaps"] > 0
    assert found["freshness_p50_s"] > 0
    assert msgspec.json.decode((data / "report.json").read_bytes())["bench"] == "demo"
    page = (data / "report.html").read_text()
    assert "<svg" in page or "data:image/png" in page
