from pathlib import Path

import pytest
from tilth.core.atomic import read_json
from tilth.core.errors import DataError
from tilth.cycle.stages import TIMES, timed


def test_time_adds_up_over_runs_whatever_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.04, 10.0, 13.0, 20.0, 21.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with timed(tmp_path, "samples"):
        pass
    with pytest.raises(KeyboardInterrupt), timed(tmp_path, "samples"):
        raise KeyboardInterrupt
    with timed(tmp_path, "training"):
        pass
    assert read_json(tmp_path / TIMES) == {"samples": 5.0, "training": 1.0}


def test_a_broken_file_of_times_is_told(tmp_path: Path) -> None:
    (tmp_path / TIMES).write_text('{"samples": "long"}')
    with pytest.raises(DataError, match="not the times that were written"), timed(tmp_path, "samples"):
        pass
