"""Answers heard piece by piece: the same as evaluation's, each row of a batch with its own dice, length and stops."""

import pytest
from tilth.core.records import Message
from tilth.llm import local, streaming
from tilth.llm.streaming import Answering, Sampling, StreamingModel

TEXTS = ["short", "a rather long question about nothing in particular, really", "x"]


@pytest.fixture(scope="module")
def model(tiny_model):
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "compute_dtype", lambda: torch.float32)
        yield StreamingModel(tiny_model)


def answer(model, *asked):
    """Each answer in its pieces, and how it ended."""
    heard = [[] for _ in asked]
    together = [
        Answering(model.prompt([Message(role="user", content=text)]), sampling, pieces.append)
        for (text, sampling), pieces in zip(asked, heard, strict=True)
    ]
    model.answer(together)
    assert all("".join(pieces) == each.said for each, pieces in zip(together, heard, strict=True))
    return together, heard


@pytest.mark.slow
def test_what_is_heard_is_what_evaluation_sees(model, tiny_model, progress):
    together, heard = answer(model, *[(text, Sampling(max_tokens=12)) for text in TEXTS])
    conversations = [[Message(role="user", content=text)] for text in TEXTS]
    whole = local.generate(tiny_model, conversations, max_new_tokens=12, batch_size=3, progress=progress)
    assert [each.said for each in together] == [each.text for each in whole]
    assert any(len(pieces) > 1 for pieces in heard)


def test_each_row_has_its_own_length_dice_and_stops(model):
    (plain,), _ = answer(model, (TEXTS[0], Sampling(max_tokens=12)))
    stop = plain.said[3:5]
    rows = [Sampling(max_tokens=12), Sampling(max_tokens=3), Sampling(max_tokens=12, stop=(stop,))]
    dice = [Sampling(max_tokens=12, temperature=1.5, top_p=0.9, seed=seed) for seed in (1, 1, 2)]
    together, _ = answer(model, *[(TEXTS[0], sampling) for sampling in (*rows, *dice)])
    assert together[0].said == plain.said
    assert (together[1].finish, len(together[1].tokens)) == ("length", 3)
    assert (together[2].finish, together[2].said) == ("stop", plain.said[: plain.said.index(stop)].rstrip())
    drawn = [each.said for each in together[3:]]
    assert drawn[0] == drawn[1]
    assert drawn[0] not in {drawn[2], plain.said}


def test_the_likeliest_token_stays_however_small_the_nucleus_is(model):
    (plain, drawn), _ = answer(
        model, (TEXTS[1], Sampling(max_tokens=8)), (TEXTS[1], Sampling(max_tokens=8, temperature=2.0, top_p=1e-6))
    )
    assert drawn.said == plain.said


def test_an_answer_that_nobody_hears_ends(model):
    prompt = model.prompt([Message(role="user", content="x")])
    said = []
    each = Answering(prompt, Sampling(max_tokens=500), lambda piece: (said.append(piece), each.cancel()))
    model.answer([each])
    assert (each.finish, len(said)) == ("cancelled", 1)


def spoken(tokens, opening="", stop=(), ends=(99,)):
    """What is heard of a text, token by token; each token is one character, given by its place in an alphabet."""
    pieces = []
    each = Answering([], Sampling(max_tokens=50, stop=stop), pieces.append)
    for token in range(len(tokens)):
        if not each.finish:
            each.add(token, lambda numbers: "".join(tokens[number] for number in numbers), opening, ends)
    if not each.finish:
        each.add(99, lambda numbers: "".join(tokens[number] for number in numbers if number != 99), opening, ends)
    return pieces


def test_pieces_are_sure_to_stay():
    assert spoken(["\n", "a", " ", "b", " "]) == ["a", " b"]
    assert spoken(["a", "\ufffd"]) == ["a", "\ufffd"]  # it was half a character to the end
    assert spoken(["<", "th", ">", "yes"], opening="<th>") == ["yes"]
    assert spoken(["a", "E", "N", "D", "b"], stop=("END",)) == ["a"]
    assert spoken(["a", "E", "N", "O"], stop=("END",)) == ["a", "ENO"]
    assert spoken(["a", "bENDc"], stop=("END", "NDc")) == ["a", "b"]


def test_overlap():
    assert streaming._overlap("abcEN", "END") == 2
    assert streaming._overlap("END", "END") == 0
    assert streaming._overlap("", "END") == 0


@pytest.mark.parametrize(
    "sampling", [{"temperature": 1e-45}, {"temperature": 1e-320}, {"temperature": 1.0, "top_p": 1e-320}]
)
def test_the_smallest_numbers_draw_the_likeliest_token_and_harm_nobody(model, sampling):
    asked = [Sampling(max_tokens=8), Sampling(max_tokens=8, **sampling)]
    (plain, drawn), _ = answer(model, *[(TEXTS[1], each) for each in asked])
    assert drawn.said == plain.said


def test_a_long_one_and_a_short_one_do_not_lead_each_other_beyond_the_context(learned_positions):
    model = StreamingModel(learned_positions)
    asked = [("x" * 20, Sampling(max_tokens=2)), ("x", Sampling(max_tokens=40)), ("y", Sampling(max_tokens=9))]
    assert len(model.prompt([Message(role="user", content="x" * 20)])) + 40 > model.context_tokens == 64
    together, _ = answer(model, *asked)
    for each, alone in zip(together, asked, strict=True):
        assert each.tokens == answer(model, alone)[0][0].tokens
