from pathlib import Path

import pytest
from tilth.core.atomic import read_json
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


@pytest.mark.parametrize("broken", ['{"samples": "long"}', '{"samp', ""])
def test_a_broken_file_of_times_stops_nothing(tmp_path: Path, broken: str) -> None:
    (tmp_path / TIMES).write_text(broken)
    with timed(tmp_path, "samples"):
        pass
    assert read_json(tmp_path / TIMES).keys() == {"samples"}


def test_what_stopped_the_block_is_told_though_its_time_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / TIMES).mkdir()
    with pytest.raises(OSError, match="the ledger"), timed(tmp_path, "samples"):
        raise OSError(28, "No space left on device", "the ledger")
    with pytest.raises(OSError, match=TIMES), timed(tmp_path, "samples"):
        pass
