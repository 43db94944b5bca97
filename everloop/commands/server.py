"""`everloop model-server`: the embedded model server by itself, with the official binary's flags."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    passed_through = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("model-server", context_settings=passed_through, add_help_option=False)(model_server)


def model_server(context: typer.Context) -> None:
    """Serve SavedModels as TensorFlow Serving does; takes its flags: --port=8500 --model_base_path=DIR …"""
    from serving.model_server.main import main

    raise typer.Exit(main(context.args))
