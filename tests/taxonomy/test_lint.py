from __future__ import annotations

import gc
import os

import pytest
from tilth.core.config import Config, Documents, Lint
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.address import allowed_address
from tilth.taxonomy.leaf import read_leaf
from tilth.taxonomy.lint import lint, load_rules
from tilth.taxonomy.lint.report import report
from tilth.taxonomy.mirror import fetch_commit
from tilth.taxonomy.source import CommitTree, WorkingTree
from tilth.taxonomy.starter_taxonomy import STARTER_LEAVES, starter_folder
from tilth.taxonomy.tree import leaf_ids

from .conftest import Repository

ATTRIBUTION = "Title of work: A bridge\nLicense of the work: MIT\nCreator names: Ada\n"
BROKEN = {
    "knowledge/syntax/qna.yaml": "version: 4\ndomain: [a\n",
    "knowledge/tabs/qna.yaml": "version: 4\ndocument:\n\tfiles: [a.md]\n",
    "knowledge/twice/qna.yaml": "version: 4\nversion: 4\n",
    "knowledge/old/qna.yaml": "created_by: ada \nversion: 2\n",
    "knowledge/bytes/qna.yaml": b"version: 4\ncreated_by: \xff\n",
    "compositional_skills/Old Few/qna.yaml": """\
version: 3
created_by: 7
task_description: ""
seed_examples:
  - question: Say A.
    anwser: A.
""",
    "compositional_skills/misread/qna.yaml": """\
version: 4
created_by: ada
task_description: Answer.
seed_examples:
  - {question: When?, answer: 1874}
  - {question: Is it?, answer: yes}
  - {question: How long?, answer: 12:30}
  - {question: How far?, answer: 3.50}
  - {question: Where?, answer: [here]}
""",
    "compositional_skills/mixed/qna.yaml": """\
created_by: ada
task_description: Greet.
seed_examples:
  - {context: Ada comes in., question: Greet., answer: "Hello, Ada."}
  - {question: Greet., answer: Hello.}
  - {question: Greet., answer: Hello.}
""",
    "compositional_skills/form/qna.yaml": (
        b"\xef\xbb\xbfcreated_by: ada\r\ntask_description: Greet. \r\nseed_examples:\r\n"
        b"  - question: Greet Ada.\t\r\n    answer: Hello, Ada."
    ),
    "knowledge/document/qna.yaml": """\
version: 4
created_by: ada
domain: bridges
document_outline: A bridge.
document:
  files: [missing.md, ../../../secret.md, qna.yaml]
seed_examples:
""",
    "knowledge/document/attribution.txt": ATTRIBUTION,
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
    "knowledge/elsewhere/qna.yaml": """\
version: 4
created_by: ada
domain: bridges
document_outline: A bridge.
document: {repo: "ext::sh -c id", commit: 0a1b2c3, patterns: [a.md]}
seed_examples:
""",
    "knowledge/elsewhere/attribution.txt": "Title of work:\nLicense of the work: CC BY-NC 4.0\nCreator names: Ada\n",
    "elsewhere/qna.yaml": "",
    "knowledge/folder/qna.yaml/page.md": "A page.",
}

SEED = """\
  - context: Passage {}.
    questions_and_answers:
      - {{question: "Who is it?", answer: Ada {}.}}
      - {{question: "Where is it?", answer: Here {}.}}
      - {{question: "When is it?", answer: Now {}.}}
"""

