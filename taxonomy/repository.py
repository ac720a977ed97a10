"""The border to git: how it is asked, and its failures as TaxonomyError.

A repository is hostile until proven otherwise: a contributor writes its file names, and who adopts one gets its
`.git/config` too. So whatever only reads goes through `git_output`: plumbing commands that run no program which a
repository names (monitors, hooks, filters, diff drivers), ask no server and write no file, not even the index.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.environment import emptied, for_children, keys_away
from ..core.errors import TaxonomyError
from ..core.yaml_problem import shortened

if TYPE_CHECKING:
    from git import Repo

_SETTINGS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.preloadIndex=true")

_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    # What a commit's hash names is what is read, whatever `git replace` says.
    "GIT_NO_REPLACE_OBJECTS": "1",
    # A clone that fetches missing objects when they are asked for would ask a server that its own configuration names.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}

_NOT_OURS = frozenset(
    f"GIT_{name}"
    for name in (
        "DIR",
        "WORK_TREE",
        "INDEX_FILE",
        "OBJECT_DIRECTORY",
        "COMMON_DIR",
        "NAMESPACE",
        "PREFIX",
        "SHALLOW_FILE",
    )
)
"""What git tells its hooks about their repository; it must not lead us from ours to that one."""


def git_output(root: Path, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> bytes:
    """What a reading git command prints in the repository whose top folder (or bare folder) is `root`.

    `index` is read in place of the repository's own. Raises TaxonomyError, with git's own reason, when it fails.
    """
    command, environment = _command(root, arguments)
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    with _missing_git():
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=root, env=environment, check=False)
    if done.returncode:
        reason = _reason(done.stderr.decode(errors="replace"))
        fix = (
            f"`git config --global --add safe.directory {root}` trusts it"
            if "dubious ownership" in reason
            else _SAYS_MORE
        )
        raise TaxonomyError(f"git: {reason}", where=str(root), fix=fix)
    return done.stdout


def start_git(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """As `git_output`, but a process to talk to. What it complains of goes nowhere."""
    command, environment = _command(root, arguments)
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with _missing_git():
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, cwd=root, env=environment)


def resolve_commit(root: Path, revision: str) -> str:
    """The full hex sha of the commit that `revision` names. Raises TaxonomyError when there is none."""
    named = "" if revision.startswith(("-", "^")) else _try(root, "rev-parse", "--verify", "--quiet", revision)
    found = named and _try(root, "rev-parse", "--verify", "--quiet", f"{named}^{{commit}}")  # `:/text` takes no `^`
    if not found:
        raise TaxonomyError(f"there is no commit {revision!r}", where=str(root), fix=_commit_fix(root, revision))
    return found


def has_commit(root: Path) -> bool:
    """Whether the branch that is checked out has a commit already."""
    return bool(_try(root, "rev-parse", "--verify", "--quiet", "HEAD"))


def is_committed(root: Path, path: str) -> bool:
    """Whether the last commit has something at this path."""
    return bool(_try(root, "rev-parse", "--verify", "--quiet", f"HEAD:{path}"))


def merge_base(root: Path, revision: str) -> str:
    """The full hex sha of the newest commit that HEAD and `revision` share. Raises TaxonomyError when there is none."""
    found = _try(root, "merge-base", resolve_commit(root, "HEAD"), resolve_commit(root, revision))
    if not found:
        fix = _UNSHALLOW if _is_shallow(root) else "leave --merge-base out"
        raise TaxonomyError(f"HEAD and {revision!r} have no commit in common", where=str(root), fix=fix)
    return found


def refuse_tracked(root: Path, folder: str) -> None:
    """Raise TaxonomyError where git tracks something of a folder that is ours alone.

    Ignoring it keeps nobody from committing there, and whoever merges that has it among our own files.
    """
    top = next((place for place in (root, *root.parents) if (place / ".git").exists()), None)
    tracked = _try(top, "ls-files", "--", str((root / folder).relative_to(top))) if top else ""
    if tracked:
        first = shortened(tracked.partition("\n")[0])
        what = f"git tracks {first!r}: what others commit there would be taken for tilth's own"
        fix = f"`git rm -r {folder}` deletes what is there, with --cached it keeps it, if it is yours; commit that"
        raise TaxonomyError(what, where=str(root), fix=fix)


def open_repository(root: Path) -> Repo:
    """The repository whose top folder (or bare folder) is `root`. Raises TaxonomyError when there is none."""
    with git_errors(str(root)):
        from git import Repo

        repo = Repo(root)
        repo.git.update_environment(**emptied())
        return repo


@contextlib.contextmanager
def git_errors(where: str) -> Generator[None]:
    """Turn what GitPython raises inside the block into a TaxonomyError that tells git's own reason."""
    try:
        with keys_away():  # it asks git for its version when it is imported
            from git import exc
    except ImportError as error:  # GitPython looks for the git program when it is imported
        raise TaxonomyError("git is not installed", fix="install git") from error
    try:
        yield
    except exc.InvalidGitRepositoryError as error:
        raise TaxonomyError("this is no git repository", where=where, fix="run `tilth init` there") from error
    except exc.NoSuchPathError as error:
        raise TaxonomyError("there is no such folder", where=where, fix="name one that is there") from error
    except exc.GitCommandNotFound as error:
        raise TaxonomyError("git is not installed", where=where, fix="install git") from error
    except exc.GitCommandError as error:
        told = str(error.stderr or "").strip().removeprefix("stderr:").strip().strip("'")
        raise TaxonomyError(f"git: {_reason(told)}", where=where, fix=_SAYS_MORE) from error


