"""What the next cycle would be made of: a commit of the taxonomy against the current release."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..core.errors import ModelError, TaxonomyError
from ..core.fingerprint import fingerprint
from ..core.workspace import Workspace
from ..eval.judging import judge_of
from ..eval.model_fingerprint import FileHashes, hashes_file
from ..eval.report.data import LeafChanges
from ..llm.endpoint import identity
from ..sdg.generate import Planned, plan
from ..sdg.store import PREFERENCES, SAMPLES
from ..taxonomy.leaf import Leaf
from ..taxonomy.moves import moves
from ..taxonomy.source import CommitTree
from ..taxonomy.tree import read_leaves
from ..train.data import Files, TrainingInputs
from ..train.load import weights_sha256
from ..train.plan import by_content, load_plan
from ..train.replay_buffer import Past
from ..train.self_generated import GENERAL_ANSWERS_NAME
from .releases import Dataset, Release, current_release, model_folder

_CODE = 6
"""To be raised with a change of scoring, tests or gate by which equal answers come to another verdict: what was judged
before is then judged again."""


@dataclass(frozen=True)
class Basis:
    """The taxonomy at a commit, the release to start from, and what lies between them."""

    source: CommitTree
    leaves: list[Leaf]
    planned: list[Planned]
    parent: Release | None
    """The current one, which the candidate is compared with."""
    start: Release | None
    """The one that training starts from; None: the student as it came, before the first release and where tilth.yaml
    names another student than the parent grew from."""
    changes: LeafChanges
    new: tuple[str, ...]
    """Leaves whose samples the parent has not seen: changed ones, and all where a recipe or the teacher changed."""
    decided_by: Mapping[str, str]
    """What decides a cycle's outcome, a hash of each. Not how fast it gets there: concurrency, time-outs, checkpoints.
    """

    @property
    def identity(self) -> str:
        """One hash of it all."""
        return fingerprint(dict(self.decided_by))

    @property
    def to_train(self) -> tuple[str, ...]:
        """Leaves that are new to the model which training starts from; the samples of the others are replayed."""
        return self.new if self.start else tuple(leaf.id for leaf in self.leaves)


def read_basis(workspace: Workspace, ref: str = "HEAD") -> Basis:
    """Look at a commit; no model is asked. Raises TaxonomyError, ConfigError, DataError."""
    source = CommitTree(workspace.root, ref)
    leaves = read_leaves(source)
    if not leaves:
        raise TaxonomyError("the taxonomy has no committed leaf", where=str(workspace.root), fix="run `tilth add`")
    planned = plan(leaves, workspace.config, workspace.store)
    parent, weights = current_release(workspace), _student_sha256(workspace)
    start = parent if parent and _is_of(workspace, weights, parent) else None
    known = {dataset.entry for dataset in parent.datasets} if parent else set[str]()
    new = tuple(each.leaf.id for each in planned if each.folder.name not in known)
    changes = leaf_changes(parent.datasets if parent else (), {leaf.id: leaf.fingerprint for leaf in leaves})
    return Basis(source, leaves, planned, parent, start, changes, new, _decided_by(workspace, weights, planned, parent))


def training_start(workspace: Workspace) -> Release | None:
    """The release that training starts from now; None: the student as it came. Raises DataError."""
    current = current_release(workspace)
    return current if current and _is_of(workspace, _student_sha256(workspace), current) else None


def _is_of(workspace: Workspace, weights: str, release: Release) -> bool:
    """Whether a release grew from the student, by its weights: its folder may lie elsewhere by now, or hold others."""
    if weights and release.student_sha256:
        return weights == release.student_sha256
    return workspace.config.student.model == release.student


def _student_sha256(workspace: Workspace) -> str:
    """Of its weights where it is a folder of the user's, else nothing: models of the catalogue are pinned."""
    folder = Path(workspace.config.student.model)
    with contextlib.suppress(ModelError):
        if folder.is_dir():
            return weights_sha256(folder, FileHashes(hashes_file(workspace.state / "answers")).of)
    return ""


