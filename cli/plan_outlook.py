"""How `tilth train --explain` looks: a block for each phase, to be read on a terminal of 80 columns."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator

from ..cycle.explain import Explained
from ..train.explain import Outlook, PhaseOutlook
from ..train.memory import Memory, gigabytes
from ..train.mix import Mix
from ..train.settings import Lora
from .options import count_leaves
from .terminal import columns, printable

_INDENT, _LABELS = 3, 11
_MOST_NAMED = 5
_NO_BREAK = "\N{NO-BREAK SPACE}"
_ORIGINS = {
    "new": "new",
    "earlier_phase": "of earlier phases",
    "earlier_cycle": "of earlier cycles",
    "general": "general ones",
    "self_generated": "the student's own",
}


def print_outlook(explained: Explained) -> None:
    """Print what training would do, and what is missing for it."""
    if explained.outlook:
        _print_plan(explained, explained.outlook)
    elif not explained.new:
        print("nothing to train: the current release has seen all samples")
    else:
        print("nothing to train yet")
    if explained.without_samples:
        names = explained.without_samples
        more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
        left_out = f"{count_leaves(len(names))} without samples left out: {', '.join(names[:_MOST_NAMED])}{more}"
        _print_wrapped(f"{left_out}; `tilth generate` makes them")


def _print_plan(explained: Explained, outlook: Outlook) -> None:
    _print_wrapped(_heading(explained, outlook))
    for number, phase in enumerate(outlook.phases, start=1):
        print()
        print(f"{number}. {phase.phase}")
        for label, text in _facts(phase, outlook):
            _print_wrapped(f"{label:{_LABELS}}{text}", indent=_INDENT, hanging=_INDENT + _LABELS)
    print()
    _print_wrapped(_sum(outlook))


def _heading(explained: Explained, outlook: Outlook) -> str:
    where = f"{outlook.processes} processes, {outlook.device}" if outlook.processes > 1 else outlook.device
    free = outlook.free_memory_bytes
    memory = f", {gigabytes(free)} of main memory free" if free is not None else ""
    return (
        f"plan {explained.plan}, {explained.student} ({_millions(outlook.parameters)} parameters), "
        f"{where} in {outlook.dtype}{memory}"
    )


def _facts(phase: PhaseOutlook, outlook: Outlook) -> Iterator[tuple[str, str]]:
    """What there is to say of a phase, each with its label."""
    if phase.skipped:
        yield "skipped", phase.skipped
        return
    settings, mix, memory = phase.settings, phase.mix, phase.memory
    if settings is None or mix is None or memory is None:
        return
    adapter = "" if settings.adapter == "none" else f", {settings.adapter} {_lora(settings.lora)}"
    yield "method", f"{phase.method} on {', '.join(phase.kinds)}{adapter}"
    yield "samples", _samples(mix)
    yield "lengths", _lengths(mix, settings.max_length)
    yield (
        "steps",
        (
            f"{mix.steps:,}: {settings.epochs} {_plural(settings.epochs, 'epoch')} of "
            f"{mix.steps // settings.epochs:,}, "
            f"{settings.batch_size} samples each, {settings.micro_batch_size} at once"
        ),
    )
    warm = f", rising over the first {settings.warmup_ratio:.0%}" if settings.warmup_ratio else ""
    yield "rate", f"{settings.learning_rate:.2g}, {settings.schedule}{warm}"
    for number, (name, why) in enumerate(phase.auto.items()):
        yield "" if number else "auto", f"{name.replace('_', ' ')}: {why}"
    yield "memory", _memory(memory, outlook)
    yield "disk", f"up to {gigabytes(phase.disk_bytes)} while it trains"
    yield "time", _time(phase.seconds)


def _samples(mix: Mix) -> str:
    total = mix.total
    origins = [f"{tally.samples:,} {_ORIGINS[name]}" for name, tally in mix.by_origin.items()]
    origins = ["all new"] if list(mix.by_origin) == ["new"] else origins
    held = f"; {mix.validation.samples:,} held back to measure by" if mix.validation.samples else ""
    return (
        f"{total.samples:,} ({', '.join(origins)}): {total.tokens:,} tokens, "
        f"{total.trained_tokens:,} of them trained{held}"
    )


def _lengths(mix: Mix, max_length: int) -> str:
    lengths = mix.lengths
    lost = [
        f"{tally.samples:,} {what} ({tally.trained_tokens:,} trained tokens lost)"
        for tally, what in ((mix.too_long, "dropped"), (mix.cut, "cut"))
        if tally.samples
    ]
    return (
        f"half up to {lengths.p50:,} tokens, 90 % {lengths.p90:,}, 99 % {lengths.p99:,}, longest {lengths.longest:,}; "
        f"of {max_length:,} allowed: {' and '.join(lost) or 'none too long'}"
    )


def _memory(memory: Memory, outlook: Outlook) -> str:
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
        "logits": memory.logits,
        "libraries": memory.process,
        "offloaded": memory.host,
    }
    told = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items() if size >= 5e7)
    each = " for each process" if outlook.processes > 1 else ""
    return f"about {gigabytes(memory.total)}{each} ({told}; not all at once)"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not foreseen: it learns from answers that are yet to be given"
    return f"about {_duration(seconds)}, by what this machine computes now"


def _sum(outlook: Outlook) -> str:
    trained = [phase for phase in outlook.phases if not phase.skipped]
    known = [phase.seconds for phase in trained if phase.seconds is not None]
    more = "more than " if len(known) < len(trained) else "about "
    most = max(phase.memory.total for phase in trained if phase.memory)
    disk = max(phase.disk_bytes for phase in trained)
    return (
        f"in all {more}{_duration(sum(known))}, {gigabytes(most)} of memory and {gigabytes(disk)} of disk at most; "
        "nothing has been started"
    )


def _lora(lora: Lora) -> str:
    kept = "" if lora.merge else ", kept"
    return f"of rank {lora.rank}{kept}"


def _duration(seconds: float) -> str:
    """Rounded up as far as a guess allows."""
    if seconds < 60:
        return "a minute"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.3g} million"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _print_wrapped(text: str, *, indent: int = 0, hanging: int = 0) -> None:
    width = max(40, min(100, columns(sys.stdout)))
    lines = textwrap.wrap(
        printable(text).replace(" GB", f"{_NO_BREAK}GB").replace(" %", f"{_NO_BREAK}%"),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    print("\n".join(lines).replace(_NO_BREAK, " "))
