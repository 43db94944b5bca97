"""docs/results.md: what was measured, from the JSON of the runs themselves, which lies in docs/results/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from everloop.figures import Machine, Report
from everloop.tables import number
from feedback.errors import CorruptError

FOLDER: Final = Path(__file__).parent.parent / "docs" / "results"

_BARE: Final = ("demo", "experiment", "train --from")
"""What a report's command begins with where it is no bench."""

_HEAD: Final = """\
# Results

Made by `make docs` from the reports in docs/results/, each as a command printed it with `--json`; nothing is typed by hand. A value is
the median of its runs. Times depend on the machine, which is named under each table.
"""


def page(folder: Path = FOLDER) -> str:
    """Return docs/results.md: a section per report, in the order of their files' names.

    Raises:
        CorruptError: a file is no report.
    """
    return "\n".join([_HEAD, *(text for path in sorted(folder.glob("*.json")) for text in _section(path))])


def _section(path: Path) -> Iterator[str]:
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.MsgspecError as error:
        raise CorruptError(f"{path.name} is no report: {error}") from error
    yield f"## {path.stem.replace('-', ' ')}\n\n`everloop {_command(report)} --json`, {report.at}.\n"
    yield "| figure | value | unit | runs |\n|---|---|---|---|"
    for figure in report.figures:
        yield f"| `{figure.name}` | {number(figure.value)} | {figure.unit} | {' · '.join(map(number, figure.runs))} |"
    yield ""
    if report.peers:
        yield "| peer | version | figure | value | unit | ratio |\n|---|---|---|---|---|---|"
        for peer in report.peers:
            cells = (peer.name, peer.version, f"`{peer.figure}`", number(peer.value), peer.unit, number(peer.ratio))
            yield f"| {' | '.join(cells)} |"
        yield ""
    yield f"{_where(report.machine)}\n"


def _command(report: Report) -> str:
    return report.bench if report.bench.startswith(_BARE) else f"bench {report.bench}"


def _where(machine: Machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return f"{machine.cores} cores, {machine.memory_gib:g} GiB, Python {machine.python}; {packages}."
