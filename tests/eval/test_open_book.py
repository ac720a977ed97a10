from pathlib import Path

from tilth import taxonomy
from tilth.core.config import Documents
from tilth.core.normalise import normalise
from tilth.eval.open_book import best_passages, read_passages, with_passages
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.tree import read_leaves

STARTER = Path(taxonomy.__file__).parent / "starter"
PASSAGES = [
    "The mill was built by Oswin Hart in 1702, of grey stone.",
    "The wheel turns twelve times a minute, and the wheel is of oak.",
    "Flour from the mill was sold in Brack.",
]


def test_the_best_passages_come_in_the_document_s_order():
    assert best_passages("Of which wood is the wheel?", PASSAGES, most_words=12) == [PASSAGES[1]]
    assert best_passages("Who built the mill?", PASSAGES, most_words=22) == [PASSAGES[0], PASSAGES[2]]
    assert best_passages("Where was flour sold?", PASSAGES) == PASSAGES


def test_one_passage_is_shown_however_long_and_whatever_is_asked():
    assert best_passages("Where was flour sold?", PASSAGES, most_words=1) == [PASSAGES[2]]
    assert best_passages("Zzz?", PASSAGES, most_words=1) == [PASSAGES[0]]
    assert best_passages("", ["", ""], most_words=1) == ["", ""]


def test_the_question_comes_last():
    prompt = with_passages("Of which wood is the wheel?", PASSAGES)
    assert prompt.index("Answer") < prompt.index("Oswin Hart") < prompt.index("Brack") < prompt.index("Of which wood")


def test_the_starter_s_questions_find_their_answers(tmp_path: Path):
    source = WorkingTree(STARTER)
    leaves = read_leaves(source)
    passages = read_passages(leaves, source, tmp_path, Documents())
    assert set(passages) == {leaf.id for leaf in leaves if leaf.kind == "knowledge"}
    asked = [question for leaf in leaves for question in leaf.questions if question.leaf in passages]
    texts = [" ".join(best_passages(question.question, passages[question.leaf], 180)) for question in asked]
    pairs = list(zip(asked, texts, strict=True))
    found = [any(normalise(answer) in normalise(text) for answer in question.answers) for question, text in pairs]
    assert sum(found) >= 0.9 * len(asked)
