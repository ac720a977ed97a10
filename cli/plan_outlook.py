"""How `tilth train --explain` looks: a block for each phase, to be read on a terminal of 80 columns."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator

from ..core.first_few import first_few
from ..cycle.explain import Explained
from ..train.auto import Resolved
from ..train.explain import Outlook, PhaseOutlook
from ..train.memory import Memory, gigabytes
from ..train.mix import Mix
from ..train.plan import LEARNS_FROM_ANSWERS
from ..train.settings import Lora, Replay, Reward, Rollout, Selection
from .options import count_leaves
from .terminal import columns, printable

_INDENT, _LABELS = 3, 11
_NO_BREAK = "\N{NO-BREAK SPACE}"
_ORIGINS = {
    "new": "new",
    "earlier_phase": "of earlier phases",
    "earlier_cycle": "of earlier cycles",
    "general": "general ones",
    "self_generated": "the student's own",
}
_RATHER = {
    "uniform": "",
    "age": ", rather those trained long ago",
    "loss": ", rather those that the last model found hard",
}
_SELECTED = {
    "auto": "last epoch",
    "last": "last epoch",
    "validation_loss": "epoch with the lowest loss on samples held back",
    "held_out": "epoch with the most held-out questions right",
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
        left_out = f"{count_leaves(len(names))} without samples left out: {first_few(names)}"
        print_wrapped(f"{left_out}; `tilth generate` makes them")


def _print_plan(explained: Explained, outlook: Outlook) -> None:
    print_wrapped(_heading(explained, outlook))
    for number, phase in enumerate(outlook.phases, start=1):
        print()
        print(f"{number}. {phase.phase}{', done already' if _is_done(phase) else ''}")
        for label, text in _facts(phase, outlook):
            print_wrapped(f"{label:{_LABELS}}{text}", indent=_INDENT, hanging=_INDENT + _LABELS)
    print()
    print_wrapped(_sum(outlook))


def _is_done(phase: PhaseOutlook) -> bool:
    return not phase.skipped and not phase.because


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
    each = _each(phase, outlook)
    yield "method", _method(settings)
    if narrowed := _narrowed(settings):
        yield "only", narrowed
    yield "samples", _samples(mix, settings)
    if settings.replay != Replay():
        yield "replay", _replay(settings.replay) + _none_of_it(mix)
    if settings.method in LEARNS_FROM_ANSWERS:
        yield "answers", _answers(settings.rollout)
    if settings.rollout.rewards:
        yield "rewards", ", ".join(map(_reward, settings.rollout.rewards))
    yield "lengths", _lengths(mix, settings.max_length)
    yield "steps", _steps(mix, settings) + each
    warm = f", rising over the first {settings.warmup_ratio:.0%}" if settings.warmup_ratio else ""
    yield "rate", f"{settings.learning_rate:.2g}, {settings.schedule}{warm}"
    if "select" not in phase.auto:
        yield "model", _selected(settings.select)
    if settings.average:
        yield "average", f"of its weights and those that it starts from, which weigh {settings.average:g}"
    for number, (name, why) in enumerate(phase.auto.items()):
        yield "" if number else "auto", f"{name.replace('_', ' ')}: {why}"
    yield "memory", _memory(memory, each)
    yield "disk", f"up to {gigabytes(phase.disk_bytes)} while it trains"
    yield "time", _time(phase.seconds, settings)


def _each(phase: PhaseOutlook, outlook: Outlook) -> str:
    return " in each process" if outlook.processes > 1 and phase.method not in LEARNS_FROM_ANSWERS else ""


def _method(phase: Resolved) -> str:
    adapter = "" if phase.adapter == "none" else f", {phase.adapter} {_lora(phase.lora)}"
    part = "" if phase.trainable == "all" else f", {phase.trainable} only"
    held = f", held to its parent by beta {beta:g}" if (beta := _beta(phase)) else ""
    teacher = f", taught by {phase.distill.teacher}, divergence {phase.distill.divergence:g}" if phase.distill else ""
    return f"{phase.method} on {', '.join(phase.kinds)}{adapter}{part}{held}{teacher}"


def _beta(phase: Resolved) -> float:
    return phase.preference.beta if phase.method in {"dpo", "kto"} else phase.rollout.beta


def _narrowed(phase: Resolved) -> str:
    leaves = [f"leaves that match {' or '.join(phase.leaves)}"] if phase.leaves != ("**",) else []
    share = [f"{100 * phase.share:.3g} % of the new samples"] if phase.share < 1 else []
    return ", ".join(leaves + share)


def _replay(replay: Replay) -> str:
    shares = {
        "from earlier phases": replay.earlier_phases,
        "from earlier cycles": replay.earlier_cycles,
        f"from {replay.general_file}" if replay.general_file else "of general prompts": replay.general,
        "answered by the student itself": replay.self_generated,
    }
    asked = [f"{100 * share:.3g} % of the phase {what}" for what, share in shares.items() if share]
    asked += [f"at most {replay.at_most}"] if replay.at_most else []
    asked += [f"at most {replay.per_leaf} of a leaf"] if replay.per_leaf else []
    return ", ".join(asked) + _RATHER[replay.weight]


def _none_of_it(mix: Mix) -> str:
    """Why nothing is replayed, where nothing is."""
    if len(mix.by_origin) > 1:
        return ""
    there = any(leaf.available for leaves in mix.replayed.values() for leaf in leaves.values())
    return "; that is less than one beside so few new samples" if there else "; there is nothing yet"


def _answers(rollout: Rollout) -> str:
    return (
        f"{rollout.completions} to each prompt, of up to {rollout.max_new_tokens} tokens, "
        f"at temperature {rollout.temperature:g}"
    )


def _reward(reward: Reward) -> str:
    named = [f"{reward.answer} answer"] if reward.answer else []
    named += [f"function {reward.function}"] if reward.function else []
    named += [f"reward model {reward.model!r}"] if reward.model else []
    weight = f" times {reward.weight:g}" if reward.weight != 1 else ""
    return "".join(named or ["the judge"]) + weight


def _selected(select: Selection) -> str:
    patience = f"; ends after {select.patience} without a better one" if select.patience else ""
    kept = f"; the {select.keep} best are kept" if select.keep > 1 else ""
    return f"of the {_SELECTED[select.by]}{kept}{patience}"


def _samples(mix: Mix, phase: Resolved) -> str:
    total, once = mix.total, mix.an_epoch
    up_to = "up to " if phase.method in LEARNS_FROM_ANSWERS else ""
    origins = [f"{tally.samples:,} {_ORIGINS[name]}" for name, tally in mix.by_origin.items()]
    origins = ["all new"] if list(mix.by_origin) == ["new"] else origins
    held = f"; {mix.validation.samples:,} held back to measure by" if mix.validation.samples else ""
    turns = f", {once.samples:,} in each epoch" if once.samples < total.samples else ""
    return (
        f"{total.samples:,} ({', '.join(origins)}){turns}: {up_to}{once.tokens:,} tokens an epoch, "
        f"{once.trained_tokens:,} of them trained{held}"
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


def _steps(mix: Mix, phase: Resolved) -> str:
    return (
        f"{mix.steps:,}: {phase.epochs} {_plural(phase.epochs, 'epoch')} of {mix.steps // phase.epochs:,}, "
        f"{phase.batch_size:,} samples each, {phase.micro_batch_size:,} at once"
    )


def _memory(memory: Memory, each: str) -> str:
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
        "logits": memory.logits,
        "other models": memory.others,
        "libraries": memory.process,
        "offloaded": memory.host,
    }
    told = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items() if size >= 5e7)
    return f"about {gigabytes(memory.total)}{each} ({told}; not all at once)"


def _time(seconds: float, phase: Resolved) -> str:
    learns_from_answers = phase.method in LEARNS_FROM_ANSWERS
    unknown = any(reward.judge or reward.function for reward in phase.rollout.rewards)
    longest = ", if all answers are as long as they may be" if learns_from_answers else ""
    more = "; what it takes to reward them comes on top" if unknown else ""
    return f"about {_duration(seconds)}, by what this machine computes now{longest}{more}"


def _sum(outlook: Outlook) -> str:
    if outlook.refused:
        return f"it would not begin: {outlook.refused}"
    trained = [phase for phase in outlook.phases if not phase.skipped and not _is_done(phase)]
    if not trained:
        return "all of it is done already"
    asks = any(phase.settings and _asks_models(phase.settings.replay) for phase in trained)
    besides = ", and what it takes until models have answered the prompts that are replayed" if asks else ""
    time = f"about {_duration(sum(phase.seconds for phase in trained))}"
    most, each = max((phase.memory.total, _each(phase, outlook)) for phase in trained if phase.memory)
    disk = max(phase.disk_bytes for phase in trained)
    return (
        f"in all {time}{besides}, {gigabytes(most)} of memory{each} and {gigabytes(disk)} of disk at most; "
        "nothing has been started"
    )


def _asks_models(replay: Replay) -> bool:
    return bool(replay.self_generated or (replay.general and not replay.general_file))


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


def print_wrapped(text: str, *, indent: int = 0, hanging: int = 0) -> None:
    """Print in lines that fit the terminal, those behind the first indented by `hanging` columns."""
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