GOLDEN = """\
compositional_skills/Old Few/qna.yaml:1:1: W208 the folder name 'Old Few' has more than lower case letters, digits\
 and _; rename it to 'old_few'
compositional_skills/Old Few/qna.yaml:2:1: E105 created_by: YAML reads this as the number 7, not as text; put it in\
 quotes
compositional_skills/Old Few/qna.yaml:3:1: E106 task_description: there is no text; write it
compositional_skills/Old Few/qna.yaml:5:5: E104 the key 'seed_examples.0.answer' is missing; add it
compositional_skills/Old Few/qna.yaml:6:5: E103 unknown key 'seed_examples.0.anwser'; did you mean 'answer'?
compositional_skills/form/qna.yaml:1:1: W207 the file begins with a byte order mark; save it without
compositional_skills/form/qna.yaml:1:16: W206 this line ends as on Windows or on an old Macintosh; let lines end with\
 LF alone
compositional_skills/form/qna.yaml:2:25: W202 spaces at the end of the line; remove them
compositional_skills/form/qna.yaml:4:25: W202 spaces at the end of the line; remove them
compositional_skills/form/qna.yaml:5:24: W205 the last line does not end; add a line end
compositional_skills/misread/qna.yaml:5:23: E105 seed_examples.0.answer: YAML reads this as the number 1874, not as\
 text; put it in quotes
compositional_skills/misread/qna.yaml:6:24: E105 seed_examples.1.answer: YAML reads this as true, not as text; put it\
 in quotes
compositional_skills/misread/qna.yaml:7:27: E105 seed_examples.2.answer: YAML reads this as the number 750, not as\
 text; put it in quotes
compositional_skills/misread/qna.yaml:8:26: E105 seed_examples.3.answer: YAML reads this as the number 3.5, not as\
 text; put it in quotes
compositional_skills/misread/qna.yaml:9:24: E105 seed_examples.4.answer: YAML reads this as a list, not as text; put\
 it in quotes
compositional_skills/mixed/qna.yaml:5:5: E110 some seed examples have a context and this one has none; give all of\
 them one, or none
elsewhere/qna.yaml:1:1: W204 this is not read as a leaf; name it qna.yaml, in a folder below knowledge,\
 compositional_skills or foundational_skills
knowledge/bytes/qna.yaml:2:1: E112 not UTF-8 text; save the file as UTF-8
knowledge/document/qna.yaml:6:11: E122 no file of the repository matches 'missing.md' (links and ignored files do not\
 count); start it at the leaf's folder, or with / at the repository's root
knowledge/document/qna.yaml:6:23: E123 the document '../../../secret.md' is outside the repository; copy it into the\
 leaf's folder
knowledge/document/qna.yaml:6:43: E124 'knowledge/document/qna.yaml' cannot be read; use one of: .md, .markdown,\
 .txt, .html, .htm, .pdf, .docx, .pptx
knowledge/elsewhere/attribution.txt:1:15: E132 'Title of work' has no value; write it after the colon
knowledge/elsewhere/attribution.txt:2:22: W210 the licence 'CC BY-NC 4.0' is not on the list; use one that is, or add\
 it to lint.licenses in tilth.yaml
knowledge/elsewhere/qna.yaml:5:12: E125 the repository 'ext::sh -c id' is not allowed; use https://…, ssh://… or\
 git@host:path; or copy the documents in
knowledge/elsewhere/qna.yaml:9:9: W209 this is nearly the same as knowledge/document/qna.yaml:10, and so are 14 more\
 with others there; change or remove one of the two
knowledge/folder/qna.yaml:1:1: E113 this is a folder, which is never followed or opened; put the file itself here
knowledge/held/qna.yaml:5:1: E121 document: write either files, or all of repo, commit and patterns
knowledge/link/qna.yaml:1:1: E113 this is a link, which is never followed or opened; put the file itself here
knowledge/old/qna.yaml:1:16: W202 spaces at the end of the line; remove them
knowledge/old/qna.yaml:2:1: E107 knowledge of version 2 is not read any more; rewrite it as version 4
knowledge/syntax/qna.yaml:2:9: E101 not valid YAML: the [ that opens here is never closed; close it with ], or put\
 the text in quotes
knowledge/tabs/qna.yaml:3:1: E101 not valid YAML: a tab; indent with spaces
knowledge/twice/qna.yaml:2:1: E102 the key 'version' stands twice; remove one
"""


