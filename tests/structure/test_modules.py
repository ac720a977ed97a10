"""How modules are made: documented, short, quiet, and honest about their public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .conftest import Module

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 80
MAY_PRINT = {"llm/gguf_server.py", "llm/scripted.py"}
"""Beside the command line: the two that run as `python -m` and tell their port."""


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a module's top level, and of its `if TYPE_CHECKING:`."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body


def names_defined(tree: ast.Module) -> set[str]:
    """What a module binds at its top level."""
    names: set[str] = set()
    for node in statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def names_listed(tree: ast.Module) -> list[str] | None:
    """The literal `__all__` of a module, if it has one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def test_every_module_says_what_it_is_for(modules: list[Module]) -> None:
    assert not [str(module.path) for module in modules if not ast.get_docstring(module.tree)]


def test_no_module_is_longer_than_a_reader_bears(modules: list[Module], files: list[PurePosixPath], root: Path) -> None:
    tests = [path for path in files if path.suffix == ".py" and path.parts[0] == "tests"]
    lengths = {path: len((root / path).read_text(encoding="utf-8").splitlines()) for path in tests}
    lengths |= {module.path: len(module.text.splitlines()) for module in modules}
    assert not [f"{path}: {length} lines" for path, length in lengths.items() if length > MAX_FILE_LINES]


def test_no_function_is_longer_than_a_reader_bears(modules: list[Module]) -> None:
    lengths = {
        f"{module.path}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for module in modules
        for function in functions(module.tree)
    }
    assert not {where: length for where, length in lengths.items() if length > MAX_FUNCTION_LINES}


def test_public_names_are_there(modules: list[Module]) -> None:
    """`__all__`, where a module has one, lists names that exist, once each, and no private ones."""
    wrong: list[str] = []
    for module in modules:
        listed = names_listed(module.tree)
        if listed is None:
            continue
        public = {name for name in listed if not name.startswith("_") or name == "__version__"}
        if len(public) < len(listed) or not public <= names_defined(module.tree):
            wrong.append(str(module.path))
    assert not wrong


def test_what_a_package_imports_for_others_is_listed(modules: list[Module]) -> None:
    """An `__init__.py` that takes names from its modules says which in `__all__`."""
    wrong: list[str] = []
    for module in modules:
        takes = any(isinstance(node, ast.ImportFrom) and node.level for node in module.tree.body)
        if module.path.name == "__init__.py" and takes and names_listed(module.tree) is None:
            wrong.append(str(module.path))
    assert not wrong


def test_only_the_command_line_prints(modules: list[Module]) -> None:
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in modules
        if module.room != "cli" and str(module.path) not in MAY_PRINT
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong
