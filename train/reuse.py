"""Which phases of a plan have run already, and why another has to: what it was given then and what it is given now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .auto import Resolved
from .phase import Models, PhaseJob
from .results import PhaseResult

_AGAIN = "the phase before it runs"


def done(jobs: Sequence[PhaseJob], models: Models) -> list[PhaseResult]:
    """Results of the first phases that need not run again.

    Each fits its inputs, which name the weights of the ones before it, and what comes after the last of them finds the
    models that it needs, whole.
    """
    results: list[PhaseResult] = []
    left = [models]
    for job in jobs:
        result = job.result(left[-1])
        if result is None:
            break
        results.append(result)
        left.append(left[-1].after(job, result))
    while results and not left[len(results)].are_whole():
        results.pop()
    return results


def why_they_run(jobs: Sequence[PhaseJob], models: Models) -> dict[str, str]:
    """Phase -> why it has to run; nothing of one whose result is there."""
    results = done(jobs, models)
    for job, result in zip(jobs, results, strict=False):
        models = models.after(job, result)
    to_come = jobs[len(results) :]
    return {job.phase.name: _AGAIN if number else _why(job, models) for number, job in enumerate(to_come)}


def _why(job: PhaseJob, models: Models) -> str:
    left = job.left()
    if left is None or left.settings is None or left.mix is None:
        return "it has not run yet"
    before, now = left.mix, job.mix
    changed = [_settings(left.settings, job.phase)]
    changed += ["it has other samples"] if before.data_sha256 != now.data_sha256 else []
    changed += ["other samples are held back"] if before.validation_sha256 != now.validation_sha256 else []
    changed += ["its rewards or teachers changed"] if before.outside_sha256 != now.outside_sha256 else []
    changed += ["it starts from another model"] if left.parent_sha256 != models.parent_sha256 else []
    changed += [f"the seed was {left.seed}"] if left.seed != job.seed else []
    if not any(changed) and before.tokens_sha256 != now.tokens_sha256:
        changed.append("its samples have other tokens")
    if not any(changed):
        changed.append("its model is gone" if left.inputs == job.inputs(models) else "how it trains changed")
    return "; ".join(filter(None, changed))


def _settings(before: Resolved, now: Resolved) -> str:
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    changed = [name for name in new if new[name] != old[name] and name != "micro_batch_size"]
    return ", ".join(f"{name.replace('_', ' ')} {_short(old[name])} -> {_short(new[name])}" for name in changed)


def _short(value: Any) -> str:
    """A setting as a plan has it; of a group of them, those that are set."""
    if isinstance(value, dict):
        parts = (f"{key}: {each}" for key, each in value.items() if each not in (None, "", 0, 0.0, [], {}))
        return f"{{{', '.join(parts)}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)
