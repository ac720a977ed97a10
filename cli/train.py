"""`tilth train`: the training phases of the open cycle."""

from __future__ import annotations

from ..cycle.run import run_cycle
from .options import Set, open_workspace
from .terminal import TerminalProgress


def train(overrides: Set = []) -> None:  # noqa: B006  typer copies it
    """Run the plan on what the store holds; samples that are missing are generated first. `tilth cycle` goes on."""
    result = run_cycle(open_workspace(overrides), TerminalProgress(), until="train")
    if result.outcome == "nothing to do":
        print("nothing to train: the current release has seen all samples")
    elif result.outcome == "trained":
        print(f"cycle {result.number} is trained; next: tilth cycle")
    else:
        print(f"nothing to train: cycle {result.number} is finished ({result.outcome})")
