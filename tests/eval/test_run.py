import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from tilth.core.atomic import read_json, write_json
from tilth.core.config import Config
from tilth.core.errors import DataError, ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Question
from tilth.eval import answering, run
from tilth.eval.answer_cache import AnswerCache
from tilth.eval.answering import Answering
from tilth.eval.evaluation import Duel, Evaluation, Settings
from tilth.eval.model_fingerprint import model_fingerprint

from .writer import fake_model, put_writer

CONFIG = Config.model_validate({"eval": {"max_new_tokens": 4, "batch_size": 1}})
SETTINGS = {"system_prompt": "", "max_new_tokens": 4}
QUESTIONS = [
    Question.new(leaf, f"What is {leaf} {number}?", (f"answer {number}",)) for leaf in ("a", "b") for number in range(6)
]


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch):
    return put_writer(monkeypatch)


def evaluate(models, cache: Path, config: Config = CONFIG, questions=QUESTIONS, **more) -> Evaluation:
    return run.evaluate(models, questions, Answering(config, cache, cache / "ledger.db", SilentProgress()), **more)


def test_answers_are_scored_and_counted_by_leaf(tmp_path: Path, writer):
    writer()
    found = evaluate({"base": fake_model(tmp_path / "base")}, tmp_path / "cache")
    assert found.leaves == ("a", "b")
    assert (found.rate("base", "a").correct, found.rate("base", "a").total) == (6, 6)
    answer = found.answers["base"][QUESTIONS[2].id]
    assert (answer.text, answer.correct, answer.exact, answer.f1) == (
        "answer 2 of base",
        True,
        False,
        pytest.approx(4 / 6, abs=1e-6),
    )
    assert Evaluation.model_validate(json.loads(found.model_dump_json())) == found


def test_a_question_that_two_leaves_ask_has_the_pages_of_both_at_hand(tmp_path: Path, writer):
    new, asked = writer(), [Question.new(leaf, "Who keeps it?", ("Ann",)) for leaf in ("a", "b", "c")]
    pages = {"a": ("Ann keeps the mill.", "It is old."), "b": ("Bo keeps the ferry.", "It is old.")}
    found = evaluate({"base": fake_model(tmp_path / "base")}, tmp_path / "cache", questions=asked, passages=pages)
    [prompt] = [each for each in new.asked if "Text:" in each]
    assert prompt.count("It is old.") == prompt.count("Ann keeps") == prompt.count("Bo keeps") == 1
    assert len(found.open_book["base"]) == 1


def test_another_name_for_a_model_changes_nothing_else(tmp_path: Path, writer):
    writer()
    models = {name: fake_model(tmp_path / name) for name in ("base", "candidate")}
    found = evaluate(models, tmp_path / "cache", passages={"a": ("A page.",)})
    duel = Duel(question_id="q", first="base", second="candidate", winner="tie", orders=("A", "A"))
    named = found.model_copy(update={"duels": (duel,)}).renamed("candidate", "release 1")
    assert list(named.models.items()) == [("base", found.models["base"]), ("release 1", found.models["candidate"])]
    assert named.answers["release 1"] == found.answers["candidate"]
    assert named.open_book["release 1"] == found.open_book["candidate"]
    assert (named.duels[0].first, named.duels[0].second) == ("base", "release 1")


OPTIONS = [
    Question.new("a", "Which wood?", ("oak",), ("larch", "oak")),
    Question.new("a", "Which oil?", ("herring",), ("herring", "rape")),
    Question.new("a", "Which year?", ("1702",), ("1702", "1703")),
]


def test_the_likeliest_option_is_the_answer_and_options_are_tried_once(tmp_path: Path, writer):
    base, cache = {"base": fake_model(tmp_path / "base")}, tmp_path / "cache"
    new = writer()
    found = evaluate(base, cache, questions=OPTIONS)
    assert found.settings.choice == "likelihood"
    answers = [found.answers["base"][question.id] for question in OPTIONS]
    assert [(answer.text, answer.correct, answer.exact, answer.f1) for answer in answers] == [
        ("oak", True, True, 1.0),
        ("rape", False, False, 0.0),
        ("1702", True, True, 1.0),  # of equals the first
    ]
    assert (new.tried[:2], new.asked) == (["Which wood? larch", "Which wood? oak"], [])
    again = writer()
    assert evaluate(base, cache, questions=OPTIONS) == found
    assert again.loads == 0


