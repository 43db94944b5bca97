"""`everloop doctor`: what is missing on this machine, and the command that mends it."""

from __future__ import annotations

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Check this machine; exit status 1 when something that the loop needs is missing."""
    from everloop.doctor import examine

    findings = examine(open_session(data, config).folders)
    healthy = all(finding.ok or finding.optional for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": findings})
    else:
        words = {True: "ok", False: "MISSING"}
        rows = [
            [each.name, "optional" if each.optional and not each.ok else words[each.ok], each.found, each.mend]
            for each in findings
        ]
        print_table(["what", "", "found", "mend with"], rows)
    if not healthy:
        raise typer.Exit(1)