def _decided_by(workspace: Workspace, weights: str, planned: list[Planned], parent: Release | None) -> dict[str, str]:
    config = workspace.config
    # Not the store's folders: of two leaves with equal content one finds the other's, once it is there.
    leaves = sorted((each.leaf.id, each.leaf.fingerprint, each.recipe.fingerprint) for each in planned)
    student = {"model": _place(config.student.model, workspace.root), "weights": weights}
    hashes = FileHashes(hashes_file(workspace.state / "answers"))
    phases = [by_content(phase, partial(_held, sha256_of=hashes.of)) for phase in load_plan(config.train.plan).phases]
    with contextlib.suppress(OSError):
        hashes.keep()
    asked = [question for each in planned for question in each.leaf.questions]
    parts = {
        "samples": [identity(config.teacher), *leaves],
        "questions": sorted((each.leaf, each.id, each.must_pass, each.judged) for each in asked),
        "parent": [parent.number, parent.weights_sha256] if parent else [],
        "plan": {"phases": phases},
        "student": config.student.model_dump(mode="json") | student,
        "eval": config.eval.model_dump(mode="json", exclude={"batch_size", "open_book"}),
        "judge": judge_of(config).model_dump(),
        "gate": config.gate.model_dump(mode="json"),
        "seed": config.seed,
        "code": _CODE,
    }
    return {name: fingerprint(part) for name, part in parts.items()}


def _held(path: Path, sha256_of: Callable[[Path], str]) -> str:
    """A hash of a model's weights, or of a file; nothing of a folder without weights: who uses it tells of that."""
    with contextlib.suppress(ModelError):
        return weights_sha256(path, sha256_of) if path.is_dir() else sha256_of(path)
    return ""


def _place(model: str, root: Path) -> str:
    """The student's name, or its folder from the workspace's root: that may be moved, or be another checkout."""
    return str(Path(model).relative_to(root)) if Path(model).is_relative_to(root) else model


def leaf_changes(before: tuple[Dataset, ...], after: Mapping[str, str]) -> LeafChanges:
    """By fingerprint against what the release was trained on, so that a rewritten git history changes nothing."""
    old = {dataset.leaf: dataset.leaf_fingerprint for dataset in before}
    gone, fresh, kept = old.keys() - after.keys(), after.keys() - old.keys(), sorted(old.keys() & after.keys())
    moved = moves({leaf: old[leaf] for leaf in gone}, {leaf: after[leaf] for leaf in fresh})
    return LeafChanges(
        added=tuple(sorted(fresh - moved.keys())),
        modified=tuple(leaf for leaf in kept if old[leaf] != after[leaf]),
        removed=tuple(sorted(gone - set(moved.values()))),
        moved=tuple(sorted((was, leaf) for leaf, was in moved.items())),
        unchanged=tuple(leaf for leaf in kept if old[leaf] == after[leaf]),
    )


def training_files(entries: Iterable[Path], leaves: Mapping[Path, str] | None = None) -> Files:
    """What the folders of store entries hold for training; `leaves` are those of folders, as they are called now."""
    folders = list(entries)
    pairs = [folder / PREFERENCES for folder in folders]
    return Files([folder / SAMPLES for folder in folders], [file for file in pairs if file.exists()], leaves or {})


def training_inputs(
    workspace: Workspace, basis: Basis, entries: Iterable[tuple[Path, str]], student: Path, past: Past
) -> TrainingInputs:
    """What a cycle trains: store entries, each with its leaf, the new ones and those replayed.

    `student` is the one that no cycle has trained yet.
    """
    there, new = list(entries), set(basis.to_train)
    leaves = dict(reversed(there))  # the first of equal ones that share a folder
    return TrainingInputs(
        student=model_folder(workspace, basis.start) if basis.start else student,
        new=training_files((folder for folder, leaf in there if leaf in new), leaves),
        earlier=training_files((folder for folder, leaf in there if leaf not in new), leaves),
        past=past,
        base=(student, workspace.state / GENERAL_ANSWERS_NAME),
    )


def documents_cache(workspace: Workspace) -> Path:
    """Where documents of other repositories are kept."""
    return workspace.state / "documents"
