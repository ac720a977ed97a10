from tilth.core.workspace import Workspace
from tilth.cycle.held_out_questions import held_out_questions
from tilth.eval.general import general_questions
from tilth.taxonomy.source import CommitTree
from tilth.taxonomy.tree import read_leaves

from ..loop import Loop


def test_people_s_questions_and_the_general_set_where_it_is_asked_for(turned_once: Loop) -> None:
    leaves = read_leaves(CommitTree(turned_once.root, "HEAD"))
    written = [question for leaf in leaves for question in leaf.questions]
    assert held_out_questions(turned_once.workspace, leaves) == written
    general = Workspace.open(turned_once.root, ("eval.general=true",))
    assert held_out_questions(general, leaves) == [*written, *general_questions()]
