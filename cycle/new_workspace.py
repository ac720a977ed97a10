"""A new workspace: a git repository with `tilth.yaml`, or the taxonomy that is there made into one."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.atomic import write_text
from ..core.config import load_config
from ..core.errors import TaxonomyError, TilthError
from ..core.workspace import CONFIG_NAME, STATE_NAME
from ..taxonomy.contribute import add_files, commit_files, init_repository, write_schema
from ..taxonomy.repository import git_output, is_committed, refuse_tracked
from ..taxonomy.scaffold import SCHEMA_NAME
from ..taxonomy.schema import QNA_NAME
from ..taxonomy.starter_taxonomy import STARTER_LEAVES, starter_files

_CONFIG = """\
# tilth's settings; what is left out has its default. docs/reference/settings.md tells all of them.

# The model that writes the training data. Without base_url tilth serves a small one itself, on the CPU. Any
# OpenAI-compatible endpoint will do:
#   teacher: {model: my-model, base_url: "http://127.0.0.1:8000/v1", api_key_env: MY_KEY}

# The model that is trained: a Hugging Face causal model by name or folder. What stands before every conversation, in
# training and in evaluation; left out, it is what the model's own chat template puts there.
#   student: {model: ./models/my-base, ...}
student:
  system_prompt: You are a helpful assistant.

# What a candidate may lose and still be released, at the low end of the interval: of the other leaves, and of the
# general set (sums, facts, instructions, refusals). The embedded student forgets two to four of twenty facts when it
# learns the next page; for one that you mean to use remove this: the defaults are 0.15 and 0.05.
gate:
  max_loss: 0.4
  max_general_loss: 0.15

seed: 42
"""


def make_workspace(name: str) -> Path:
    """The repository, `.gitignore`, `tilth.yaml` and the editors' schema, each where it is missing, committed.

    `name` is the folder's path as it was typed. Returns it absolute. Raises TilthError.
    """
    if not name:  # a variable of the shell that is not set, maybe: not the current folder
        raise TilthError("DIR is empty", fix="name a folder, or leave it out")
    folder = absolute(name)
    if outer := next((parent for parent in folder.parents if (parent / CONFIG_NAME).is_file()), None):
        what = f"this is inside the workspace {outer}"
        raise TilthError(what, where=str(folder), fix="choose a folder outside, or work there")
    if (outer := outer_repository(folder)) and git_lists(outer, folder):
        what = f"its files belong to the git repository {outer}, and a taxonomy has a repository of its own"
        raise TilthError(what, where=str(folder), fix=f"run `tilth init` in {outer}, or name another folder")
    _make_folder(folder)
    refuse_tracked(folder, STATE_NAME)
    if (folder / CONFIG_NAME).exists():
        load_config(folder / CONFIG_NAME)
    changed = [folder / ".gitignore"] if init_repository(folder) else []
    if not (folder / CONFIG_NAME).exists():
        write_text(folder / CONFIG_NAME, _CONFIG)
    write_schema(folder)
    own = (folder / name for name in (".gitignore", CONFIG_NAME, SCHEMA_NAME))
    if written := [*changed, *(path for path in own if path not in changed and not is_committed(folder, path.name))]:
        commit_files(folder, written, "Make this a tilth workspace")
    return folder


def absolute(name: str) -> Path:
    """A path as it was typed, from the root: links stay, and `..` is gone."""
    return Path(os.path.abspath(name))  # noqa: PTH100


def has_unfinished_starter(folder: Path) -> bool:
    """Whether some of the leaves that ship with tilth are there and in no commit: making them was stopped."""
    there = (f"{leaf}/{QNA_NAME}" for leaf in STARTER_LEAVES if (folder / leaf / QNA_NAME).is_file())
    return any(not is_committed(folder, path) for path in there)


def add_starter_leaves(folder: Path) -> None:
    """Write the leaves that ship with tilth, then commit them, one commit each; what is there stays.

    Raises TaxonomyError.
    """
    for leaf in STARTER_LEAVES:
        missing = {name: text for name, text in starter_files(leaf).items() if not (folder / leaf / name).exists()}
        add_files(folder, leaf, missing)
    for leaf in STARTER_LEAVES:
        commit_files(folder, [folder / leaf / name for name in starter_files(leaf)], f"Add {leaf}")


def outer_repository(folder: Path) -> Path | None:
    """The git repository that a new one in `folder` would be nested in."""
    if (folder / ".git").exists():
        return None
    return next((parent for parent in folder.parents if (parent / ".git").exists()), None)


def git_lists(outer: Path, folder: Path, *which: str) -> bool:
    """Whether git knows of files of a folder; not where it cannot read the outer repository, as in others' homes."""
    try:
        return bool(git_output(outer, "ls-files", *which, "--", str(folder)))
    except TaxonomyError:
        return False


def _make_folder(folder: Path) -> None:
    """The folder, if it is not there. Raises TilthError where none can be, or where a file has to be is another one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise TilthError("this is no folder", where=str(folder), fix="name a folder, new or not") from error
    except OSError as error:
        what = f"the folder cannot be made ({(error.strerror or str(error)).lower()})"
        raise TilthError(what, where=str(folder), fix="name another place") from error
    for name in (".gitignore", CONFIG_NAME):
        if (folder / name).is_dir():
            raise TilthError("a folder stands where a file has to be", where=str(folder / name), fix="move it away")
    if os.path.lexists(ignore := folder / ".gitignore") and (ignore.is_symlink() or not ignore.is_file()):
        raise TilthError("this is a link, or no file, and git follows none", where=str(ignore), fix="move it away")
