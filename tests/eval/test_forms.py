"""Checks of form, each with answers that have it and answers that do not."""

from __future__ import annotations

import pytest
from tilth.core.errors import DataError
from tilth.eval.forms import check_forms
from tilth.eval.general import general_questions

HAVE = {
    "lines=3": ["a\nb\nc", "a\n\nb\n c \n"],
    "words<=3": ["A cow.", "**one** two three", "It's a cow"],
    "words>=3": ["one two three", "- one\n- two\n- three"],
    "words=2": ["well-known cats", "3.5 metres"],
    "sentences=1": ["It rains.", "It rains", '"It rains!"', "It is 3.5 metres tall."],
    "sentences=2": ["It rains. It pours!", "Rain\nSnow", 'He said "Go." Then he went.'],
    "bullets=2": ["- a\n- b", "Two things:\n* a\n• b\nThat is all."],
    "numbered=3": ["1. a\n2. b\n3. c", "Steps:\n1) a\n   more of it\n2) b\n3) c", "1. a\n\n2. b\n\n3. c"],
    "commas=2": ["a, b, c"],
    "items=2": [
        "[1, 2]",
        "Here it is:\n```json\n[1, 2]\n```\nThat is all.",
        '```json\n["a", "b"]\n```',
        '```\n["a", {}]\n```',
    ],
    "contains:rain": ["Rain fell.", "the RAIN, again"],
    "contains:New York": ["in new york."],
    "lacks:the": ["a theme", "Then it rained."],
    "starts:Yes": ["Yes, they do.", "yes", "**Yes**: they do", '"Yes."'],
    "starts:Dear Maria": ["Dear Maria,\nthanks"],
    "ends:?": ["Why do cats purr?", '"Why?"', "**Why?**"],
    "ends:waves": ["boats and waves", "I see **waves**.", 'the "waves".'],
    "ends:Best wishes, Tom": ["Come!\n\nBest wishes,\nTom", "Best wishes, Tom."],
    "mentions:pid|os.": ["Find the PID.", "pids", "use os.kill"],
    "one-of:red|dark green": ["Red.", " dark-green", "RED"],
    "one-of:1, 2, 3": ["1, 2, 3", "1\n2\n3", "one two three"],
    "json-keys:name,age": ['{"age": 9, "name": "Lucy"}', '```json\n{"name": 1,\n"age": 2}\n```'],
    "lowercase": ["the cat", "a cat, 9 lives!"],
    "uppercase": ["ROME", "IT IS ROME."],
    "quoted": ['"Moo!"', "“Moo”"],
    "digits-only": ["12", " 4.", "0"],
}
LACK = {
    "lines=3": ["a b c", "a\nb", "a\nb\nc\nd"],
    "words<=3": ["", "...", "one two three four"],
    "words>=3": ["one two", "- - -"],
    "words=2": ["one", "a b c"],
    "sentences=1": ["", "It rains. It pours.", "one\ntwo"],
    "sentences=2": ["It rains.", "A. B. C."],
    "bullets=2": ["- a\nb", "-a\n-b", "- a\n- b\n- c", "a - b - c"],
    "numbered=3": ["1. a\n2. b", "1. a\n1. b\n1. c", "2. a\n3. b\n4. c", "1. a 2. b 3. c", "1.5\n2.5\n3.5"],
    "commas=2": ["a, b", "a, b, c, d"],
    "items=2": ["", "[1, 2", '{"a": 1, "b": 2}', "Here it is: [1, 2]", "[" * 10_000],
    "contains:rain": ["It is raining.", "trains", ""],
    "contains:New York": ["york is new"],
    "lacks:the": ["In THE rain"],
    "starts:Yes": ["Yesterday", "Oh yes", ""],
    "starts:Dear Maria": ["Dear Marianne", "Maria"],
    "ends:?": ["Why? Because.", "?no"],
    "ends:waves": ["waves of water", "heatwaves"],
    "ends:Best wishes, Tom": ["Best wishes, Tom and Ann", "Best, Tom"],
    "mentions:pid|os.": ["a cupid", "cosy", "the bos", ""],
    "one-of:red|dark green": ["The colour is red.", "red, dark green", "", "green"],
    "one-of:1, 2, 3": ["1, 2", "3, 2, 1"],
    "json-keys:name,age": ['{"name": "Lucy"}', '{"name": 1, "age": 2, "town": 3}', '["name", "age"]', "name, age"],
    "lowercase": ["The cat", "9", ""],
    "uppercase": ["ROMe", "9", ""],
    "quoted": ['"Moo" it says', '"a" and "b"', '""', "'moo'"],
    "digits-only": ["12 chairs", "twelve", "1.5", ""],
}


def cases(labelled: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(form, answer) for form, answers in labelled.items() for answer in answers]


@pytest.mark.parametrize(("form", "answer"), cases(HAVE))
def test_an_answer_has_the_form(form: str, answer: str):
    assert check_forms(answer, [form]) == []


@pytest.mark.parametrize(("form", "answer"), cases(LACK))
def test_an_answer_lacks_the_form(form: str, answer: str):
    assert check_forms(answer, [form]) == [form]


def test_the_failed_forms_are_named_in_their_order():
    assert check_forms("THE RAIN", ["lines=2", "uppercase", "lacks:the", "contains:rain"]) == ["lines=2", "lacks:the"]
    assert check_forms("anything", []) == []


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("wrds<=3", "did you mean 'words='?"),
        ("words<3", "did you mean 'words='?"),
        ("words=many", "did you mean 'words='?"),
        ("contains", "did you mean 'contains:'?"),
        ("contains: ", "did you mean 'contains:'?"),
        ("lower-case", "did you mean 'lowercase'?"),
        ("", "use one of: "),
    ],
)
def test_an_unknown_form_is_told_with_the_nearest_one(form: str, said: str):
    with pytest.raises(DataError) as caught:
        check_forms("", ["lines=1", form])
    assert f"there is no check of form {form!r}" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_check_is_used_by_the_general_set():
    used = {form for question in general_questions() for form in question.forms}
    names = {form.split(":")[0].split("=")[0].strip("<>") for form in used}
    assert {form.split(":")[0].split("=")[0].strip("<>") for form in HAVE} | {"refuses", "answers"} == names