def test_options_that_were_tried_before_a_kill_are_not_tried_again(tmp_path: Path, writer):
    base, cache = {"base": fake_model(tmp_path / "base")}, tmp_path / "cache"
    writer(dies_at=4)  # one question is whole, of the second one option is known
    with pytest.raises(KeyboardInterrupt):
        evaluate(base, cache, questions=OPTIONS)
    new = writer()
    evaluate(base, cache, questions=OPTIONS)
    assert len(new.tried) == 4


def test_nothing_is_asked_twice(tmp_path: Path, writer):
    base, cache = fake_model(tmp_path / "base"), tmp_path / "cache"
    writer()
    first = evaluate({"base": base}, cache)
    later = fake_model(tmp_path / "release", b"other weights")
    new = writer()
    both = evaluate({"base": base, "release 1": later}, cache)
    assert both.answers["base"] == first.answers["base"]
    assert new.asked == [question.question for question in QUESTIONS]  # the release's, not the base's
    assert both.answers["release 1"][QUESTIONS[0].id].text == "answer 0 of release"


def test_an_interrupted_evaluation_goes_on(tmp_path: Path, writer):
    base, cache = fake_model(tmp_path / "base"), tmp_path / "cache"
    writer(dies_at=9)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"base": base}, cache)
    new = writer()
    found = evaluate({"base": base}, cache)
    assert new.asked == [question.question for question in QUESTIONS[8:]]  # each batch, here of one, is saved at once
    assert found.rate("base", "b").correct == 6


def test_other_settings_are_other_answers(tmp_path: Path, writer):
    base, cache = fake_model(tmp_path / "base"), tmp_path / "cache"
    new = writer()
    evaluate({"base": base}, cache)
    prompted = Config.model_validate({"student": {"system_prompt": "Be brief."}, "eval": {"max_new_tokens": 4}})
    evaluate({"base": base}, cache, prompted)
    longer = Config.model_validate({"eval": {"max_new_tokens": 5}})
    evaluate({"base": base}, cache, longer)
    assert len(new.asked) == 3 * len(QUESTIONS)
    assert new.system == ["Be brief."] * len(QUESTIONS)


def test_answers_of_another_number_format_are_others(tmp_path: Path, writer, monkeypatch: pytest.MonkeyPatch):
    base, new = {"base": fake_model(tmp_path / "base")}, writer()
    for kind in ("float32", "bfloat16", "float32"):
        monkeypatch.setattr(answering, "computed_in", lambda kind=kind: {"device": "cpu", "dtype": kind})
        evaluate(base, tmp_path / "cache")
    assert len(new.asked) == 2 * len(QUESTIONS)


def test_mended_accepted_answers_are_scored_without_asking(tmp_path: Path, writer):
    base, cache = fake_model(tmp_path / "base"), tmp_path / "cache"
    wrong = [Question.new("a", "What is a 1?", ("something else",))]
    mended = [Question.new("a", "What is a 1?", ("something else", "answer 1"))]
    new = writer()
    assert evaluate({"base": base}, cache, questions=wrong).rate("base", "a").correct == 0
    assert evaluate({"base": base}, cache, questions=mended).rate("base", "a").correct == 1
    assert len(new.asked) == 1


def test_one_question_of_two_leaves_is_asked_once(tmp_path: Path, writer):
    new = writer()
    twice = [Question.new(leaf, "What is a 1?", ("answer 1",)) for leaf in ("a", "b")]
    found = evaluate({"base": fake_model(tmp_path / "base")}, tmp_path / "cache", questions=twice)
    assert len(new.asked) == 1
    assert [found.rate("base", leaf).correct for leaf in ("a", "b")] == [1, 1]


def test_a_torn_line_is_asked_again_and_a_broken_one_is_told(tmp_path: Path):
    cache = AnswerCache(tmp_path, "model", SETTINGS)
    cache.add({"one?": "1", "two?": "line\nline\u2028line"})
    (file,) = tmp_path.iterdir()
    with file.open("a") as append:
        append.write('{"question": "three?", "ans')
    again = AnswerCache(tmp_path, "model", SETTINGS)
    assert ("two?" in again, again["two?"], "three?" in again) == (True, "line\nline\u2028line", False)
    again.add({"three?": "3"})
    assert AnswerCache(tmp_path, "model", SETTINGS)["three?"] == "3"
    file.write_text('{"question": 1}\n' + file.read_text())
    with pytest.raises(DataError, match=r"jsonl:1: not an answer of the cache; remove the file"):
        AnswerCache(tmp_path, "model", SETTINGS)
    file.write_text('{"question": "q", "answer": null}\n')
    with pytest.raises(DataError, match=r"jsonl:1: not an answer of the cache; remove the file"):
        AnswerCache(tmp_path, "model", SETTINGS)


