"""Who may import whom: DESIGN, section 2."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from .conftest import Module

ALLOWED = {
    "core": set(),
    "llm": {"core"},
    "taxonomy": {"core"},
    "sdg": {"taxonomy", "llm", "core"},
    "train": {"taxonomy", "llm", "core"},
    "eval": {"taxonomy", "llm", "core"},
    "cycle": {"sdg", "train", "eval", "taxonomy", "llm", "core"},
    "cli": {"cycle", "sdg", "train", "eval", "taxonomy", "llm", "core"},
}
FOR_USERS = ALLOWED["cli"]
"""Where the names come from that the package itself gives."""
HEAVY = {
    "accelerate", "aiohttp", "datasets", "deepspeed", "docling", "gguf", "huggingface_hub", "openai", "peft",
    "safetensors", "tokenizers", "torch", "transformers", "trl", "xllamacpp",
}  # fmt: skip


def rooms_imported(module: Module) -> Iterator[tuple[int, str]]:
    """(line, room) of every relative import, wherever in the file it stands."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        start = module.package[: len(module.package) - node.level + 1]
        base = (*start, *(node.module or "").split(".")) if node.module else start
        for alias in node.names:
            yield node.lineno, (*base, alias.name)[0]


def imported_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, top-level name) of every absolute import below `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, (node.module or "").split(".")[0]


def run_at_import(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements that importing the module runs: not what functions hold, nor `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from run_at_import(node)


def test_every_room_is_known(modules: list[Module]) -> None:
    assert {module.room for module in modules} - {""} == set(ALLOWED)


def test_arrows_point_one_way(modules: list[Module]) -> None:
    wrong = [
        f"{module.path}:{line} imports {room}"
        for module in modules
        for line, room in rooms_imported(module)
        if room in ALLOWED and room != module.room and room not in ALLOWED.get(module.room, FOR_USERS)
    ]
    assert not wrong


def test_imports_inside_the_package_are_relative(modules: list[Module]) -> None:
    names = {"tilth", *ALLOWED}
    wrong = [
        f"{module.path}:{line}" for module in modules for line, name in imported_names(module.tree) if name in names
    ]
    assert not wrong


def test_heavy_libraries_are_imported_inside_functions(modules: list[Module]) -> None:
    wrong = [
        f"{module.path}:{line} imports {name}"
        for module in modules
        for statement in run_at_import(module.tree)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for line, name in imported_names(statement)
        if name in HEAVY
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch", {"torch"}),
        ("try:\n    import torch.nn\nexcept ImportError:\n    pass", {"torch"}),
        ("class A:\n    from trl import SFTTrainer", {"trl"}),
        ("def f():\n    import torch", set()),
        ("class A:\n    def f(self):\n        import torch", set()),
        ("if TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_the_reader_of_imports_sees_what_import_runs(text: str, found: set[str]) -> None:
    statements = [item for item in run_at_import(ast.parse(text)) if isinstance(item, ast.Import | ast.ImportFrom)]
    assert {name for item in statements for _, name in imported_names(item)} == found
