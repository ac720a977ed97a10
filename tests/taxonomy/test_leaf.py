from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tilth.core.errors import TaxonomyError
from tilth.core.records import Question
from tilth.taxonomy.leaf import DocumentSpec, SeedPair, read_leaf
from tilth.taxonomy.qna import LeafProblems
from tilth.taxonomy.source import CommitTree, WorkingTree
from tilth.taxonomy.starter_taxonomy import FIRST_KNOWLEDGE, starter_files

LEAF = "knowledge/places/bridge"


class Files:
    """A source in memory."""

    name = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return sorted(self._files)

    def read(self, path: str) -> bytes:
        return self._files[path]


def test_a_question_with_wrong_answers_has_options(repository, knowledge):
    repository.write(f"{LEAF}/bridge.md", "# Bridge\n")
    leaves = []
    for wrong in ([], ["8 miles", " ten\n"], ["8 miles", "11 miles"]):
        knowledge["test_questions"] = [{"question": "How long is it?", "answer": "9 miles", "wrong": wrong}]
        repository.write(f"{LEAF}/qna.yaml", knowledge)
        leaves.append(read_leaf(WorkingTree(repository.root), LEAF))
    assert [leaf.questions[0].options for leaf in leaves] == [
        (),
        ("9 miles", "8 miles", "ten"),
        ("9 miles", "8 miles", "11 miles"),
    ]
    assert [leaf.questions[0].scoring for leaf in leaves] == ["match", "choice", "choice"]
    assert len({leaf.fingerprint for leaf in leaves}) == 3


def test_a_knowledge_leaf_is_read(repository, knowledge):
    knowledge["domain"] = "bridges\n"
    repository.write(f"{LEAF}/qna.yaml", knowledge)
    repository.write(f"{LEAF}/bridge.md", "# Bridge\n")
    leaf = read_leaf(WorkingTree(repository.root), LEAF)
    assert (leaf.id, leaf.kind, leaf.title, leaf.version, leaf.created_by) == (LEAF, "knowledge", "Bridge", 4, "ada")
    assert (leaf.task_description, leaf.domain, leaf.document_outline) == ("", "bridges", "A bridge.")
    assert leaf.seed_examples[1].context == "Passage 1."
    assert leaf.seed_examples[1].pairs[2] == SeedPair(question="What is 1.2?", answer="It is 1.2.")
    assert leaf.documents == DocumentSpec(files=("bridge.md",))
    assert leaf.questions == (Question.new(LEAF, "How long is it?", ("9 miles", "nine miles")),)
    repository.commit()
    assert read_leaf(CommitTree(repository.root, "HEAD"), LEAF) == leaf


@pytest.mark.parametrize(
    ("folder", "context", "kind"),
    [
        ("compositional_skills", "", "skill"),
        ("compositional_skills", "Somebody comes in.", "grounded_skill"),
        ("foundational_skills", "", "foundational"),
        ("foundational_skills", "Somebody comes in.", "foundational"),
    ],
)
def test_the_kind_follows_from_folder_and_contexts(repository, skill, folder, context, kind):
    for seed in skill["seed_examples"] if context else []:
        seed["context"] = context
    repository.write(f"{folder}/say_hello/qna.yaml", skill)
    leaf = read_leaf(WorkingTree(repository.root), f"{folder}/say_hello")
    assert (leaf.kind, leaf.title, leaf.documents, leaf.questions) == (kind, "Say hello", None, ())
    assert leaf.seed_examples[0].context == context
    assert leaf.seed_examples[0].pairs == (SeedPair(question="Greet A.", answer="Hello, A."),)


