"""`tilth train`: the training phases of the open cycle."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.errors import TilthError
from ..cycle.explain import explain_training
from ..cycle.run import run_cycle
from ..train.launch import join_run
from .committed import say_uncommitted
from .options import Json, Set, open_workspace, print_json
from .plan_outlook import print_outlook
from .terminal import TerminalProgress


def train(  # noqa: PLR0913  the verb's options
    overrides: Set = [],  # noqa: B006  typer copies it
    processes: Annotated[int, typer.Option(help="On each machine, one for each GPU; 0: as tilth.yaml says.")] = 0,
    nodes: Annotated[int, typer.Option(help="Machines; 0: as tilth.yaml says. Run the same command on each.")] = 0,
    rendezvous: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the first machine is found.")] = "",
    node_rank: Annotated[int, typer.Option(min=0, help="Which of the machines this is, from 0.")] = 0,
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Show what it would do and take, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run the plan on what the store holds; samples that are missing are generated first. `tilth cycle` goes on.

    --explain shows the plan with numbers before anything runs: samples and tokens, what each `auto` became and why,
    steps, lengths, memory, disk and time; where it would not begin it says why, with exit code 1.
    """
    given = {"processes": processes, "nodes": nodes, "rendezvous": rendezvous}
    overrides = [*overrides, *(f"train.{name}={value}" for name, value in given.items() if value)]
    if as_json and not explain:
        raise TilthError("--json has no effect without --explain", fix="leave it out, or add --explain")
    workspace, progress = open_workspace(overrides), TerminalProgress()
    if node_rank and not explain:
        join_run(workspace.config.train, node_rank, progress)
        return
    say_uncommitted(workspace, progress)
    if explain:
        explained = explain_training(workspace, progress)
        if as_json:
            print_json(explained.model_dump(mode="json"))
        else:
            print_outlook(explained)
        if explained.outlook and explained.outlook.refused:
            raise typer.Exit(1)
        return
    result = run_cycle(workspace, progress, until="train")
    if result.outcome == "nothing to do":
        print("nothing to train: the current release has seen all samples")
    elif result.outcome == "trained":
        print(f"cycle {result.number} is trained; next: tilth cycle")
    else:
        print(f"nothing to train: cycle {result.number} is finished ({result.outcome})")
