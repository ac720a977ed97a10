"""`tilth`: the verbs, and what every one of them shares: errors as one line, exit codes, a clean stop."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import threading
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from .. import __version__
from ..core.errors import TilthError, nearest
from .streams import open_streams

VERBS = {
    "demo": "Show the whole loop: a first cycle, a contribution, a second cycle.",
    "init": "Make a workspace: a git repository with a taxonomy and tilth.yaml.",
    "add": "Scaffold a leaf.",
    "ci": "Write the files that check contributions, or a workflow that turns the loop.",
    "lint": "Check leaves as they are in the working tree.",
    "migrate": "Bring leaves of older versions to the newest.",
    "tree": "Show the taxonomy with its counts.",
    "show": "Show one leaf.",
    "schema": "Print the JSON Schema of a qna.yaml, for editors.",
    "diff": "Show which leaves changed since a release or a commit.",
    "recipes": "List recipes, show one or a prompt, check one of your own.",
    "judge-check": "Measure the judge on labelled pairs: precision, recall, kappa, and what it got wrong.",
    "generate": "Have the teacher write samples for the committed leaves that have none yet.",
    "samples": "Look at samples, or at what the filters dropped.",
    "export-data": "Export samples of the committed leaves as a dataset with a card.",
    "ledger": "Show what was asked of models and what it cost; export answers, import them.",
    "train": "Run the plan on what the store holds.",
    "eval": "Score models on the held-out questions.",
    "benchmark": "Score models on public benchmarks and on questions of two turns; export tasks for lm-eval.",
    "cycle": "Generate, train, evaluate, judge, release, report: whatever is not done yet.",
    "watch": "Turn a cycle whenever the branch moves, until Ctrl-C.",
    "report": "Write the report of a cycle again, from its files.",
    "releases": "List releases, show and compare them, check their hashes, roll back, pin, prune, export.",
    "chat": "Talk to a model.",
    "serve": "Serve a model as OpenAI's API has it, until Ctrl-C.",
}
"""In the order in which they are met, with how their own help begins. Each is in the module of its name."""

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # what the parser raises; typer gives it no public name


class _Verbs(TyperGroup):
    """Imports the module of a verb when that verb is called: `--help` and `lint` do not wait for what `train` needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            raise TilthError(f"there is no verb {cmd_name!r}", fix=nearest(cmd_name, VERBS, most=len(VERBS)))
        name = cmd_name.replace("-", "_")
        verb = getattr(import_module(f".{name}", __package__), name)
        if not isinstance(verb, typer.Typer):
            function, verb = verb, typer.Typer(add_completion=False, rich_markup_mode=None)
            verb.command(cmd_name)(function)
        return typer.main.get_command(verb)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=_Verbs,
    name="tilth",
    help="Grow a model from a taxonomy. New here? `tilth demo` shows the whole loop; `tilth init DIR` starts your own.",
    epilog="Settings live in tilth.yaml. Exit codes: 0 done, 1 a check said no, 2 an error, 130 stopped (call again).",
    add_completion=False,
    rich_markup_mode=None,
    subcommand_metavar="VERB",
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Without a verb: what there is."""
    if version:
        print(f"tilth {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> NoReturn:
    """Run one command and exit: 0 done, 1 a check said no, 2 an error (told in one line), 130 stopped by the user."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _terminated)
    sys.unraisablehook = _interrupt_again
    _allow_open_files()
    open_streams()
    try:
        _run(sys.argv[1:])
    except typer.Exit as end:
        _end(end.exit_code)
    except TilthError as error:
        _fail(str(error), error.exit_code)
    except _UsageError as error:
        _fail(_usage(error), 2)
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on from here", 130)
    except BrokenPipeError:
        pass  # whoever read our output has gone: nothing is left to say
    except OSError as error:
        _fail(_os_error(error), 2)
    _end(0)


def _allow_open_files() -> None:
    """As many as the system lets us have: every connection is one, and 1,024 are few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited", and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


_AGAIN_S = 0.01


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that came while an object was cleaned up, where Python drops the exception: ask for the stop once more."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _run(arguments: list[str]) -> None:
    """As `app(arguments)`, which would catch what `main` is there to tell."""
    for argument in arguments:
        if any("\ud800" <= sign <= "\udfff" for sign in argument):
            raise TilthError(f"the argument {argument!a} is not UTF-8 text", fix="write it in UTF-8")
    command = typer.main.get_command(app)
    with command.make_context("tilth", arguments) as context:
        command.invoke(context)


def _terminated(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """SIGTERM stops as Ctrl-C does, for which asyncio has a handler of its own: it cancels, where we would tear."""
    interrupt = signal.getsignal(signal.SIGINT)
    if not callable(interrupt):
        raise KeyboardInterrupt
    interrupt(signal.SIGINT, frame)


def _usage(error: Any) -> str:
    """What the parser says: of a value that does not fit, in our words; else in its own."""
    from pydantic import ValidationError

    from ..core.wording import worded

    verb = error.ctx.command_path if error.ctx else " ".join(["tilth", *VERBS.keys() & set(sys.argv[1:2])])
    if isinstance(error.__cause__, ValidationError):
        name = error.param.get_error_hint().strip("'")
        what = str(worded(error.__cause__.errors(include_url=False)[0], name))
    else:
        what = " ".join(error.format_message().split())
        what = what[:1].lower() + what[1:]
    return f"{what.rstrip('.?')}; `{verb} --help` shows how"


def _os_error(error: OSError) -> str:
    if error.errno == errno.ENOENT and not error.filename:
        return "the current folder is gone; go into one that is there"
    where = f"{error.filename}: " if error.filename else ""
    fix = _SYSTEM_FIXES.get(error.errno or 0, "check that place, then run the same command again")
    return f"{where}{(error.strerror or str(error)).lower()}; {fix}"


_SYSTEM_FIXES = {
    errno.ENOSPC: "free some disk space and run the same command again",
    errno.EDQUOT: "free some disk space and run the same command again",
    errno.EACCES: "check who may read and write there",
    errno.EPERM: "check who may read and write there",
    errno.EROFS: "the file system is read-only, so choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file stands where a folder is wanted; choose another path, or move it away",
    errno.EISDIR: "a folder stands where a file is wanted; move it away",
    errno.EMFILE: "raise the limit of open files: `ulimit -n 4096`",
}


def _fail(line: str, code: int) -> NoReturn:
    print(f"tilth: {line}", file=sys.stderr)
    _end(code)


def _end(code: int) -> NoReturn:
    """Exit when all that was printed is on its way. Where its reader has gone it goes nowhere, and that is no error."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # not once more when stdout closes
        if not isinstance(error, BrokenPipeError):
            _fail(_os_error(error), 2)
    sys.exit(code)


if __name__ == "__main__":
    main()
