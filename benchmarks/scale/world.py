"""A workspace in the middle of its second cycle: leaves in git, their samples in the store, a release, its records.

What a model or a trainer would have left is invented, and written as the records that they leave. In cycle 2 one leaf
in a hundred is new and one in a hundred is edited.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from tilth import __version__
from tilth.core.atomic import write_json
from tilth.core.fingerprint import file_sha256
from tilth.core.jsonl import write_records
from tilth.core.records import Provenance, Question, Reject, Sample
from tilth.core.workspace import Workspace
from tilth.cycle.basis import read_basis
from tilth.cycle.journal import ENTRIES, EVALUATION, TRAIN, TRAINED, Done, Inputs, begin, cycle_folder, finish
from tilth.cycle.past import replay_buffer
from tilth.cycle.releases import RELEASE, Dataset, Release, release_folder, release_numbers, set_current
from tilth.eval.evaluation import Answer, Evaluation, Settings
from tilth.eval.gate import Verdict
from tilth.eval.general import general_questions
from tilth.eval.report.data import LeafChanges
from tilth.sdg.generate import Planned, plan
from tilth.sdg.store import MANIFEST, REJECTS, REQUESTS, SAMPLES, Manifest, Requests
from tilth.taxonomy.source import CommitTree
from tilth.taxonomy.tree import read_leaves
from tilth.train.load import weights_sha256
from tilth.train.metrics import Step
from tilth.train.phase import METRICS_NAME
from tilth.train.replay_buffer import Entry
from tilth.train.results import PhaseResult, TrainResult

from .words import Leaf, vocabulary

TEACHER = "made-up"
CONFIG = {
    "teacher": {"model": TEACHER, "base_url": "http://127.0.0.1:9/v1"},
    "student": {"model": "../student"},
    "train": {"plan": "lab"},
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = {"base": 0.05, "candidate": 0.62}
"""Model -> the share of held-out questions that it answers rightly; a release: 0.6."""


@dataclass(frozen=True)
class Size:
    """How much there is."""

    leaves: int
    samples_per_leaf: int = 100

    @property
    def hundredth(self) -> int:
        """How many leaves cycle 2 finds new, and how many it finds edited."""
        return self.leaves // 100


def build(root: Path, size: Size) -> None:
    """Write the workspace into the new folder `root`, and a student's tokenizer beside it."""
    _write_repository(root, size)
    _write_student(root.parent / "student")
    workspace = Workspace.open(root)
    released, now = (
        plan(read_leaves(CommitTree(root, name)), workspace.config, workspace.store) for name in ("released", "HEAD")
    )
    numbers = {Leaf(number).id: number for number in range(size.leaves)}
    buffer: list[Entry] = []
    for edition, planned in ((10, released), (11, now)):
        for each in planned:
            if not each.folder.exists():
                samples = _write_entry(each, Leaf(numbers[each.leaf.id], edition), size, workspace)
                buffer += map(_trained, samples) if edition == 10 else []
    write_records(replay_buffer(workspace, 1), sorted(buffer, key=lambda entry: entry.id))
    _write_release(workspace, released)
    _write_cycle(workspace, 1, released, tuple(each.leaf.id for each in released), LeafChanges(), releases=True)
    basis = read_basis(workspace)
    _write_cycle(workspace, 2, now, basis.new, basis.changes)


def add_cycles(root: Path, upto: int) -> None:
    """Make cycle 2 and those after it up to that number, each with a release of the leaves of HEAD."""
    workspace = Workspace.open(root)
    planned = read_basis(workspace).planned
    for number in range(release_numbers(workspace)[-1] + 1, upto + 1):
        new = (planned[number % len(planned)].leaf.id,)
        _write_cycle(workspace, number, planned, new, LeafChanges(), releases=True)
        _write_release(workspace, planned, number)


# The taxonomy ---------------------------------------------------------------------------------------------------------


