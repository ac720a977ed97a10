"""The cards of a release: its model card and the card of what it was trained on, as Hugging Face reads them.

The model card stands beside the weights and goes wherever they are exported. What contributors and models wrote stands
in both as plain text, whatever it looks like, and no path of this machine is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ..core.rate import Rate
from ..eval.contamination import ContaminationReport
from ..eval.evaluation import Evaluation
from ..eval.general import GENERAL
from ..llm.catalogue import catalogue
from ..sdg.card import licences, named, plain, size_category
from ..sdg.store import Manifest
from ..taxonomy.attribution import Work
from ..train.results import PhaseResult
from .releases import Dataset, Release

MODEL_CARD, DATASET_CARD = "model/README.md", "dataset/README.md"
"""Where they stand in a release's folder."""


@dataclass(frozen=True)
class Part:
    """Samples of one leaf that the model was trained on, in this release's cycle or in those that it grew from."""

    dataset: Dataset
    manifest: Manifest | None
    """None: the store has them no more."""
    works: Sequence[Work]
    """What the leaf's `attribution.txt` names."""
    past: bool = False
    """Only in those: other samples took their place since, or the leaf was removed."""


@dataclass(frozen=True)
class Facts:
    """All that the cards tell. The release's name is the last of the evaluation's models."""

    release: Release
    evaluation: Evaluation
    phases: Sequence[PhaseResult]
    parts: Sequence[Part]
    """Those of the leaves as they are first."""
    contamination: ContaminationReport | None

    @property
    def samples_by_kind(self) -> Counter[str]:
        """Pairs among them."""
        kinds = Counter[str]()
        for part in self.parts:
            kinds.update(part.manifest.samples_by_kind if part.manifest else {"not in the store": part.dataset.samples})
            kinds["preference"] += part.manifest.preferences.pairs if part.manifest and part.manifest.preferences else 0
        return +kinds

    @property
    def manifests(self) -> list[Manifest]:
        """Of all parts that the store has."""
        return [part.manifest for part in self.parts if part.manifest]


def cards(facts: Facts) -> dict[str, str]:
    """Path in the release's folder -> text. Equal facts give equal bytes."""
    model = [_about_model(facts), _scores(facts), _verdict(facts), _limits(facts), _training(facts), _lineage(facts)]
    dataset = [_about_dataset(facts), _sources(facts), _making(facts), _rejects(facts), _held_out(facts), _again(facts)]
    return {MODEL_CARD: _card(_model_head(facts), model), DATASET_CARD: _card(_dataset_head(facts), dataset)}


def told(name: str) -> str:
    """The name of a model or a plan as others may read it: of a path the last part."""
    return name if _is_on_hub(name) else name.rstrip("/").rsplit("/", 1)[-1]


def _card(head: Mapping[str, Any], sections: Sequence[Iterator[str]]) -> str:
    front = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n" + "\n".join("\n".join(section) + "\n" for section in sections)


# The model -----------------------------------------------------------------------------------------------------------


def _model_head(facts: Facts) -> dict[str, Any]:
    release = facts.release
    known = catalogue().get(release.student)
    base = {"base_model": release.student, "base_model_relation": "finetune"} if _is_on_hub(release.student) else {}
    return {
        "license": known.license.lower() if known else "other",
        **base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tilth", "taxonomy", "synthetic-data"],
        "model-index": [{"name": release.name, "results": [*map(_result, *_measured(facts))]}],
    }


def _measured(facts: Facts) -> tuple[list[str], list[Rate]]:
    leaves = [leaf for leaf in facts.evaluation.leaves if facts.evaluation.rate(facts.release.name, leaf).total]
    return leaves, [facts.evaluation.rate(facts.release.name, leaf) for leaf in leaves]


def _result(leaf: str, rate: Rate) -> dict[str, Any]:
    """A score as the hub indexes it; the interval is in its `args`."""
    interval = {"correct": rate.correct, "total": rate.total, "low": round(rate.low, 4), "high": round(rate.high, 4)}
    name = "answered rightly, with its 95 % Wilson interval"
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": f"Held-out questions of {leaf}", "type": "tilth-held-out"},
        "metrics": [{"type": "accuracy", "name": name, "value": round(rate.value, 4), "args": interval}],
    }


def _about_model(facts: Facts) -> Iterator[str]:
    release = facts.release
    yield f"# {release.name.capitalize()} of a taxonomy\n"
    yield f"{_model_name(release.student)}, trained by tilth {release.tilth} on synthetic samples of"
    yield f"{_count(len(release.datasets), 'leaf', 'leaves')} of a taxonomy at commit `{release.commit}`. What the"
    yield "samples are and whose documents they rest on tells the dataset card beside this model in its release."


def _scores(facts: Facts) -> Iterator[str]:
    models = list(facts.evaluation.models)
    yield "## Scores\n"
    yield "Held-out questions answered rightly, closed book, with 95 % Wilson intervals. No model saw them before.\n"
    yield f"| leaf | {' | '.join(map(plain, models))} |\n|---|{'---|' * len(models)}"
    for leaf in facts.evaluation.leaves:
        rates = (_rate(facts.evaluation.rate(model, leaf)) for model in models)
        yield f"| {plain(leaf)} | {' | '.join(rates)} |"
    yield from (f"\n{plain(said)}." for said in facts.evaluation.remarks())


