"""What the verbs of the loop do, callable: `from tilth import Workspace`; docs/python.md lists them.

A method does what its verb does, with the same settings and the same files, and returns the record that the verb
prints. What a verb needs is imported when its method is called, so that `import tilth` waits for nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.config import Config
from ..core.errors import TilthError
from ..core.progress import Progress, SilentProgress
from ..core.workspace import STATE_NAME
from ..core.workspace import Workspace as Place

if TYPE_CHECKING:
    from ..core.records import Preference, Question, Reject, Sample
    from ..eval.evaluation import Evaluation
    from ..llm.budget import Budget
    from ..llm.chat import Conversation
    from ..llm.gguf_write import NumberFormat
    from ..sdg.forecast import Forecast
    from ..sdg.store import Entry
    from ..taxonomy.changes import Changes
    from ..taxonomy.lint import Finding
    from .explain import CycleOutlook, Explained
    from .export import Format
    from .overview import LeafState
    from .prune import Prunable
    from .release_diff import ReleaseDiff
    from .releases import Release
    from .run import CycleResult
    from .verify import Verified


@dataclass(frozen=True)
class Workspace:
    """A taxonomy, and all that was grown from it.

    `place` has its paths and its settings. `progress` is told how far long work is; by default nobody is. Whatever is
    wrong is a TilthError: one line with what, where and what to do. Stopped anywhere and called again, a method goes
    on where it was.
    """

    place: Place
    progress: Progress = field(default_factory=SilentProgress)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str] = ".",
        overrides: Mapping[str, object] | None = None,
        progress: Progress | None = None,
    ) -> Workspace:
        """The workspace at `folder` or in the nearest folder above it.

        `overrides` are settings in place of those of `tilth.yaml`, such as `{"train.plan": "quick", "seed": 7}`. Raises
        ConfigError when there is no workspace, or for a setting that there is not; TaxonomyError.
        """
        written = tuple(
            f"{key}={json.dumps(value, default=str, ensure_ascii=False)}" for key, value in (overrides or {}).items()
        )
        from ..taxonomy.repository import refuse_tracked

        place = Place.open(Path(folder), written)
        refuse_tracked(place.root, STATE_NAME)
        return cls(place, progress or SilentProgress())

    @classmethod
    def init(
        cls, folder: str | os.PathLike[str], *, empty: bool = False, progress: Progress | None = None
    ) -> Workspace:
        """A new workspace, made where it is missing; a taxonomy that is there is adopted as it stands.

        A new taxonomy gets the leaves that ship with tilth, unless it is to be `empty`. Raises TilthError.
        """
        from ..taxonomy.source import WorkingTree
        from ..taxonomy.tree import leaf_ids
        from .new_workspace import add_starter_leaves, make_workspace

        root = make_workspace(os.fspath(folder))
        if not (empty or leaf_ids(WorkingTree(root))):
            add_starter_leaves(root)
        return cls.open(root, progress=progress)

    @property
    def root(self) -> Path:
        """The taxonomy's folder."""
        return self.place.root

    @property
    def config(self) -> Config:
        """The settings of `tilth.yaml` with the overrides."""
        return self.place.config

    # The taxonomy ----------------------------------------------------------------------------------------------------

    def lint(self, *paths: str) -> list[Finding]:
        """What is wrong in the leaves as they are in the working tree: all, or those below `paths` from the root."""
        from ..taxonomy.lint import lint
        from ..taxonomy.source import WorkingTree

        source, state = WorkingTree(self.root), self.place.state
        return lint(source, paths, self.config, cache_file=state / "lint.db", mirrors=state / "documents")

    def diff(self, base: str = "", *, from_fork: bool = False) -> Changes:
        """Which leaves of the working tree differ from the git revision `base`, by default the current release's.

        `from_fork` compares with where HEAD left that revision. Before the first release every leaf is added.
        """
        from ..taxonomy.changes import changes
        from ..taxonomy.source import WorkingTree
        from .compared import compared_with

        before = compared_with(self.root, base, None if base else self.current_release(), from_fork=from_fork)
        return changes(before, WorkingTree(self.root), self.progress)

    def leaves(self, *paths: str) -> list[LeafState]:
        """Every leaf of the working tree with what there is for it: seeds, samples, the current release's score."""
        from .overview import leaf_states

        return leaf_states(self.place, list(paths), self.progress)

    # The samples -----------------------------------------------------------------------------------------------------

    def forecast(self, *paths: str) -> list[Forecast]:
        """What `generate` would ask and cost for each leaf that has no samples yet; nothing is sent.

        Raises NotComplete for leaves that cannot be read.
        """
        from ..sdg.unmade import NotComplete
        from .committed import committed_leaves, foresee_samples

        forecasts, unmade = foresee_samples(self.place, committed_leaves(self.place, paths), self.progress)
        if unmade:
            raise NotComplete([], unmade)
        return forecasts

    def generate(self, *paths: str, budget: Budget | None = None) -> list[Entry]:
        """Have the teacher write samples for the committed leaves that have none yet; nothing is paid for twice.

        Returns the store's entry of every leaf. Raises NotComplete, which has the others' entries, for leaves that
        cannot be read or that lack answers; BudgetSpent, with what is done in the store.
        """
        from ..sdg.unmade import NotComplete
        from .committed import committed_leaves, make_samples

        entries, unmade = make_samples(self.place, committed_leaves(self.place, paths), self.progress, budget=budget)
        if unmade:
            raise NotComplete(entries, unmade)
        return list(entries)

    def samples(self, leaf: str = "", kind: str = "") -> list[Sample]:
        """The samples of the committed leaves whose path contains `leaf`; of one kind, or of all but pairs."""
        from ..sdg.store import read_samples

        found = (sample for entry in self._entries(leaf) for sample in read_samples(entry))
        return [sample for sample in found if kind in {"", sample.kind}]

    def preferences(self, leaf: str = "") -> list[Preference]:
        """The pairs of a better and a worse answer."""
        from ..sdg.store import read_preferences

        return [pair for entry in self._entries(leaf) for pair in read_preferences(entry)]

    def rejects(self, leaf: str = "") -> list[Reject]:
        """What the filters dropped, with the step, the reason and the score."""
        from ..sdg.store import read_rejects

        return [reject for entry in self._entries(leaf) for reject in read_rejects(entry)]

    def _entries(self, leaf: str) -> Iterator[Entry]:
        """The complete entries of the committed leaves whose path contains `leaf`."""
        from ..sdg.store import open_entry
        from .basis import read_basis

        for each in read_basis(self.place).planned:
            if each.complete and leaf in each.leaf.id:
                yield open_entry(each.folder, each.leaf.id, reused=True)

    # The loop --------------------------------------------------------------------------------------------------------

    def explain(self) -> Explained:
        """What `train` would do now, with numbers: data, settings, memory, disk, time. Nothing is written."""
        from .explain import explain_training

        return explain_training(self.place, self.progress)

    def train(self) -> CycleResult:
        """The cycle up to its training; `cycle` goes on from there. Raises as `cycle`."""
        from .run import run_cycle

        return run_cycle(self.place, self.progress, until="train")

    def cycle(self, *, force: bool = False, ref: str = "") -> CycleResult:
        """Generate, train, evaluate, judge, release, report: whatever is not done yet.

        A candidate that the gate refuses is no error: the outcome is `refused`. With `force` it is released all the
        same, and its record says so. With `ref` the taxonomy of that branch or commit is read, and nothing is released.
        Raises CheckFailed when a held-out question stands in the training data or a phase cannot be trained as planned.
        """
        from .run import run_cycle

        return run_cycle(self.place, self.progress, force=force, ref=ref)

    def explain_cycle(self, *, ref: str = "") -> CycleOutlook:
        """Which stages `cycle` would run now, and why. Nothing is written."""
        from .explain import explain_cycle

        return explain_cycle(self.place, self.progress, ref)

    def result(self, cycle: int = 0) -> CycleResult:
        """What a finished cycle came to, by default the last one: scores, comparisons, verdict. Raises DataError."""
        from .run import read_result

        return read_result(self.place, self._finished(cycle))

    def report(self, cycle: int = 0) -> Path:
        """Write the HTML report of a finished cycle again, by default of the last one, and return where it is."""
        from .journal import done
        from .report import write_report

        number = self._finished(cycle)
        result = done(self.place, number)
        if result is None:
            raise TilthError(f"there is no finished cycle {number}", fix="run `tilth cycle` first")
        return write_report(self.place, number, result)

    def _finished(self, cycle: int) -> int:
        from .journal import last_finished

        number = cycle or last_finished(self.place)
        if not number:
            raise TilthError("there is no finished cycle", fix="run `tilth cycle` first")
        return number

    # Models ----------------------------------------------------------------------------------------------------------

    def questions(self) -> list[Question]:
        """The held-out questions that `evaluate` asks: people's, generated ones, and the general set."""
        from ..taxonomy.source import CommitTree
        from ..taxonomy.tree import read_leaves
        from .held_out_questions import held_out_questions

        return held_out_questions(self.place, read_leaves(CommitTree(self.root, "HEAD")))

    def evaluate(self, *models: str, since: str = "", open_book: bool = False) -> Evaluation:
        """Score models on the held-out questions, by default the base and all releases.

        A model is `base`, `teacher`, a release's number, a folder, a GGUF file or `http://HOST:PORT/v1#MODEL`. `since`
        asks about leaves only that changed since HEAD left that revision; `open_book` asks with passages at hand, too.
        """
        from .scores import score_models

        return score_models(self.place, models, self.progress, since=since, open_book=open_book)

    @contextlib.contextmanager
    def chat(self, model: str = "", *, temperature: float = 0.0, max_tokens: int = 1024) -> Generator[Conversation]:
        """A conversation with a model, named as in `evaluate`, by default the current release: its `ask` answers."""
        from ..llm.chat import Conversation, partner
        from ..llm.streaming import Sampling
        from .models import default_model, find_model

        found = find_model(self.place, model or default_model(self.place), self.progress)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
        with partner(found, self.progress) as answering:
            yield Conversation(found.name, answering, sampling)

    # Releases --------------------------------------------------------------------------------------------------------

    def releases(self) -> list[Release]:
        """All releases with their lineage, the oldest first."""
        from .releases import releases

        return releases(self.place)

    def current_release(self) -> Release | None:
        """The release that the next cycle starts from; None before the first."""
        from .releases import current_release

        return current_release(self.place)

    def rollback(self, number: int) -> Release:
        """Make that release the current one: the next cycle starts from it. None is deleted."""
        from .run import roll_back

        return roll_back(self.place, number, self.progress)

    def compare(self, first: int, second: int) -> ReleaseDiff:
        """What release `second` has that `first` has not: leaves, settings, scores. Raises TilthError."""
        from .release_diff import release_diff

        return release_diff(self.place, first, second)

    def verify(self, *numbers: int) -> list[Verified]:
        """All hashes of those releases, by default of all, computed again; what is wrong is in each one's `faults`."""
        from .verify import verify

        return verify(self.place, numbers, self.progress)

    def pin(self, number: int, *, wanted: bool = True) -> Release:
        """Have a release never pruned, or, not `wanted`, let it be pruned again. Raises TilthError."""
        from .releases import pin

        with self.place.lock():
            return pin(self.place, number, wanted=wanted)

    def prunable(self, keep: int | None = None) -> list[Prunable]:
        """What `prune` would delete; nothing is."""
        from .prune import prunable

        return prunable(self.place, self.config.releases.keep if keep is None else keep)

    def prune(self, keep: int | None = None) -> list[Prunable]:
        """Delete the models of releases but for the newest `keep`, and what only the training of older cycles needed.

        By default as many are kept as `tilth.yaml` says, or all. The current release and pinned ones stay. Returns what
        went. Raises TilthError for fewer than 1.
        """
        from .prune import prune

        with self.place.lock():
            found = self.prunable(keep)
            prune(self.place, found)
        return found

    def export(
        self,
        number: int,
        target: str | os.PathLike[str],
        form: Format = "safetensors",
        *,
        numbers: NumberFormat = "f16",
    ) -> str:
        """Write a release to the new folder `target`: as safetensors, for the hub, as GGUF or for Ollama.

        `numbers` counts for GGUF only. Returns what one has to know about it; mostly nothing.
        """
        from .export import export_release

        return export_release(self.place, number, Path(target).absolute(), self.progress, form=form, numbers=numbers)
