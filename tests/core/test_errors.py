"""core/errors: one line that says where, what, and what to do."""

from __future__ import annotations

from tilth.core.errors import CheckFailed, ConfigError, TilthError, nearest


def test_the_text_is_one_line() -> None:
    error = ConfigError("no\n such  file", where="a.yaml:1:2", fix="add it")
    assert str(error) == "a.yaml:1:2: no such file; add it"
    assert str(TilthError("stopped")) == "stopped"


def test_only_a_check_that_said_no_exits_with_one() -> None:
    assert (TilthError("x").exit_code, CheckFailed("x").exit_code) == (2, 1)


def test_the_nearest_name_or_all_of_them() -> None:
    assert nearest("modle", ["model", "seed"]) == "did you mean 'model'?"
    assert nearest("zzz", ["seed", "model"]) == "use one of: model, seed"
