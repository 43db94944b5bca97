"""The `everloop` command: groups of commands, one module each, and how errors reach a person.

A command module in everloop/commands/ has `register(app)`. It imports at its top nothing that starts slowly (no
TensorFlow, no Faust, no Kafka client): such imports stand inside the command that needs them.
"""

from __future__ import annotations

import importlib
import sys

import typer

from everloop.commands import MODULES
from feedback.errors import ConfigError, EverloopError, UsageError


def application() -> typer.Typer:
    """Return the command line, with every group registered."""
    app = typer.Typer(
        name="everloop",
        help="A recommendation loop that learns while it serves: everything on one machine, or a part at a time.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name in MODULES:
        importlib.import_module(f"everloop.commands.{name}").register(app)
    return app


def run(argv: list[str]) -> int:
    """Run one command line and return its exit status: 0, 1 for what failed, 2 for what was asked wrongly."""
    try:
        application()(args=argv, prog_name="everloop")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (ConfigError, UsageError) as error:
        return _complain(error, 2)
    except EverloopError as error:
        return _complain(error, 1)
    return 0


def main() -> None:
    """Run this process's command line."""
    sys.exit(run(sys.argv[1:]))


def _complain(error: EverloopError, status: int) -> int:
    print(f"everloop: {error}", file=sys.stderr)
    return status
