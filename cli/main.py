"""`tilth`: the verbs, and what every one of them shares: errors as one line, exit codes, a clean stop."""

from __future__ import annotations

import errno
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..core.errors import TilthError
from .add import add
from .cycle import cycle
from .demo import demo
from .diff import diff
from .eval import evaluate
from .generate import generate
from .init import init
from .lint import lint
from .releases import releases
from .report import report
from .samples import samples
from .train import train

app = typer.Typer(
    name="tilth",
    help="Grow a model from a taxonomy. New here? `tilth demo` shows the whole loop; `tilth init DIR` starts your own.",
    epilog="Settings live in tilth.yaml. Exit codes: 0 done, 1 a check said no, 2 an error.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tilth {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Grow a model from a taxonomy."""


for name, verb in {
    "demo": demo,
    "init": init,
    "add": add,
    "lint": lint,
    "diff": diff,
    "generate": generate,
    "samples": samples,
    "train": train,
    "eval": evaluate,
    "cycle": cycle,
    "report": report,
}.items():
    app.command(name)(verb)
app.add_typer(releases, name="releases")


def main() -> NoReturn:
    """Run one command and exit: 0 done, 1 a check said no, 2 an error (told in one line), 130 stopped by the user."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app(standalone_mode=True)
    except TilthError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on from here", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone: nothing is left to say
        sys.exit(0)
    except OSError as error:
        _fail(_os_error(error), 2)
    sys.exit(0)


def _terminated(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """SIGTERM stops as Ctrl-C does."""
    raise KeyboardInterrupt


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    fixes = {
        errno.ENOSPC: "free some disk space and run the same command again",
        errno.EACCES: "check who may write there",
        errno.EROFS: "the file system is read-only",
    }
    fix = fixes.get(error.errno or 0, "")
    return f"{where}{(error.strerror or str(error)).lower()}" + (f"; {fix}" if fix else "")


def _fail(line: str, code: int) -> NoReturn:
    print(f"tilth: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
