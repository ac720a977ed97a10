from __future__ import annotations

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.leaf import read_leaf
from tilth.taxonomy.lint import CODES, lint
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import starter_folder
from tilth.taxonomy.tree import leaf_ids

BROKEN = {
    "knowledge/syntax/qna.yaml": "version: 4\ndomain: [a\n",
    "knowledge/twice/qna.yaml": "version: 4\nversion: 4\n",
    "knowledge/old/qna.yaml": "created_by: ada \nversion: 2\n",
    "knowledge/bytes/qna.yaml": b"version: 4\ncreated_by: \xff\n",
    "compositional_skills/few/qna.yaml": """\
version: 3
created_by: 7
task_description: ""
seed_examples:
  - question: Say A.
    anwser: A.
""",
    "compositional_skills/mixed/qna.yaml": """\
created_by: ada
task_description: Greet.
seed_examples:
  - {context: Ada comes in., question: Greet., answer: "Hello, Ada."}
  - {question: Greet., answer: Hello.}
  - {question: Greet., answer: Hello.}
""",
    "knowledge/document/qna.yaml": """\
version: 4
created_by: ada
domain: bridges
document_outline: A bridge.
document:
  files: [missing.md, ../../../secret.md, qna.yaml]
seed_examples:
""",
    "knowledge/held/qna.yaml": """\
version: 4
created_by: ada
domain: bridges
document_outline: A bridge.
document: {repo: https://x.org/y.git, patterns: [a.md]}
test_questions:
  - {question: "who is it", answer: Ada}
seed_examples:
""",
    "elsewhere/qna.yaml": "",
}

SEED = """\
  - context: Passage {}.
    questions_and_answers:
      - {{question: "Who is it?", answer: Ada {}.}}
      - {{question: "Where is it?", answer: Here {}.}}
      - {{question: "When is it?", answer: Now {}.}}
"""

GOLDEN = """\
compositional_skills/few/qna.yaml:2:1: E105 created_by: must be text, not 7; put it in quotes
compositional_skills/few/qna.yaml:3:1: E106 task_description: there is no text; write it
compositional_skills/few/qna.yaml:5:5: E104 the key 'seed_examples.0.answer' is missing; add it
compositional_skills/few/qna.yaml:6:5: E103 unknown key 'seed_examples.0.anwser'; did you mean 'answer'?
compositional_skills/mixed/qna.yaml:5:5: E110 some seed examples have a context and this one has none; give all of them\
 one, or none
elsewhere/qna.yaml:1:1: W204 this is not read as a leaf; name it qna.yaml, in a folder below knowledge or\
 compositional_skills
knowledge/bytes/qna.yaml:2:1: E112 not UTF-8 text; save the file as UTF-8
knowledge/document/qna.yaml:6:11: E122 no file of the repository matches 'missing.md' (links and ignored files do not\
 count); start it at the leaf's folder, or with / at the repository's root
knowledge/document/qna.yaml:6:23: E123 the document '../../../secret.md' is outside the repository; copy it into the\
 leaf's folder
knowledge/document/qna.yaml:6:43: E124 'knowledge/document/qna.yaml' cannot be read; use one of: .md, .markdown, .txt
knowledge/held/qna.yaml:5:1: E121 document: write either files, or all of repo, commit and patterns
knowledge/old/qna.yaml:1:16: W202 spaces at the end of the line; remove them
knowledge/old/qna.yaml:2:1: E107 knowledge of version 2 is not read any more; rewrite it as version 4
knowledge/syntax/qna.yaml:3:1: E101 not valid YAML: expected ',' or ']', but got '<stream end>'
knowledge/twice/qna.yaml:2:1: E102 the key 'version' stands twice; remove one
"""


@pytest.fixture
def broken(repository):
    for path, content in BROKEN.items():
        repository.write(path, content)
        if isinstance(content, str) and content.endswith("seed_examples:\n"):
            repository.write(path, content + "".join(SEED.format(*[number] * 4) for number in range(5)))
    return WorkingTree(repository.root)


def test_every_fault_is_told_with_its_place(broken):
    assert "".join(f"{finding}\n" for finding in lint(broken)) == GOLDEN


def test_a_leaf_is_refused_if_and_only_if_lint_finds_an_error_in_it(broken, repository, skill):
    repository.write("compositional_skills/good/qna.yaml", skill)
    source = WorkingTree(repository.root)
    wrong = {finding.path for finding in lint(source) if finding.severity == "error"}
    for leaf_id in leaf_ids(source):
        if f"{leaf_id}/qna.yaml" in wrong:
            with pytest.raises(TaxonomyError):
                read_leaf(source, leaf_id)
        else:
            read_leaf(source, leaf_id)
    assert "compositional_skills/good/qna.yaml" not in wrong


def test_only_the_leaves_asked_for_are_looked_at(broken):
    assert [finding.code for finding in lint(broken, ["knowledge/twice"])] == ["E102"]
    with pytest.raises(TaxonomyError, match="did you mean 'knowledge/twice'"):
        lint(broken, ["knowledge/twise"])


def test_form_is_warned_about(repository, skill):
    del skill["version"]
    skill["seed_examples"].append(dict(skill["seed_examples"][0]))
    for seed in skill["seed_examples"]:
        seed["context"] = "A few words."
    skill["seed_examples"][1]["context"] = "word " * 501
    repository.write("compositional_skills/x/qna.yaml", skill)
    findings = lint(WorkingTree(repository.root))
    assert [(finding.code, finding.severity) for finding in findings] == [("W201", "warning"), ("W203", "warning")]
    assert (findings[0].line, findings[0].message) == (9, "the context has 501 words; shorten it to 500")


def test_a_link_is_no_leaf(repository, tmp_path):
    (tmp_path / "qna.yaml").write_text("version: 4\n")
    folder = repository.root / "knowledge/x"
    folder.mkdir(parents=True)
    (folder / "qna.yaml").symlink_to(tmp_path / "qna.yaml")
    assert leaf_ids(WorkingTree(repository.root)) == []


def test_every_code_in_the_golden_lines_is_explained():
    assert {line.split(" ")[1] for line in GOLDEN.splitlines()} <= CODES.keys()


def test_the_starter_taxonomy_has_no_findings():
    assert lint(WorkingTree(starter_folder())) == []


def test_the_public_trees_have_no_errors_but_old_knowledge(public_tree):
    errors = [finding for finding in lint(WorkingTree(public_tree)) if finding.severity == "error"]
    assert {finding.code for finding in errors} <= {"E107"}
    assert len(errors) == {"instructlab-2024-07": 2, "instructlab-2025-04": 0}[public_tree.name]
