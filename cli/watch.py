"""`tilth watch`: a cycle whenever the branch moves, its verdict as Markdown to a command or to standard output."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from ..core.environment import for_children
from ..core.errors import TilthError
from ..cycle.watch import News, Watch
from ..taxonomy.pull import upstream
from .options import open_workspace
from .terminal import TerminalProgress

_CYCLE = "import sys; sys.argv[0] = 'tilth'; from tilth.cli.main import main; main()"
_COMMAND = (sys.executable, "-P", "-c", _CYCLE, "cycle", "--json")  # -P: what lies in the taxonomy is not ours to run
_POST_S = 120.0


def watch(
    every_s: Annotated[
        int, typer.Option("--every", metavar="SECONDS", help="How often to look at the branch.", min=1)
    ] = 60,
    *,
    pull: Annotated[
        bool, typer.Option("--pull", help="Fast-forward the branch to what its remote has, before each look.")
    ] = False,
    run: Annotated[
        str,
        typer.Option(
            metavar="CMD",
            help="Give the verdict to this command, as its standard input, in place of printing it; such as "
            "'gh issue comment 7 --body-file -'. No shell reads it. TILTH_OUTCOME (released, refused or failed), "
            "TILTH_CYCLE, TILTH_RELEASE and TILTH_COMMIT are in its environment, the keys of models are not.",
        ),
    ] = "",
) -> None:
    """Turn a cycle whenever the branch moves, until Ctrl-C.

    The branch is the one that is checked out, and the first cycle is what is not done yet. Verdicts are told as
    Markdown. An error of a cycle is told too; it is tried again when the branch moves, or after a pause that grows.
    Nothing is held between cycles: other commands may run, and are waited for.
    """
    workspace, progress = open_workspace(), TerminalProgress()
    post = _command(run)

    def tell(news: News) -> None:
        if post:
            _post(post, news)
        else:
            print(news.markdown, flush=True)

    watched = f"{upstream(workspace.root)}, pulled" if pull else "the branch that is checked out"
    progress.say(f"watching {watched}, every {every_s:,} s; Ctrl-C ends it")
    try:
        Watch(workspace, _COMMAND, tell, progress, every_s, pull).run()
    except KeyboardInterrupt:
        progress.say("ended; the same command, or `tilth cycle`, goes on from here")


def _command(text: str) -> list[str]:
    """The words of a command line; a program that is not there is told before a cycle is turned."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise TilthError(f"{text!r} is no command: {error}", where="--run", fix="close the quotes") from error
    if words and not shutil.which(words[0]):
        fix = "name one that is on the PATH, or its path"
        raise TilthError(f"there is no program {words[0]!r}", where="--run", fix=fix)
    return words


def _post(command: list[str], news: News) -> None:
    """Run the command. Raises TilthError when it fails."""
    told = {"OUTCOME": news.outcome, "CYCLE": news.cycle, "RELEASE": news.release, "COMMIT": news.commit}
    environment = for_children() | {f"TILTH_{name}": str(value or "") for name, value in told.items()}
    try:
        done = subprocess.run(command, input=news.markdown.encode(), env=environment, timeout=_POST_S, check=False)
        failed = f"ended with exit code {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = f"could not be run ({error})" if isinstance(error, OSError) else f"was not done after {_POST_S:.0f} s"
    if failed:
        fix = f"`tilth report --markdown{f' {news.cycle}' if news.cycle else ''}` prints it"
        raise TilthError(f"{command[0]!r} {failed}: the verdict is not told", where="--run", fix=fix)
