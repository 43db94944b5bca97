"""Write a chaos run's result into a page, between its marks: nothing in it is typed by hand."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from msgspec import structs

from streams.chaos import Result

BEGIN, END = "<!-- join: begin -->", "<!-- join: end -->"

_WORDS = {
    "seed": "seed of the random moments",
    "candidates": "candidates served",
    "records": "records in the input topics, repeats and wrong ones included",
    "joins": "times that a worker was given partitions",
    "taught_twice": "samples taught twice",
    "different": "samples that the undisturbed run has not",
    "lost": "samples of the undisturbed run that are missing",
    "labels_different": "samples with other labels than of the sorted, once-only input",
    "seconds": "length of the run, s",
    "longest_silence_s": "longest silence of a partition, s",
}


def write(page: Path, result: Result) -> None:
    """Replace what stands between the marks of `page`; a page without marks gets them at its end."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Chaos\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{table(result)}{END}{tail}", encoding="utf-8")


def table(result: Result) -> str:
    """The result as a Markdown table, with the date and the machine."""
    at = datetime.now(UTC).isoformat(timespec="minutes")
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    machine = (
        f"{cores} cores, {memory:.0f} GiB, Python {platform.python_version()}, aiokafka {metadata.version('aiokafka')}"
    )
    rows = [f"Measured {at}, {machine}.", "", "| what | value |", "|---|---|"]
    for name, value in structs.asdict(result).items():
        if name != "ledger":
            rows.append(f"| {_WORDS.get(name, name.replace('_', ' '))} | {value:,} |")
    rows += [
        f"| ledger: {name.replace('_', ' ')} | {value:,} |" for name, value in structs.asdict(result.ledger).items()
    ]
    return "\n".join(rows) + "\n"
