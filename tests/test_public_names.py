"""What `import tilth` gives: these names and no others, each the thing that its room defines."""

from __future__ import annotations

import pytest
import tilth

NAMES = {
    *("Workspace", "Progress", "SilentProgress", "Budget"),
    *("TilthError", "CheckFailed", "ConfigError", "DataError", "ModelError", "TaxonomyError"),
    *("Changes", "CycleResult", "Evaluation", "Finding", "Release"),
    *("Preference", "Question", "Reject", "Sample"),
    "__version__",
}


def test_these_names_are_public() -> None:
    assert set(tilth.__all__) == NAMES == set(dir(tilth))


def test_each_is_what_it_says() -> None:
    for name in NAMES - {"__version__"}:
        found = getattr(tilth, name)
        assert found.__name__ == name
        assert found.__module__.startswith("tilth.")
        assert found.__doc__


def test_another_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Wrokspace'"):
        _ = tilth.Wrokspace