@pytest.fixture
def broken(repository):
    for path, content in BROKEN.items():
        repository.write(path, content)
        if isinstance(content, str) and content.endswith("seed_examples:\n"):
            repository.write(path, content + "".join(SEED.format(*[number] * 4) for number in range(5)))
    folder = repository.root / "knowledge/link"
    folder.mkdir()
    (folder / "qna.yaml").symlink_to(repository.root / "knowledge/held/qna.yaml")
    return WorkingTree(repository.root)


def test_every_fault_is_told_with_its_place(broken):
    assert "".join(f"{finding}\n" for finding in lint(broken)) == GOLDEN


def test_every_code_of_the_golden_lines_is_explained():
    assert {line.split(": ")[1].split(" ")[0] for line in GOLDEN.splitlines()} <= load_rules().keys()


def test_a_leaf_cannot_be_read_if_and_only_if_it_has_an_error_below_125(broken, repository, skill):
    repository.write("compositional_skills/good/qna.yaml", skill)
    source = WorkingTree(repository.root)
    findings = lint(source)
    wrong = {finding.path for finding in findings if finding.code < "E125"}
    assert {finding.code for finding in findings if finding.path.startswith("compositional_skills/good/")} == {"E131"}
    for leaf_id in leaf_ids(source):
        if f"{leaf_id}/qna.yaml" in wrong:
            with pytest.raises(TaxonomyError):
                read_leaf(source, leaf_id)
        else:
            read_leaf(source, leaf_id)


def test_only_the_leaves_asked_for_are_looked_at(broken):
    assert [finding.code for finding in lint(broken, ["knowledge/twice"])] == ["E102"]
    with pytest.raises(TaxonomyError, match="did you mean 'knowledge/twice'"):
        lint(broken, ["knowledge/twise"])


def test_a_folder_that_is_named_has_its_misplaced_files(repository):
    repository.write("knowledge/odd/real/qna.yaml", "version: 3\n")
    (repository.root / "knowledge/odd/link").mkdir()
    (repository.root / "knowledge/odd/link/qna.yaml").symlink_to("../real/qna.yaml")
    repository.write("compositional_skills/other/qna.yml", "version: 3\n")
    repository.commit()
    found = {(finding.path, finding.code) for finding in lint(WorkingTree(repository.root), ["knowledge"])}
    assert ("knowledge/odd/link/qna.yaml", "E113") in found
    assert not [path for path, _ in found if path.startswith("compositional_skills")]


def test_form_is_warned_about(repository, skill):
    del skill["version"]
    skill["seed_examples"].append(dict(skill["seed_examples"][0]))
    for seed in skill["seed_examples"]:
        seed["context"] = "A few words."
    skill["seed_examples"][1]["context"] = "word " * 501
    repository.write("compositional_skills/x/qna.yaml", skill)
    findings = lint(WorkingTree(repository.root))
    assert [(finding.code, finding.severity) for finding in findings] == [("W201", "warning"), ("W203", "warning")]
    assert (findings[0].line, findings[0].column) == (9, 3)
    assert findings[0].message == "the context has 501 words; shorten it to 500, or split the seed example"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_plain_file_is_told(repository, skill, tmp_path, kind):
    place = repository.write("compositional_skills/x/qna.yaml", skill)
    repository.write("compositional_skills/x/attribution.txt", ATTRIBUTION)
    repository.commit()
    place.unlink()
    if kind == "link":
        place.symlink_to(tmp_path)
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    [finding] = lint(WorkingTree(repository.root))
    assert (finding.code, finding.path) == ("E113", "compositional_skills/x/qna.yaml")
    assert finding.message.startswith(f"this is a {kind}, ")


def test_a_commit_is_linted_as_the_working_tree_is(broken, repository):
    repository.commit()
    assert "".join(f"{finding}\n" for finding in lint(CommitTree(repository.root, "HEAD"))) == GOLDEN


