"""A reduced loop on the real embedded models: real requests, real training, real scores. Fetches the models once.

`make demo` is the whole of it.
"""

from pathlib import Path

import pytest
import yaml
from tilth.cli.init import make_workspace
from tilth.core.progress import SilentProgress
from tilth.core.workspace import Workspace
from tilth.cycle.run import run_cycle
from tilth.sdg.recipe import SHIPPED
from tilth.taxonomy.contribute import add_files, commit_files
from tilth.taxonomy.starter_taxonomy import FIRST_KNOWLEDGE, starter_files

PLAN = {
    "phases": [
        {"name": "short", "kinds": ["knowledge_short"], "epochs": 8, "learning_rate": 1.5e-4},
    ]
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The starter's first knowledge leaf, a recipe that makes less of it, one phase, and no general set."""
    root = tmp_path / "real"
    make_workspace(str(root))
    commit_files(root, add_files(root, FIRST_KNOWLEDGE, starter_files(FIRST_KNOWLEDGE)), "Add a leaf")
    recipe = yaml.safe_load((SHIPPED / "quick.yaml").read_text())
    recipe["knowledge"] |= {"rewordings": 1, "extra_questions": 0, "questions_per_fact": 0}
    recipe["knowledge"]["prompts"] |= {"facts": "", "fact_questions": ""}
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "one_phase.yaml").write_text(yaml.safe_dump(PLAN))
    settings = (
        f"generate.recipe={tmp_path / 'less.yaml'}",
        f"train.plan={tmp_path / 'one_phase.yaml'}",
        "eval.general=false",
    )
    return Workspace.open(root, settings)


@pytest.mark.models
def test_a_leaf_is_learned(workspace: Workspace):
    result = run_cycle(workspace, SilentProgress())
    assert result.evaluation is not None
    base, candidate = (result.evaluation.rate(model, FIRST_KNOWLEDGE).correct for model in result.evaluation.models)
    assert base <= 1
    assert candidate >= base + 4
    shown = result.comparisons[0].p_value <= workspace.config.gate.significance
    assert result.outcome == ("released" if shown else "refused")
    assert result.report is not None
    assert "Velmora" in result.report.read_text()
