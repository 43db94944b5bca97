"""Compile promtool once: `python -m tests.monitoring.promtool.build` prints where it is."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.gobuild import BuildError, Program

PROMTOOL = Program(
    name="promtool", module=Path(__file__).parent, package="github.com/prometheus/prometheus/cmd/promtool"
)

if __name__ == "__main__":
    try:
        print(PROMTOOL.binary())
    except BuildError as failure:
        sys.exit(str(failure))