def test_attribution_is_not_asked_for_where_the_settings_say_so(repository, skill):
    repository.write("compositional_skills/x/qna.yaml", skill)
    repository.write("compositional_skills/y/qna.yaml", {**skill, "version": 1})
    source = WorkingTree(repository.root)
    assert [finding.code for finding in lint(source) if finding.severity == "error"] == ["E131"]
    private = Config(lint=Lint(attribution=False))
    assert not [finding for finding in lint(source, config=private) if finding.severity == "error"]


def test_the_list_of_licences_is_a_setting(repository, skill):
    repository.write("compositional_skills/x/qna.yaml", skill)
    repository.write("compositional_skills/x/attribution.txt", ATTRIBUTION.replace("MIT", "gpl 3.0 or Proprietary"))
    source = WorkingTree(repository.root)
    assert [finding.code for finding in lint(source)] == ["W210"]
    assert lint(source, config=Config(lint=Lint(licenses=("GPL-3.0",)))) == []


def test_patterns_are_held_against_a_mirror_and_nobody_is_asked(repository, knowledge, tmp_path):
    library = Repository(tmp_path / "library")
    library.write("other/page.md", "A page.")
    origin = {"repo": str(library.root), "commit": library.commit(), "patterns": ["page.md", "other/*.md"]}
    repository.write("knowledge/x/qna.yaml", {**knowledge, "document": origin})
    repository.write("knowledge/x/attribution.txt", ATTRIBUTION)
    source, mirrors, settings = WorkingTree(repository.root), tmp_path / "mirrors", Documents(allow_local=True)
    config = Config(documents=settings)
    assert lint(source, config=config, mirrors=mirrors) == []
    assert not mirrors.exists()
    address = allowed_address(origin["repo"], settings, where="")
    fetch_commit(address, origin["commit"], mirrors, settings, where="")
    [finding] = lint(source, config=config, mirrors=mirrors)
    assert (finding.code, finding.message.split(" in ")[0]) == ("E122", "no file matches 'page.md'")
    assert [finding.code for finding in lint(source)] == ["E125"]


def test_a_branch_is_no_commit(repository, knowledge):
    origin = {"repo": "https://x.org/y.git", "commit": "main", "patterns": ["page.md"]}
    repository.write("knowledge/x/qna.yaml", {**knowledge, "document": origin})
    repository.write("knowledge/x/attribution.txt", ATTRIBUTION)
    [finding] = lint(WorkingTree(repository.root))
    assert (finding.code, finding.message[:21]) == ("E125", "'main' is no commit; ")


def test_the_starter_taxonomy_has_no_findings():
    assert lint(WorkingTree(starter_folder())) == []


def test_the_public_trees_have_no_errors_but_old_knowledge(public_tree):
    errors = [finding for finding in lint(WorkingTree(public_tree)) if finding.severity == "error"]
    assert {finding.code for finding in errors} <= {"E107"}
    assert len(errors) == {"instructlab-2024-07": 2, "instructlab-2025-04": 0}[public_tree.name]


@pytest.mark.slow
def test_linting_makes_no_cycles_and_leaves_the_collector_as_it_was():
    """It turns the collector off: what piled up then would be memory lost."""
    files = [(data if isinstance(data, bytes) else data.encode(), path.split("/")[0]) for path, data in BROKEN.items()]
    files += [((starter_folder() / leaf / "qna.yaml").read_bytes(), leaf.split("/")[0]) for leaf in STARTER_LEAVES]
    for data, section in files:
        report(data, section)
    gc.collect()
    gc.disable()
    try:
        for data, section in files:
            report(data, section)
        assert gc.collect() == 0
        lint(WorkingTree(starter_folder()))
        assert not gc.isenabled()
    finally:
        gc.enable()
    lint(WorkingTree(starter_folder()))
    assert gc.isenabled()
