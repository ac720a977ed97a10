"""A candidate that was refused while the judge left something unanswered, and the same command again."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tilth.core.atomic import read_json
from tilth.core.progress import SilentProgress
from tilth.cycle.explain import explain_cycle
from tilth.llm.scripted import serve_scripted

from ..loop import SKILL, Spawner, Teacher, make_loop, skill_files

HASTY = "import tilth.llm.ask as ask; ask.Gateway.__init__.__kwdefaults__['retries'] = ask.Retries(first_wait_s=0.01)"
REVERSED = "Done: the word is now written from its last letter to its first, as you asked me to do."


@pytest.mark.slow  # examines a student twice
def test_what_the_judge_left_unanswered_is_asked_again_and_the_candidate_judged_anew(
    tmp_path: Path, teacher: Teacher, tiny_student: Path, spawner: Spawner
) -> None:
    loop = make_loop(tmp_path / "taxonomy", teacher, tiny_student)
    qna = yaml.safe_load(skill_files()["qna.yaml"])
    asked = [f"Turn {word} around and say in one sentence what you did." for word in ("ivy", "oak", "fir")]
    qna["test_questions"] = [{"question": question, "answer": REVERSED} for question in asked]
    loop.commit(SKILL, {"qna.yaml": yaml.safe_dump(qna)})
    (loop.root / "plan.yaml").write_text("phases: [{name: all, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]")
    assert spawner.run(loop.root, "generate").code == 0
    folder = loop.state / "cycles/0001"

    def cycle(**faults: dict[str, str]) -> tuple[int, str, int]:
        """Exit code and lines of `tilth cycle`, and how often the judge was asked."""
        with serve_scripted(**faults) as url:
            loop.configure(judge={"model": "scripted", "base_url": str(url)})
            ran = spawner.run(loop.root, "cycle", before=HASTY)
            return ran.code, ran.out + ran.err, url.stats().requests

    code, said, _ = cycle(always={"Turn oak around": "500"})
    assert code == 1
    left = read_json(folder / "done.json")["unanswered"]
    assert left in {1, 2}  # one for each model, unless both say the same
    assert f"{left} request{'s' if left > 1 else ''} to the judge got no answer: the same command asks again" in said
    assert "The judge could not grade 1 of 3 answers of candidate" in said
    stages = {each.stage: (each.runs, each.why) for each in explain_cycle(loop.workspace, SilentProgress()).stages}
    assert stages["evaluate"] == (True, f"asks the judge again what got no answer ({left})")
    assert not stages["generate"][0]
    assert not stages["train all"][0]
    verdict = read_json(folder / "judgement.json")["verdict"]

    code, said, requests = cycle()
    assert (code, requests) == (1, left)
    assert "phase all: done already" in said
    assert "The judge could not grade" not in said
    assert read_json(folder / "judgement.json")["verdict"] != verdict
    assert read_json(folder / "done.json")["unanswered"] == 0

    assert cycle()[2] == 0
    assert explain_cycle(loop.workspace, SilentProgress()).stages == ()
    assert not (loop.state / "cycles/0002").exists()
