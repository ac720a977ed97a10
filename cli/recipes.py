"""`tilth recipes`: what samples are made by: the shipped recipes and prompts, and whether one of your own is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import ConfigError, nearest
from ..sdg import prompts
from ..sdg import recipe as sdg_recipe
from .options import Json, open_workspace, print_json, shown_path
from .terminal import table

recipes = typer.Typer(add_completion=False, rich_markup_mode=None, subcommand_metavar="[show|check]")


@recipes.callback(invoke_without_command=True)
def list_recipes(context: typer.Context, *, as_json: Json = False) -> None:
    """List recipes, show one or a prompt, check one of your own."""
    if context.invoked_subcommand:
        return
    about = {path.stem: _first_comment(path) for path in sorted(sdg_recipe.SHIPPED.glob("*.yaml"))}
    if as_json:
        print_json(about)
    else:
        print(table([[name, text] for name, text in about.items()], ["recipe", ""]))


@recipes.command()
def show(name: Annotated[str, typer.Argument(help="A shipped recipe or prompt.")]) -> None:
    """Print a shipped recipe or prompt as it stands, to begin one of your own with."""
    paths = {path.stem: path for folder in (prompts.SHIPPED, sdg_recipe.SHIPPED) for path in folder.glob("*.yaml")}
    if name not in paths:
        raise ConfigError(f"there is no recipe or prompt {name!r}", fix=nearest(name, paths))
    print(paths[name].read_text(encoding="utf-8"), end="")


@recipes.command()
def check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name or a path; default: tilth.yaml's.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """Check a recipe and its prompts before anything is spent. Exit code 1: something is wrong."""
    name = recipe or open_workspace().config.generate.recipe
    if name.endswith(".yaml"):
        name = shown_path(Path(name))
    found = sdg_recipe.check_recipe(name)
    if as_json:
        print_json(found._asdict())
    else:
        for line in found.faults:
            print(line)
        for line in found.remarks:
            print(f"remark: {line}")
        print(f"{name}: faults: {len(found.faults)}, remarks: {len(found.remarks)}")
    raise typer.Exit(bool(found.faults))


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