def test_documents_are_found_from_the_leaf_and_from_the_root(repository, knowledge):
    knowledge["document"]["files"] = ["*.md", "../shared.txt", "/manual/**/*.markdown"]
    repository.write(f"{LEAF}/qna.yaml", knowledge)
    for path in (f"{LEAF}/bridge.md", "knowledge/places/shared.txt", "manual/deep/part.markdown"):
        repository.write(path, "text")
    before = read_leaf(WorkingTree(repository.root), LEAF).fingerprint
    repository.write("manual/deep/part.markdown", "other text")
    assert read_leaf(WorkingTree(repository.root), LEAF).fingerprint != before


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("missing.md", "no file of the repository matches 'missing.md'"),
        ("*.txt", "no file of the repository matches '*.txt'"),
        ("link.md", "no file of the repository matches 'link.md'"),
        ("ignored.md", "no file of the repository matches 'ignored.md'"),
        ("../../../../secret.md", "the document '../../../../secret.md' is outside the repository"),
        ("../../../..", "the document '../../../..' is outside the repository"),
        ("/../secret.md", "the document '/../secret.md' is outside the repository"),
        ("scan.png", "'knowledge/places/bridge/scan.png' cannot be read; use one of: .md, .markdown, .txt"),
        ("latin.md", "'knowledge/places/bridge/latin.md' is not UTF-8 text"),
        ("empty.md", "'knowledge/places/bridge/empty.md' is empty"),
    ],
)
def test_a_document_that_cannot_be_read_is_placed(repository, knowledge, tmp_path, entry, message):
    (tmp_path / "secret.md").write_text("secret")
    repository.write(".gitignore", "ignored.md\n")
    for name, data in (("scan.png", b"x"), ("latin.md", b"\xff"), ("empty.md", b" \n"), ("ignored.md", b"x")):
        repository.write(f"{LEAF}/{name}", data)
    (repository.root / LEAF / "link.md").symlink_to(tmp_path / "secret.md")
    knowledge["document"]["files"] = [entry]
    repository.write(f"{LEAF}/qna.yaml", knowledge)
    with pytest.raises(LeafProblems) as caught:
        read_leaf(WorkingTree(repository.root), LEAF)
    assert str(caught.value).startswith(f"{LEAF}/qna.yaml:7:5: {message}")
    assert isinstance(caught.value, TaxonomyError)


def test_a_leaf_that_is_not_there_is_told_in_a_line(repository):
    with pytest.raises(TaxonomyError, match=r"knowledge/x/qna\.yaml: there is no such file"):
        read_leaf(WorkingTree(repository.root), "knowledge/x")


QNA: dict[str, Any] = yaml.safe_load(starter_files(FIRST_KNOWLEDGE)["qna.yaml"])
QNA["test_questions"] = QNA["test_questions"][:2]


def fingerprint_of(qna: dict[str, Any] | str, leaf_id: str = LEAF, document: bytes = b"text") -> str:
    text = qna if isinstance(qna, str) else yaml.safe_dump(qna, sort_keys=False)
    files = {f"{leaf_id}/qna.yaml": text.encode(), f"{leaf_id}/velmora_lighthouse.md": document}
    return read_leaf(Files(files), leaf_id).fingerprint


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.sampled_from([None, '"', "'", "|", ">"]), st.integers(40, 400))
@pytest.mark.slow
def test_the_fingerprint_is_blind_to_key_order_style_and_comments(random, style, width):
    parts = [
        yaml.dump({key: value}, sort_keys=False, default_style=style, width=width, Dumper=_PlainNumbers)
        for key, value in _shuffled(QNA, random).items()
    ]
    assert fingerprint_of("# a comment\n\n".join(["", *parts, ""])) == fingerprint_of(QNA)


@settings(max_examples=25)
@given(st.data(), st.sampled_from("axz"))
@pytest.mark.slow
def test_the_fingerprint_sees_every_text(data, letter):
    changed = copy.deepcopy(QNA)
    holder, key = data.draw(st.sampled_from(list(_texts(changed))))
    holder[key] += letter
    if holder[key].startswith("velmora_lighthouse.md"):
        return  # names the document
    assert fingerprint_of(changed) != fingerprint_of(QNA)


def test_the_fingerprint_sees_order_and_documents_but_not_the_path_or_the_version(skill):
    assert fingerprint_of(QNA, "knowledge/elsewhere") == fingerprint_of(QNA)
    assert fingerprint_of(QNA, document=b"text ") != fingerprint_of(QNA)
    assert fingerprint_of({**QNA, "seed_examples": QNA["seed_examples"][::-1]}) != fingerprint_of(QNA)
    path = "compositional_skills/x"
    third, fourth = ({**skill, "version": version} for version in (3, 4))
    assert fingerprint_of(third, path) == fingerprint_of(fourth, path)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: _shuffled(value[key], random) for key in keys}
    return [_shuffled(item, random) for item in value] if isinstance(value, list) else value


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """The holder and key of every text in a tree."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, str):
            yield value, key
        elif isinstance(item, dict | list):
            yield from _texts(item)


class _PlainNumbers(yaml.SafeDumper):
    """Keeps `version: 4` a number whatever style the texts have."""


_PlainNumbers.add_representer(int, lambda _, value: yaml.ScalarNode("tag:yaml.org,2002:int", str(value), style=""))