def _command(root: Path, arguments: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a git that reads `root` and no repository above it."""
    if not root.is_dir():
        raise TaxonomyError("there is no such folder", where=str(root), fix="name one that is there")
    if (root / ".git").exists():
        place = f"--work-tree={root}"  # whatever core.worktree says
    elif (root / "HEAD").is_file() and (root / "objects").is_dir():
        place = f"--git-dir={root}"
    else:
        raise _no_repository(root)
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    environment = {name: value for name, value in for_children().items() if name not in _NOT_OURS}
    return ["git", *settings, place, *arguments], {
        **environment,
        **_ENVIRONMENT,
        "GIT_CEILING_DIRECTORIES": str(root.parent),
    }


def _no_repository(root: Path) -> TaxonomyError:
    above = next((folder for folder in root.parents if (folder / ".git").exists()), None)
    what = f"this is a folder of the git repository {above}" if above else "this is no git repository"
    fix = (
        "a taxonomy is one of its own; move it to the top, or run `git init` here"
        if above
        else "run `tilth init` there"
    )
    return TaxonomyError(what, where=str(root), fix=fix)


@contextlib.contextmanager
def _missing_git() -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TaxonomyError("git is not installed", fix="install git") from error


def _try(root: Path, *arguments: str) -> str:
    """What a command prints, or nothing where it fails."""
    command, environment = _command(root, arguments)
    with _missing_git():
        done = subprocess.run(command, capture_output=True, cwd=root, env=environment, check=False)
    return "" if done.returncode else done.stdout.decode(errors="replace").strip()


_UNSHALLOW = "this clone holds only the newest commits; run `git fetch --unshallow`"


def _is_shallow(root: Path) -> bool:
    return _try(root, "rev-parse", "--is-shallow-repository") == "true"


def _commit_fix(root: Path, revision: str) -> str:
    git_output(root, "rev-parse", "--git-dir")  # a repository that git does not read at all is told as that
    if not has_commit(root):
        return "commit something first"
    names = _try(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags")
    if close := difflib.get_close_matches(revision, names.splitlines(), n=1):
        return f"did you mean {close[0]!r}?"
    return _UNSHALLOW if _is_shallow(root) else "`git log` and `git branch --all` list them"


_SAYS_MORE = "mend that with git: `git status` and `git fsck` say more"


def _reason(stderr: str) -> str:
    """The line of git's output that says why: the `fatal:` or `error:` one where there is one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(fatal|error):", line)]
    return (told or lines or ["failed without a word"])[-1]