def test_a_fingerprint_follows_what_the_model_computes(tmp_path: Path):
    memory = tmp_path / "files.json"
    one, same = fake_model(tmp_path / "one"), fake_model(tmp_path / "same")
    first = model_fingerprint(one, memory)
    (one / "README.md").write_text("lineage")
    assert first == model_fingerprint(one, memory) == model_fingerprint(same, memory)
    (same / "tokenizer.json").write_text("{}")
    second = model_fingerprint(same, memory)
    assert second != first
    (same / "vocab.txt").write_text("a")
    assert model_fingerprint(same, memory) not in {first, second}
    (one / "model.safetensors").write_bytes(b"W")
    os.utime(one / "model.safetensors", ns=(1, 1))
    assert model_fingerprint(one, memory) != first


def test_hashes_are_remembered(tmp_path: Path):
    memory, one = tmp_path / "files.json", fake_model(tmp_path / "one")
    first = model_fingerprint(one, memory)
    stamp = (one / "model.safetensors").stat()
    (one / "model.safetensors").write_bytes(b"X")  # unseen: same size, and the time is put back
    os.utime(one / "model.safetensors", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert model_fingerprint(one, memory) == first
    for broken in ("", "[]", '{"a": 1}', '{"a": {"stamp": [1], "sha256": ""}}'):
        memory.write_text(broken)
        assert model_fingerprint(one, memory) != first
    memory.unlink()
    assert model_fingerprint(one, memory) != first


def test_a_folder_without_weights(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no \*\.safetensors here"):
        model_fingerprint(tmp_path, tmp_path / "files.json")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with a word-level tokenizer and a chat template."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<end>", "user", "assistant", *"abcdefghijklmnopqrstuvwxyz0123456789?", "What", "is"]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="<end>", pad_token="<end>",
        chat_template="{% for m in messages %}{{ m.role }} {{ m.content }} <end> {% endfor %}assistant ",
    )  # fmt: skip
    torch.manual_seed(3)
    shape = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny")
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_real_model_answers_once_and_then_without_torch(tmp_path: Path, tiny_model: Path):
    cache = tmp_path / "cache"
    first = evaluate({"tiny": tiny_model}, cache)
    assert len(first.answers["tiny"]) == len(QUESTIONS)
    assert any(answer.text for answer in first.answers["tiny"].values())
    (tmp_path / "questions.jsonl").write_text("".join(question.model_dump_json() + "\n" for question in QUESTIONS))
    script = """
import sys
from pathlib import Path
sys.modules["torch"] = sys.modules["transformers"] = None
from tilth.core.config import Config
from tilth.core.jsonl import read_records
from tilth.core.progress import SilentProgress
from tilth.core.records import Question
from tilth.eval.answering import Answering
from tilth.eval.run import evaluate
here, model = map(Path, sys.argv[1:])
config = Config.model_validate({"eval": {"max_new_tokens": 4, "batch_size": 16}})
questions = list(read_records(here / "questions.jsonl", Question))
by = Answering(config, here / "cache", here / "ledger.db", SilentProgress())
found = evaluate({"tiny": model}, questions, by)
print(found.model_dump_json())
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(tiny_model)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Evaluation.model_validate_json(result.stdout) == first


def test_models_keep_their_order_on_disk(tmp_path: Path) -> None:
    settings = Settings(system_prompt="", max_new_tokens=1, max_new_tokens_judged=1, choice="letter")
    models = {"base": "1", "release 1": "2", "candidate": "3"}
    found = Evaluation(settings=settings, models=models, questions=(), answers={name: {} for name in models})
    write_json(tmp_path / "eval.json", found.model_dump(mode="json"))
    again = Evaluation.model_validate(read_json(tmp_path / "eval.json"))
    assert again == found
    assert list(again.models) == list(models)
    with pytest.raises(ValidationError, match="no pairs of a model's name"):
        Evaluation.model_validate(found.model_dump() | {"models": 3})
