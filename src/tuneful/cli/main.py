"""`tuneful`: the commands."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Program language models instead of prompting them.")


@app.callback()
def main() -> None:
    """Program language models instead of prompting them."""