def _write_repository(root: Path, size: Size) -> None:
    root.mkdir(parents=True)
    _git(root, "init", "--quiet", "--initial-branch=main")
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, check=True, input=b"".join(_history(size)))
    _git(root, "reset", "--quiet", "--hard")
    (root / "tilth.yaml").write_text(yaml.safe_dump(CONFIG))


def _history(size: Size) -> Iterator[bytes]:
    """A stream for `git fast-import`: all but the newest leaves, tagged; then those, and the edits."""
    old = size.leaves - size.hundredth
    yield _commit("all", (Leaf(number) for number in range(old)))
    yield b"reset refs/tags/released\nfrom refs/heads/main\n\n"
    yield _commit("new", (Leaf(number) for number in range(old, size.leaves)))
    yield _commit("edited", (Leaf(number, edition=1) for number in range(size.hundredth)))


def _commit(message: str, leaves: Iterator[Leaf]) -> bytes:
    parts = [f"commit refs/heads/main\ncommitter ada <ada@x> 1700000000 +0000\ndata {len(message)}\n{message}\n"]
    for leaf in leaves:
        for name, content in leaf.files().items():
            text = content if isinstance(content, str) else yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)
            parts.append(f"M 100644 inline {leaf.id}/{name}\ndata {len(text.encode())}\n{text}\n")
    return ("".join(parts) + "\n").encode()


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True)


def _write_student(folder: Path) -> None:
    """A tokenizer to which every word is a token, and weights that are none: nothing is trained here."""
    import numpy
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<|im_start|>", "<|im_end|>", "<unk>", *vocabulary()]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(dict.fromkeys(words))}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<|im_end|>")  # noqa: S106
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    save_file({"none": numpy.zeros(1)}, folder / "model.safetensors")


# The store ------------------------------------------------------------------------------------------------------------


def _write_entry(planned: Planned, words: Leaf, size: Size, workspace: Workspace) -> list[Sample]:
    """A folder of the store as `tilth generate` leaves it, not fsynced. Returns its samples."""
    leaf, recipe, folder = planned.leaf, planned.recipe, planned.folder
    source = Provenance(
        leaf=leaf.id,
        leaf_fingerprint=leaf.fingerprint,
        commit="0" * 40,
        document=f"{leaf.id}/page.md" if words.knowledge else "",
        heading=words.subject,
        recipe=recipe.name,
        recipe_fingerprint=recipe.fingerprint,
        teacher=TEACHER,
    )
    samples = [words.sample(source) for _ in range(size.samples_per_leaf)]
    rejects = [Reject(sample=words.sample(source), step="judge", reason="not so", score="no") for _ in range(5)]
    folder.mkdir(parents=True)
    _write_lines(folder / SAMPLES, [sample.model_dump_json() for sample in samples])
    _write_lines(folder / REJECTS, [reject.model_dump_json() for reject in rejects])
    _write_lines(folder / REQUESTS, sorted(key for sample in samples for key in sample.source.requests))
    manifest = Manifest(
        leaf=leaf.id,
        leaf_fingerprint=leaf.fingerprint,
        commit=source.commit,
        recipe=recipe.name,
        recipe_fingerprint=recipe.fingerprint,
        teacher=TEACHER,
        judge=TEACHER,
        seed=workspace.config.seed,
        tilth=__version__,
        samples=len(samples),
        samples_by_kind=dict(Counter(sample.kind for sample in samples)),
        rejects=len(rejects),
        rejects_by_reason={"not so": len(rejects)},
        failures=(),
        requests=Requests(asked=200, cached=0, paid=200, prompt_tokens=30_000, completion_tokens=6_000),
        steps={},
        prompts={},
        sha256={name: file_sha256(folder / name) for name in (SAMPLES, REJECTS, REQUESTS)},
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True))
    return samples


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _trained(sample: Sample) -> Entry:
    return Entry(
        id=sample.id,
        leaf=sample.source.leaf,
        commit=sample.source.commit,
        cycle=1,
        phase="knowledge-short",
        last_cycle=1,
        tokens=60,
    )


