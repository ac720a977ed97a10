"""What `import tilth` gives: these names and no others, each the thing that its room defines."""

from __future__ import annotations

import inspect
import re

import pytest
import tilth

NAMES = {
    *("Workspace", "Progress", "SilentProgress", "Budget"),
    *("TilthError", "BudgetSpent", "CheckFailed", "ConfigError", "DataError", "ModelError", "NotComplete"),
    *("TaxonomyError", "Changes", "Conversation", "CycleOutlook", "CycleResult", "Entry", "Evaluation", "Explained"),
    *("Finding", "Forecast", "LeafState", "Prunable", "Release", "ReleaseDiff", "Verified"),
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


def test_whatever_a_method_returns_is_public() -> None:
    """As it is annotated: what is no type of Python's own, by its name."""
    methods = [value for value in vars(tilth.Workspace).values() if inspect.isfunction(value)]
    said = " ".join(str(inspect.signature(method).return_annotation) for method in methods)
    assert set(re.findall(r"[A-Z]\w+", said)) - NAMES == {"Path", "None", "Generator", "Iterator"}


def test_another_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Wrokspace'"):
        _ = tilth.Wrokspace
