from __future__ import annotations

from dataclasses import replace

from tilth.core.fingerprint import text_sha256
from tilth.llm.ledger import Entry, now
from tilth.llm.ledger_report import Usage, count, faults, usage

FIRST, LATER = "2026-01-01T00:00:00.000000+00:00", "2026-01-02T00:00:00.000000+00:00"


def make_entry(key, leaf="a", created_at=FIRST):
    return Entry(key, leaf, "facts", "m@1", "{}", "{}", 10, 5, created_at, 0.5)


def test_usage_is_told_by_leaf_step_model_and_time(ledger):
    ledger.put(make_entry("k1", created_at=LATER))
    ledger.put(make_entry("k2"))
    ledger.put(replace(make_entry("k3"), model="other"))
    start = now()
    ledger.put(make_entry("k4", "b", now()))
    assert usage(ledger, leaf="a") == [
        Usage("a", "facts", "m@1", 2, 20, 10, 1.0, FIRST, LATER),
        Usage("a", "facts", "other", 1, 10, 5, 0.5, FIRST, FIRST),
    ]
    assert [use.leaf for use in usage(ledger)] == ["a", "a", "b"]
    assert count(ledger) == 4
    assert count(ledger, since=start) == count(ledger, leaf="b") == count(ledger, leaf="b", since=start) == 1
    assert count(ledger, leaf="a", since=start) == 0


def test_what_is_wrong_in_the_file_is_found(ledger):
    good = make_entry(text_sha256("{}"))
    ledger.put(good)
    assert faults(ledger) == []
    ledger.put(replace(good, key="k2"))
    [fault] = faults(ledger)
    assert "1, such as k2" in fault
