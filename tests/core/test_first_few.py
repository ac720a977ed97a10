from tilth.core.first_few import first_few


def test_many_names_are_one_line() -> None:
    assert first_few(["a"]) == "a"
    assert first_few(list("abcde")) == "a, b, c, d, e"
    assert first_few([str(number) for number in range(1205)]) == "0, 1, 2, 3, 4 and 1,200 more"
