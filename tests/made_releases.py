"""A workspace with releases that nobody trained: every file that a cycle leaves of one, and no model that answers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from tilth.core.atomic import write_json, write_text
from tilth.core.config import Config
from tilth.core.fingerprint import bytes_sha256, text_sha256
from tilth.core.rate import Rate, wilson
from tilth.core.records import Question
from tilth.core.workspace import Workspace
from tilth.cycle import journal
from tilth.cycle.journal import Done, Inputs, Judgement, cycle_folder
from tilth.cycle.past import replay_buffer
from tilth.cycle.releases import Dataset, Release, add_release, find_release
from tilth.eval.compare import compare
from tilth.eval.evaluation import Answer, Evaluation, Settings
from tilth.eval.gate import Verdict
from tilth.eval.report.data import LeafChanges
from tilth.train.load import weights_sha256

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEIGHTS_BYTES = 100_000
PASSED = Verdict(outcome="pass", reasons=("Changed leaves: learned.",))


@dataclass
class Made:
    """The workspace."""

    workspace: Workspace

    @classmethod
    def at(cls, root: Path, **config: Any) -> Made:
        root.mkdir()
        (root / "tilth.yaml").write_text(yaml.safe_dump(config))
        return cls(Workspace(root, Config.model_validate(config)))

    def train(self, cycle: int) -> Path:
        """What training leaves in a cycle's folder; the model's."""
        phase = cycle_folder(self.workspace, cycle) / "train" / "01-all"
        write_text(phase / "checkpoints/a/checkpoint-9/optimizer.pt", "o" * WEIGHTS_BYTES)
        write_text(phase / "metrics.jsonl", "{}\n")
        write_text(phase / "model/model.safetensors", f"{cycle}" * WEIGHTS_BYTES)
        write_text(phase / "model/config.json", "{}")
        return phase / "model"

    def cycle(
        self, number: int, parent: int = 0, outcome: Literal["refused", "judged", "released", "open"] = "released"
    ) -> None:
        """A cycle's records; a model and checkpoints where it made no release."""
        inputs = Inputs(
            number=number, identity=f"{number}", commit=f"{number:040}", parent=parent, changes=LeafChanges(), new=(),
            config={}, started_at=NOON,
        )  # fmt: skip
        journal.begin(self.workspace, inputs)
        if outcome != "released":
            self.train(number)
        if outcome != "open":
            release = number if outcome == "released" else 0
            journal.finish(self.workspace, number, Done(outcome=outcome, release=release, finished_at=NOON))

    def entry(self, leaf: str, samples: str) -> Dataset:
        """Samples in the store."""
        name = f"{leaf.rsplit('/', 1)[-1]}-{text_sha256(samples)[:8]}"
        write_text(self.workspace.store / name / "samples.jsonl", samples)
        sha256 = text_sha256(samples)
        return Dataset(leaf=leaf, leaf_fingerprint=sha256[:16], entry=name, sha256=sha256, samples=1)

    def release(
        self, number: int, leaves: dict[str, str] | None = None, scores: dict[str, int] | None = None, **changes: Any
    ) -> Release:
        """A release of cycle `number`, by default the child of the one before; leaf -> samples, leaf -> right of 8."""
        self.cycle(number, changes.get("parent", number - 1))
        model, buffer = self.train(number), f'{{"id": "{number}"}}\n'.encode()
        write_text(replay_buffer(self.workspace, number), buffer.decode())
        made = {
            "number": number, "cycle": number, "parent": number - 1, "created_at": NOON + timedelta(days=number),
            "commit": f"{number:x}" * 40, "student": "nut", "teacher": "rule", "plan": "lab", "seed": 42,
            "datasets": [self.entry(*each) for each in (leaves or {"knowledge/mill": "mill"}).items()],
            "weights_sha256": weights_sha256(model), "verdict": PASSED, "tilth": "0.1.0",
            "scores": {leaf: wilson(right, 8) for leaf, right in (scores or {"knowledge/mill": 8}).items()},
            "replay_sha256": bytes_sha256(buffer), **changes,
        }  # fmt: skip
        release = Release.model_validate(made)
        cards = {"model/README.md": f"card of model {number}\n", "dataset/README.md": "card of data\n"}
        add_release(self.workspace, release, model, cards)
        for left in ("model", "checkpoints"):
            shutil.rmtree(model.parent / left)
        return find_release(self.workspace, number)

    def compared(self, older: Release, younger: Release) -> None:
        """What the younger one's cycle asked both: 8 questions a leaf, of which each answered its score's."""
        leaves = sorted(older.scores.keys() & younger.scores.keys())
        asked = [Question.new(leaf, f"{leaf} {place}?", ("yes",)) for leaf in leaves for place in range(8)]
        answers = {
            release.name: {
                question.id: _answer(place % 8, release.scores[question.leaf]) for place, question in enumerate(asked)
            }
            for release in (older, younger)
        }
        answers = {"base": answers[older.name], **answers}
        settings = Settings(system_prompt="", max_new_tokens=8, max_new_tokens_judged=16, choice="letter")
        evaluation = Evaluation(
            settings=settings, models={name: name for name in answers}, questions=tuple(asked),
            answers=answers,
        )  # fmt: skip
        found = compare(evaluation, older.name, younger.name, leaves, significance=0.05)
        folder = cycle_folder(self.workspace, younger.cycle)
        write_json(folder / "eval.json", evaluation.model_dump(mode="json"))
        write_json(folder / "judgement.json", Judgement(comparisons=found, verdict=PASSED).model_dump(mode="json"))


def _answer(place: int, rate: Rate) -> Answer:
    outcome = "right" if place < rate.correct else "wrong"
    return Answer.model_validate({"outcome": outcome, "exact": False, "f1": 0, "text": "x"})
