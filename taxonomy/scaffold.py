"""The files of a new leaf: a `qna.yaml` whose comments teach, with what is known of it filled in.

It is text put together, not YAML dumped, so that the comments stand where they teach. An empty text is a gap for the
author; `tilth lint` names those that are left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from ..core.records import Record
from .leaf import DocumentSpec, SeedExample, SeedPair

SCHEMA_NAME = "qna.schema.json"
"""At the taxonomy's root: what may stand in a `qna.yaml`, for editors."""

NUM_SEEDS, NUM_PAIRS = 5, 3
"""Seed examples, and questions about each passage, that a leaf needs."""

_LONG = 100
"""Texts from this many characters on stand in lines of their own."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


class Draft(Record):
    """What a new leaf says so far."""

    task_description: str = ""
    domain: str = ""
    document_outline: str = ""
    seed_examples: tuple[SeedExample, ...] = ()
    held_out: tuple[SeedPair, ...] = ()
    """Held-out questions, each with its one reference answer."""


def knowledge_qna(leaf_id: str, spec: DocumentSpec, draft: Draft, *, created_by: str, note: str = "") -> str:
    """The `qna.yaml` of a knowledge leaf on the documents `spec`. `note` is a comment that comes first."""
    return _KNOWLEDGE.format(
        head=_head(leaf_id, note),
        created_by=yaml_text(created_by),
        domain=yaml_text(draft.domain),
        outline=yaml_text(draft.document_outline),
        document=_document(spec),
        seeds="".join(map(_knowledge_seed, _padded(draft.seed_examples, NUM_SEEDS, SeedExample(context="", pairs=())))),
        held_out="".join(map(_held_out, draft.held_out or [_GAP])),
    )


def skill_qna(leaf_id: str, draft: Draft, *, created_by: str, grounded: bool, note: str = "") -> str:
    """The `qna.yaml` of a skill leaf; in a grounded one every example has a context. `note` as in `knowledge_qna`."""
    seeds = _padded(draft.seed_examples, NUM_SEEDS, SeedExample(context="", pairs=(_GAP,)))
    return _SKILL.format(
        head=_head(leaf_id, note),
        grounded=" with a text that is given" if grounded else "",
        created_by=yaml_text(created_by),
        task=yaml_text(draft.task_description),
        seeds="".join(_skill_seed(seed, grounded=grounded) for seed in seeds),
    )


def attribution(*, title: str, link: str, revision: str, creator: str) -> str:
    """The `attribution.txt` of a leaf: where its text comes from. The licence is for a person to say."""
    known = {
        "Title of work": title,
        "Link to work": link,
        "Revision": revision,
        "License of the work": "",
        "Creator names": creator,
    }
    return "".join(f"{name}: {' '.join(text.split())}".rstrip() + "\n" for name, text in known.items())


def yaml_text(text: str, indent: int = 0) -> str:
    """A text as a YAML value whose key stands `indent` spaces in: in double quotes, or in indented lines if it is long.

    Read back, it is `text` without the space around it, and with a space for each control character: YAML has no
    place for them.
    """
    text = _CONTROLS.sub(" ", text).strip()
    style = "|" if "\n" in text else ">" if len(text) >= _LONG else '"'
    width = 116 - indent if style == ">" else 2**30
    lines = yaml.safe_dump(text, default_style=style, allow_unicode=True, width=width).rstrip("\n").split("\n")
    return "\n".join([lines[0], *(" " * indent + line if line else "" for line in lines[1:])])


_GAP = SeedPair(question="", answer="")


def _padded(items: Sequence[SeedExample], least: int, gap: SeedExample) -> list[SeedExample]:
    return [*items, *[gap] * (least - len(items))]


def _head(leaf_id: str, note: str) -> str:
    schema = "../" * len(leaf_id.split("/")) + SCHEMA_NAME
    comment = f"# {' '.join(note.split())}\n" if note else ""
    return f"# yaml-language-server: $schema={schema}\n{comment}"


def _document(spec: DocumentSpec) -> str:
    if spec.files:
        return _FILES + _items(spec.files)
    return _REPOSITORY.format(repo=yaml_text(spec.repo), commit=yaml_text(spec.commit)) + _items(spec.patterns)


def _items(texts: Sequence[str]) -> str:
    return "".join(f"    - {yaml_text(text, 4)}\n" for text in texts)


def _knowledge_seed(seed: SeedExample) -> str:
    pairs = [*seed.pairs, *[_GAP] * (NUM_PAIRS - len(seed.pairs))]
    lines = [f"      - question: {_value(pair.question, 8)}        answer: {_value(pair.answer, 8)}" for pair in pairs]
    return f"  - context: {_value(seed.context, 4)}    questions_and_answers:\n{''.join(lines)}"


def _skill_seed(seed: SeedExample, *, grounded: bool) -> str:
    [pair] = seed.pairs
    context = f"context: {_value(seed.context, 4)}    " if grounded else ""
    return f"  - {context}question: {_value(pair.question, 4)}    answer: {_value(pair.answer, 4)}"


def _held_out(pair: SeedPair) -> str:
    return f"  - question: {_value(pair.question, 4)}    answer: {_value(pair.answer, 4)}    accept: []\n"


def _value(text: str, indent: int) -> str:
    return yaml_text(text, indent) + "\n"


_KNOWLEDGE = """\
{head}\
# A knowledge leaf: a document, and hand-written questions about it that show the teacher what to ask.
# Every "" wants a text between the quotes; `tilth lint` names those that are left. A longer text stands best under
# a | in lines of its own, two spaces further in than its key:
#   context: |
#     First line.
#     Second line.
version: 4
# Who wrote this leaf.
created_by: {created_by}
# The field, in a few words, as on the back of a textbook.
domain: {domain}
# What the document tells, in a sentence or two.
document_outline: {outline}
document:
{document}\
# At least five passages of the document, word for word (up to 500 words each), each with three questions or more that
# name what they are about and have a short answer. They teach by example: vary what is asked, and how.
seed_examples:
{seeds}\
# Held-out questions: the model is examined on them, and nothing is ever trained on them. Ask what the document says, in
# other words than above, so that a question makes sense by itself and has one short answer. Under accept stand other
# ways to write that answer: accept: ["1874", "in 1874"]. A dozen of them make a proof; with three, luck decides.
test_questions:
{held_out}\
"""

_FILES = """\
  # The documents: files in this folder, or patterns such as "*.md". With a / before them: from the taxonomy's root.
  files:
"""

_REPOSITORY = """\
  # Another git repository, the commit at which it is read, and which of its files: paths, or patterns such as "*.md".
  repo: {repo}
  commit: {commit}
  patterns:
"""

_SKILL = """\
{head}\
# A skill leaf: examples of something to do{grounded}.
# Every "" wants a text between the quotes; `tilth lint` names those that are left. A longer text stands best under
# a | in lines of its own, two spaces further in than its key:
#   answer: |
#     First line.
#     Second line.
version: 4
# Who wrote this leaf.
created_by: {created_by}
# What is to be done, as you would tell a new colleague; the teacher is shown it.
task_description: {task}
# At least five examples, as unlike one another as the skill allows. The model learns the form of the answers too.
seed_examples:
{seeds}\
"""
