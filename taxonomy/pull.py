"""Following a remote: the branch that is checked out moves on to what its upstream has, where git can do that at once.

It is done while nobody looks, with what others contributed. So no hook runs, not even one that somebody switched on: a
repository brings its own. Git's other settings are followed: they are those of who runs tilth.
"""

from __future__ import annotations

from pathlib import Path

from ..core.errors import TaxonomyError
from .repository import git_errors, git_output, open_repository

_SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "submodule.recurse=false")
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
    "LC_ALL": "C",
}
_TIMEOUT_S = 600


def upstream(root: Path) -> str:
    """What the branch that is checked out follows, such as `origin/main`. Raises TaxonomyError when it follows none."""
    try:
        return git_output(root, "rev-parse", "--abbrev-ref", "@{upstream}").decode(errors="replace").strip()
    except TaxonomyError as error:
        fix = "`git branch --set-upstream-to=origin/main` says which one it follows"
        raise TaxonomyError(error.what, where=error.where, fix=fix) from error


def pull(root: Path) -> None:
    """Fetch the upstream and fast-forward to it. Raises TaxonomyError: no server, or changes of one's own here."""
    with git_errors(str(root)):
        repo = open_repository(root)
        with repo.git.custom_environment(**_ENVIRONMENT):
            repo.git(c=list(_SETTINGS)).pull("--ff-only", "--quiet", kill_after_timeout=_TIMEOUT_S)
        repo.close()
