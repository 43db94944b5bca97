"""`everloop docs`: write the generated pages anew."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("docs", hidden=True)(docs)


def docs() -> None:
    """Write the pages of docs/ that are made from the code."""
    from everloop.docs import write

    changed = write()
    print(f"written: {', '.join(changed)}" if changed else "all pages are up to date")