# The cycles -----------------------------------------------------------------------------------------------------------


def _write_release(workspace: Workspace, released: list[Planned], number: int = 1) -> None:
    datasets = [
        Dataset(
            leaf=each.leaf.id,
            leaf_fingerprint=each.leaf.fingerprint,
            entry=each.folder.name,
            sha256=file_sha256(each.folder / SAMPLES),
            samples=len((each.folder / SAMPLES).read_text().splitlines()),
        )
        for each in released
    ]
    name = f"release {number}"
    asked = _evaluation([question for each in released for question in each.leaf.questions], ["base", name])
    release = Release(
        number=number,
        cycle=number,
        parent=number - 1,
        created_at=NOW,
        commit=CommitTree(workspace.root, "released").commit,
        student=workspace.config.student.model,
        student_sha256=weights_sha256(Path(workspace.config.student.model)),
        teacher=TEACHER,
        plan="lab",
        seed=workspace.config.seed,
        datasets=tuple(datasets),
        weights_sha256="0" * 64,
        scores={leaf: asked.rate(name, leaf) for leaf in asked.leaves},
        verdict=Verdict(outcome="pass", reasons=()),
        tilth=__version__,
    )
    write_json(release_folder(workspace, number) / RELEASE, release.model_dump(mode="json"))
    set_current(workspace, number)


def _write_cycle(
    workspace: Workspace,
    number: int,
    planned: list[Planned],
    new: tuple[str, ...],
    changes: LeafChanges,
    *,
    releases: bool = False,
) -> None:
    """What the stages before the gate leave, but for the contamination report, and that the cycle is closed."""
    folder = cycle_folder(workspace, number)
    inputs = Inputs(
        number=number,
        identity=str(number),
        commit=CommitTree(workspace.root, "released" if number == 1 else "HEAD").commit,
        parent=number - 1,
        changes=changes,
        new=new,
        config=workspace.config.model_dump(mode="json"),
        started_at=NOW,
    )
    begin(workspace, inputs)
    write_json(folder / ENTRIES, {each.leaf.id: each.folder.name for each in planned})
    questions = [*(question for each in planned for question in each.leaf.questions), *general_questions()]
    candidate = f"release {number}" if releases else "candidate"
    models = ["base", candidate] if number == 1 else ["base", f"release {number - 1}", candidate]
    write_json(folder / EVALUATION, _evaluation(questions, models).model_dump(mode="json"))
    phase = PhaseResult(phase="knowledge-short", status="trained", folder="01-knowledge-short", seconds=60.0)
    write_json(folder / TRAINED, TrainResult(model=folder / "model", phases=(phase,)).model_dump(mode="json"))
    write_records(folder / TRAIN / phase.folder / METRICS_NAME, (_step(step) for step in range(1, 501)))
    released = Done(outcome="released", release=number, finished_at=NOW)
    finish(workspace, number, released if releases else Done(outcome="refused", release=0, finished_at=NOW))


def _evaluation(questions: list[Question], models: list[str]) -> Evaluation:
    rng = random.Random(7)  # noqa: S311

    def answers(right: float) -> Mapping[str, Answer]:
        return {question.id: _answer(question, right=rng.random() < right) for question in questions}

    return Evaluation(
        settings=Settings(system_prompt="", max_new_tokens=32, max_new_tokens_judged=192, choice="likelihood"),
        models=dict.fromkeys(models, "0" * 64),
        questions=tuple(questions),
        answers={model: answers(KNOWN.get(model, 0.6)) for model in models},
    )


def _answer(question: Question, *, right: bool) -> Answer:
    text = question.answers[0] if right and question.answers else "I do not know."
    return Answer(outcome="right" if right else "wrong", exact=right, f1=float(right), text=text)


def _step(step: int) -> Step:
    return Step(
        step=step,
        epoch=step / 500,
        loss=2 / step**0.3,
        learning_rate=1e-4,
        grad_norm=1.0,
        tokens=900,
        trained_tokens=300,
        seconds=0.1,
    )
