"""Run by `loop.Spawner`: loads what the verbs need, then forks a `tilth` for each order that it reads (JSON lines).

For every order it writes two lines: the process id, and how the process ended.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tilth.cli.main import VERBS, main
from tilth.eval.report import drawing, page
from tilth.llm.precision import device


def load(*, trains: bool) -> None:
    """Import what the verbs import, and what they import while they run."""
    for verb in VERBS:
        import_module(f"tilth.cli.{verb.replace('-', '_')}")
    for name in ("git", "openai", "jinja2.meta", "jinja2.sandbox"):
        import_module(name)
    page.template_of("page.jinja")
    with drawing.style("first"):
        drawing.svg(drawing.figure(72, 72), "")  # loads matplotlib: two thirds of what a report takes
    if trains:
        import_module("peft")
        import_module("trl.trainer.sft_trainer")
        from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401  loaded when they are named
        from trl.trainer.sft_config import SFTConfig  # noqa: F401

        if find_spec("deepspeed") and device() == "cpu":  # saving a model imports it
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # as train.run does
            import_module("deepspeed")
        available = import_module("accelerate.utils.imports")  # reads metadata at every step: see train/conftest.py
        available._is_package_available = functools.cache(available._is_package_available)
    gc.freeze()


def become_tilth(order: dict[str, Any]) -> None:
    """Be the command that the order names, to its end."""
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(f"{order['outputs']}/{name}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    sys.argv = ["tilth", *order["arguments"]]
    exec(order["before"], {})
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))  # to tidy up after torch takes longer than most commands


if __name__ == "__main__":
    load(trains="trains" in sys.argv)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            become_tilth(json.loads(line))
        os.write(1, f"{child}\n".encode())
        os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
