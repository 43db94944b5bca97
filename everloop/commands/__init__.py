"""The commands, by group: each module registers its own on the application that everloop/cli.py makes.

Here belongs what a person types and reads. What a command does belongs to the part that it does it to.
"""

from __future__ import annotations

from typing import Final

MODULES: Final = (
    "up",
    "down",
    "status",
    "demo",
    "replay",
    "newsroom",
    "train",
    "doctor",
    "config",
    "topics",
    "versions",
    "rebuild",
    "deadletter",
    "server",
    "evaluate",
    "bench",
    "experiment",
    "run",
    "k8s",
    "docs",
)
"""In the order in which `everloop --help` lists them."""
