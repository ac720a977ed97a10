import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tilth.llm.schema import mismatch
from tilth.llm.scripted import serve_scripted
from tilth.llm.scripted_answers import answer

TEXT = "The lighthouse of Velmora stands on Ostrin Point. Tamsin Okele built it in 1871 from grey stone."


def request_for(text=TEXT, schema=None, seed=1):
    request = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "seed": seed,
    }
    if schema:
        request["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return request


def scripted(schema, text=TEXT, seed=1, share=0.0):
    return json.loads(answer(request_for(text, schema, seed), share))


def object_of(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


STRING = {"type": "string"}
schemas = st.recursive(
    st.one_of(
        st.just(STRING),
        st.builds(
            lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-5, 5)),
        st.just({"type": "number"}),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({"type": "string", "enum": ["yes", "no"]}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda items, low: {"type": "array", "items": items, "minItems": low}, inner, st.integers(0, 4)),
        st.dictionaries(st.sampled_from(["question", "answer", "facts"]), inner).map(lambda parts: object_of(**parts)),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(schema=schemas, text=st.text())
def test_scripted_answers_fit_their_schema(schema, text):
    assert mismatch(scripted(schema, text), schema) == ""


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        (True, {"type": "integer"}, "the answer is bool, not integer"),
        ("maybe", {"enum": ["yes", "no"]}, "'maybe', not one of"),
        ([1, "2"], {"type": "array", "items": {"type": "integer"}}, "the answer[1] is str"),
        ([], {"type": "array", "minItems": 1}, "less than 1"),
        ({"a": {}}, object_of(a=object_of(b=STRING)), "the answer.a lacks 'b'"),
        ("abc", {"type": "string", "maxLength": 2}, "more than 2"),
        (9, {"type": "integer", "maximum": 5}, "9, more than 5"),
    ],
)
def test_what_does_not_fit_is_told(value, schema, problem):
    assert problem in mismatch(value, schema)


def test_strings_differ_by_place_prompt_and_seed_and_are_repeatable():
    schema = object_of(facts={"type": "array", "items": STRING, "minItems": 12})
    first = scripted(schema)
    assert first == scripted(schema)
    assert len(set(first["facts"])) == 12
    assert set(first["facts"]).isdisjoint(scripted(schema, text=TEXT + " It is tall.")["facts"])
    assert first != scripted(schema, seed=2)


def test_grades_differ_and_keep_to_their_bounds():
    grade = {"type": "integer", "minimum": 1, "maximum": 10}
    grades = [scripted(object_of(grade=grade), seed=seed)["grade"] for seed in range(100)]
    assert set(grades) == set(range(1, 11))
    assert grades[7] == scripted(object_of(grade=grade), seed=7)["grade"]


def test_questions_end_with_a_question_mark_and_come_from_the_prompt():
    pair = scripted(object_of(question=STRING, questions={"type": "array", "items": STRING}, answer=STRING))
    assert pair["question"].endswith("?")
    assert pair["questions"][0].endswith("?")
    assert pair["answer"].endswith(".")
    words = set(TEXT.lower().replace(".", "").split())
    assert set(pair["answer"].lower().rstrip(".").split()) <= words


def test_the_second_choice_has_its_share():
    schema = object_of(grade={"enum": ["yes", "no"]})
    grades = [scripted(schema, seed=seed, share=0.25)["grade"] for seed in range(400)]
    assert 60 < grades.count("no") < 140
    assert {scripted(schema, seed=seed)["grade"] for seed in range(50)} == {"yes"}


def post(url, body, path="/chat/completions"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data)) as response:
        return json.loads(response.read())


def test_it_speaks_the_protocol():
    with serve_scripted(rates={"503": 0.0}) as url:
        root = url.removesuffix("/v1")
        reply = post(url, request_for())
        assert reply["choices"][0]["finish_reason"] == "stop"
        assert reply["usage"]["prompt_tokens"] == len(TEXT.split()) + 2
        for path in ("/health", "/v1/models", "/stats"):
            with urllib.request.urlopen(root + path) as response:
                assert json.loads(response.read())
        for body in (b"{", b"[]", b"{}"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(url, body)
            assert caught.value.code == 400
            caught.value.close()
        assert url.stats().requests == 4


@pytest.mark.slow
def test_rates_are_kept_and_repeatable():
    def faults():
        with serve_scripted(rates={"garbage": 0.3, "empty": 0.2}) as url:
            for number in range(60):
                post(url, request_for(str(number)))
            return url.stats().faults

    first = faults()
    assert first == faults()
    assert 8 < first["garbage"] < 30
    assert 3 < first["empty"] < 24


def test_a_text_that_it_always_chokes_on():
    with serve_scripted(always={"lighthouse of Velmora": "500"}) as url:
        post(url, request_for("The mill."))
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(url, request_for())
            caught.value.close()
        assert (url.stats().answers, url.stats().faults) == (1, {"500": 2})


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="no fault '501'"), serve_scripted(script=("501",)):
        pass


def test_it_runs_as_a_program():
    command = [sys.executable, "-m", "tilth.llm.scripted", "--script", "empty", "--rate", "garbage=1.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        url = child.stdout.readline().strip()
        texts = [post(url, request_for())["choices"][0]["message"]["content"] for _ in range(2)]
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert texts == ["", "I would rather not."]
