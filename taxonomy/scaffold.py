"""The files of a new leaf: a `qna.yaml` whose comments teach; `tilth lint` names its gaps until they are filled."""

from __future__ import annotations

import json

ATTRIBUTION_NAME = "attribution.txt"

ATTRIBUTION = """\
Title of work:
Link to work:
Revision:
License of the work:
Creator names:
"""

_KNOWLEDGE = """\
# A knowledge leaf: a document, and hand-written questions about it that show the teacher what to ask.
# Every "" wants a text; `tilth lint` names those that are left. Longer texts stand best under a |, indented:
#   context: |
#     First line.
#     Second line.
version: 4
created_by: {created_by}
# The field, in a few words, as on the back of a textbook.
domain: ""
# What the document tells, in a sentence or two.
document_outline: ""
document:
  # Markdown or text files, or globs such as "*.md", in this folder. With a / before them: from the repository's root.
  files:
    - {document}
# At least five passages of the document, word for word (up to 500 words each), with at least three questions each.
seed_examples:
{seeds}\
# Held-out questions: the model is examined on them, and nothing is ever trained on them. Ask what the document says, in
# other words than above, so that a question makes sense by itself and has one short answer; list other spellings of it.
test_questions:
  - question: ""
    answer: ""
    accept: []
"""

_KNOWLEDGE_SEED = """\
  - context: ""
    questions_and_answers:
      - question: ""
        answer: ""
      - question: ""
        answer: ""
      - question: ""
        answer: ""
"""

_SKILL = """\
# A skill leaf: examples of something to do{grounded}.
# Every "" wants a text; `tilth lint` names those that are left. Longer texts stand best under a |, indented:
#   answer: |
#     First line.
#     Second line.
version: 4
created_by: {created_by}
# What is to be done, as you would tell a new colleague; the teacher is shown it.
task_description: ""
# At least five examples, as unlike one another as the skill allows.
seed_examples:
{seeds}\
"""


def knowledge_qna(document: str, created_by: str) -> str:
    """The `qna.yaml` of a knowledge leaf on the file `document` beside it."""
    return _KNOWLEDGE.format(
        created_by=json.dumps(created_by, ensure_ascii=False),
        document=json.dumps(document, ensure_ascii=False),
        seeds=_KNOWLEDGE_SEED * 5,
    )


def skill_qna(created_by: str, *, grounded: bool) -> str:
    """The `qna.yaml` of a skill leaf; in a grounded one every example has a context."""
    seed = '  - question: ""\n    answer: ""\n'
    return _SKILL.format(
        created_by=json.dumps(created_by, ensure_ascii=False),
        grounded=" with a text that is given" if grounded else "",
        seeds=(seed.replace("  - ", '  - context: ""\n    ') if grounded else seed) * 5,
    )
