"""`tuneful`: the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tuneful.demo.run import run
from tuneful.errors import TunefulError

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Program language models instead of prompting them."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the compiled program is saved.")] = Path("front_desk.json"),
    model: Annotated[str, typer.Option(help="The LM that runs the program.")] = "local/smollm2",
    rows: Annotated[int | None, typer.Option(help="Held-out rows to score on; all 160 by default.")] = None,
    seed: Annotated[int, typer.Option(help="Where all chance comes from.")] = 0,
) -> None:
    """Compile a two-step program on a real local model and watch its score rise."""
    try:
        run(out, model=model, rows=rows, seed=seed)
    except TunefulError as error:
        sys.stderr.write(f"tuneful: {error}\n")
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
