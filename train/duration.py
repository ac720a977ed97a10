"""How long a phase will take, about: what it computes, over what this machine computes now."""

from __future__ import annotations

import math
from pathlib import Path

from .auto import Resolved
from .flops import Shape as Work
from .flops import forward_flops, peak_flops, step_flops, thin_flops
from .load import count_parameters
from .memory import Shape, Sharing, once
from .mix import Mix
from .plan import LOSS_ON_ROWS

_UTILISATION = 0.4
"""Of the device's peak in matrix products, what training comes to about."""

_PASS_S, _LAYER_S = 5e-3, 1e-3
"""What a pass takes, and each layer in it, however little it computes: a token more of all answers is a pass. Measured
on a CPU with layers of 32 numbers; a GPU waits for the same calls from Python."""


def seconds_of(phase: Resolved, mix: Mix, shape: Shape, sharing: Sharing) -> float:
    """Of all epochs, as if the rows were of one length; answers as if all were as long as they may be.

    What a judge or a function takes that rewards answers is not known and left out. Raises ModelError.
    """
    own, whole = phase.adapter == "none", phase.trainable == "all"
    work = Work(
        body=shape.in_layers,
        head=shape.embedding,
        attention=shape.layers * shape.attention,
        trained_body=0 if not own else shape.in_layers if whole else shape.mlp,
        trained_head=shape.embedding if own and whole else 0,
    )
    if phase.method in LOSS_ON_ROWS:
        return phase.epochs * _on_rows(phase, mix, shape, work) / sharing.processes
    return phase.epochs * (_drawing(phase, mix, shape, work) + _learning(phase, mix, shape, work))


def _on_rows(phase: Resolved, mix: Mix, shape: Shape, work: Work) -> float:
    total = mix.an_epoch
    shared = once(mix) if shape.joins else 0
    rows = total.samples - math.ceil(total.samples / phase.micro_batch_size)  # in which what is shared is spared
    squares = total.tokens**2 // max(1, total.samples) - rows * shared**2
    return _seconds(
        step_flops(work, tokens=total.tokens - rows * shared, trained=total.trained_tokens, squares=squares)
    )


def _drawing(phase: Resolved, mix: Mix, shape: Shape, work: Work) -> float:
    """An epoch's prompts go through the model at once, each token of their answers by itself."""
    total, rollout = mix.an_epoch, phase.rollout
    answers, said = total.samples * rollout.completions, total.trained_tokens
    asked, all_squares = total.tokens - said, total.tokens**2 // max(1, answers)
    squares = asked**2 // max(1, answers)
    reading = forward_flops(work, tokens=asked, trained=answers, squares=squares)
    writing = forward_flops(work, tokens=said, trained=said, squares=all_squares - squares)
    at_once = phase.micro_batch_size * rollout.completions
    return _seconds(reading) + writing / thin_flops(at_once) + _calls(phase, mix, shape) * (1 + rollout.max_new_tokens)


def _learning(phase: Resolved, mix: Mix, shape: Shape, work: Work) -> float:
    """An epoch's answers go through the models that say what they are worth, and are learned from."""
    total, passes = mix.an_epoch, phase.ppo.passes if phase.method == "ppo" else 1
    answers = total.samples * phase.rollout.completions
    given = {"tokens": total.tokens, "trained": total.trained_tokens, "squares": total.tokens**2 // max(1, answers)}
    asked = _models_asked(phase, shape)
    flops = asked * forward_flops(work, **given) + passes * step_flops(work, **given)
    return _seconds(flops) + _calls(phase, mix, shape) * (asked + 3 * passes)


def _models_asked(phase: Resolved, shape: Shape) -> float:
    """How many models of the student's size see each answer beside the one that learns; ppo asks that one, too."""
    others = [reward.model for reward in phase.rollout.rewards if reward.model]
    others += [phase.distill.teacher] if phase.distill else []
    sizes = [count_parameters(Path(each)) if (Path(each) / "config.json").is_file() else 0 for each in others]
    own = (phase.method == "ppo") + (phase.rollout.beta > 0)
    return own + sum((size or shape.parameters) / shape.parameters for size in sizes)


def _calls(phase: Resolved, mix: Mix, shape: Shape) -> float:
    """Seconds in which every micro-batch of an epoch passes through the model, if that had nothing to compute."""
    return math.ceil(mix.an_epoch.samples / phase.micro_batch_size) * (_PASS_S + shape.layers * _LAYER_S)


def _seconds(flops: float) -> float:
    return flops / (_UTILISATION * peak_flops())
