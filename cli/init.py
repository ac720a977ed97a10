"""`tilth init`: a workspace, with a starter taxonomy or around the one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.atomic import write_text
from ..core.errors import TilthError
from ..core.workspace import CONFIG_NAME
from ..taxonomy.contribute import add_files, commit_files, init_repository, write_schema
from ..taxonomy.source import WorkingTree
from ..taxonomy.starter_taxonomy import STARTER_LEAVES, starter_files
from ..taxonomy.tree import leaf_ids
from .options import shown_path

_CONFIG = """\
# tilth's settings; what is left out has its default. `tilth --help` says more.

# The model that writes the training data. Without base_url tilth serves a small one itself, on the CPU. Any
# OpenAI-compatible endpoint will do:
#   teacher: {model: my-model, base_url: "http://127.0.0.1:8000/v1", api_key_env: MY_KEY}

# The model that is trained: a Hugging Face causal model by name or folder. What stands before every conversation, in
# training and in evaluation; left out, it is what the model's own chat template puts there.
#   student: {model: ./models/my-base, ...}
student:
  system_prompt: You are a helpful assistant.

seed: 42
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; made if it is not there.")] = Path(),
    *,
    empty: Annotated[bool, typer.Option("--empty", help="No starter leaves in a new taxonomy.")] = False,
) -> None:
    """Make a workspace: a git repository with a taxonomy and tilth.yaml. A taxonomy that is there is adopted."""
    folder = folder.absolute()
    make_workspace(folder)
    leaves = leaf_ids(WorkingTree(folder))
    if leaves:
        print(f"adopted {len(leaves)} leaves in {shown_path(folder)}")
    elif not empty:
        for leaf in STARTER_LEAVES:
            commit_files(folder, add_files(folder, leaf, starter_files(leaf)), f"Add {leaf}")
        print(
            f"made {shown_path(folder)} with {len(STARTER_LEAVES)} starter leaves: read them, change them, remove them"
        )
    else:
        print(f"made {shown_path(folder)}")
    here = "" if folder == Path.cwd() else f"cd {shown_path(folder)}, then "
    print(f"next: {here}tilth add knowledge PATH --from FILE, tilth lint, git commit, tilth cycle")


def make_workspace(folder: Path) -> None:
    """The repository, `.gitignore`, `tilth.yaml` and the editors' schema, each where it is missing, committed.

    Raises TilthError.
    """
    if outer := next((parent for parent in folder.parents if (parent / CONFIG_NAME).is_file()), None):
        what = f"this is inside the workspace {outer}"
        raise TilthError(what, where=str(folder), fix="choose a folder outside, or work there")
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / ".gitignore"] if init_repository(folder) else []
    if not (folder / CONFIG_NAME).exists():
        write_text(folder / CONFIG_NAME, _CONFIG)
        written.append(folder / CONFIG_NAME)
    written += write_schema(folder)
    if written:
        commit_files(folder, written, "Make this a tilth workspace")
