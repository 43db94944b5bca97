"""What a bench does as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_BENCH = """
import sys, time
from pathlib import Path
from everloop import benches
from everloop.cli import run

def measure(name, options):
    try:
        print("begun", flush=True)
        time.sleep(120)
    finally:
        Path(sys.argv[1]).touch()

benches.bench = measure
sys.exit(run(["bench", "swap"]))
"""


def test_a_bench_that_is_terminated_ends_what_it_has_started(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with subprocess.Popen([sys.executable, "-c", _BENCH, str(ended)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert ended.exists()