def _verdict(facts: Facts) -> Iterator[str]:
    release = facts.release
    yield "## The gate\n"
    forced = " Somebody released it all the same." if release.forced else ""
    yield f"The gate said **{release.verdict.outcome}**.{forced}\n"
    yield from (f"- {plain(reason)}" for reason in release.verdict.reasons)


def _limits(facts: Facts) -> Iterator[str]:
    beyond = " beyond refusals in the general set" if f"{GENERAL}refusals" in facts.evaluation.leaves else ""
    yield "## Use and limits\n"
    yield "It is meant to answer questions about the leaves above. It may be wrong about them, as the scores say, and"
    yield "nothing is known of what the questions do not ask; facts outside the leaves are those of the model that it"
    yield f"was trained from, less what was forgotten. It was not tested for safety{beyond}."


def _training(facts: Facts) -> Iterator[str]:
    yield "## Training\n"
    yield f"Plan {_model_name(facts.release.plan)}, seed {facts.release.seed}.\n"
    yield "| phase | method | epochs | learning rate | samples an epoch | of which replayed | last loss |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for phase in facts.phases:
        if phase.status == "trained" and phase.settings and phase.mix:
            new = phase.mix.origins_an_epoch.get("new")
            samples = phase.mix.an_epoch.samples
            numbers = (f"{phase.settings.epochs}", f"{phase.settings.learning_rate:g}", f"{samples:,}")
            replayed = samples - (new.samples if new else 0)
            row = (plain(phase.phase), phase.settings.method, *numbers, f"{replayed:,}", f"{phase.final_loss:.3f}")
            yield f"| {' | '.join(row)} |"


def _lineage(facts: Facts) -> Iterator[str]:
    release = facts.release
    yield "## Lineage\n"
    yield f"- parent: {f'release {release.parent}' if release.parent else _model_name(release.student)}"
    yield f"- made: {release.created_at:%Y-%m-%d}, in cycle {release.cycle}"
    yield f"- weights: sha256 `{release.weights_sha256}`"
    yield f"- teacher: {_model_name(release.teacher)}"


# The dataset ---------------------------------------------------------------------------------------------------------


def _dataset_head(facts: Facts) -> dict[str, Any]:
    return {
        "license": licences(part.works for part in facts.parts),
        "pretty_name": f"Samples that {facts.release.name} was trained on",
        "size_categories": [size_category(facts.samples_by_kind.total())],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "tilth"],
    }


def _about_dataset(facts: Facts) -> Iterator[str]:
    yield f"# Samples that {facts.release.name} was trained on\n"
    yield "What a teacher wrote about the leaves of a taxonomy and filters kept, in this release's cycle and in those"
    yield "before it.\n\n| kind | samples |\n|---|---:|"
    yield from (f"| {kind} | {count:,} |" for kind, count in sorted(facts.samples_by_kind.items()))


def _sources(facts: Facts) -> Iterator[str]:
    yield "## Sources\n"
    yield "Licences and creators are as the leaves' `attribution.txt` tells them; leaves without one tell none.\n"
    yield "| leaf | samples | works, licences, creators | sha256 of the samples |\n|---|---:|---|---|"
    for part in facts.parts:
        works, data = "<br>".join(map(named, part.works)) or "not told", part.dataset
        leaf = f"{plain(data.leaf)}{' (before)' if part.past else ''}"
        yield f"| {leaf} | {data.samples:,} | {works} | `{data.sha256}` |"
    if any(part.past for part in facts.parts):
        yield "\n“Before”: releases that this one grew from were trained on them; others took their place since, or the"
        yield "leaf was removed."


def _making(facts: Facts) -> Iterator[str]:
    yield "## How they were made\n"
    yield "| recipe | teacher | judge | seed | tilth |\n|---|---|---|---:|---|"
    made = {(m.recipe, m.recipe_fingerprint, m.teacher, m.judge, m.seed, m.tilth) for m in facts.manifests}
    for recipe, fingerprint, teacher, judge, seed, version in sorted(made):
        names = (f"{_model_name(recipe)} `{fingerprint}`", _model_name(teacher), _model_name(judge) or "none")
        yield f"| {' | '.join(names)} | {seed} | {version} |"


def _rejects(facts: Facts) -> Iterator[str]:
    reasons = Counter[str]()
    for manifest in facts.manifests:
        reasons.update(manifest.rejects_by_reason)
    yield "## What filters dropped\n"
    yield "| reason | samples |\n|---|---:|"
    yield from (f"| {plain(reason)} | {count:,} |" for reason, count in reasons.most_common(30))


def _held_out(facts: Facts) -> Iterator[str]:
    yield "## Held-out questions\n"
    if facts.contamination is None:
        yield "They were not looked for in the samples."
        return
    counts, total = facts.contamination.counts, sum(facts.contamination.counts.values())
    found = total - counts.get("none", 0)
    yield f"Each of the {total:,} held-out questions was looked for in all that was trained: {found:,} were found."


def _again(facts: Facts) -> Iterator[str]:
    yield "## How to have them\n"
    yield "They stand in the store of the workspace that made this release. Those of the leaves as they are can be made"
    yield "again in a clone of the taxonomy:\n\n```"
    yield f"git checkout {facts.release.commit}\ntilth generate\ntilth export-data DIR\n```"


def _is_on_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def _model_name(name: str) -> str:
    return plain(told(name))


def _rate(rate: Rate) -> str:
    if not rate.total:
        return "not asked"
    return f"{rate.correct} of {rate.total} ({100 * rate.low:.0f} to {100 * rate.high:.0f} %)"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
