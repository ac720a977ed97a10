"""The text of a leaf's documents.

They are files of the taxonomy itself, of another git repository at a commit, or, where `tilth.yaml` allows it, of a
folder of this machine whose content has a given hash. A contribution names them, so nothing of it is trusted: see
`address.py` for what may be asked, `fetch.py` for how, and `conversion.py` for files that are not text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.config import Documents
from ..core.errors import TaxonomyError
from ..core.fingerprint import bytes_sha256, fingerprint
from ..core.records import Record
from .address import allowed_address, pinned
from .conversion import convert
from .fetch import list_refs
from .formats import TEXT_SUFFIXES, content_problem, suffix_problem
from .globs import matching
from .leaf import DocumentSpec, Leaf, document_files
from .mirror import COMMIT, fetch_commit, mirrored_commit
from .schema import QNA_NAME
from .source import Source, WorkingTree

_PUBLIC_ONLY = Documents()


class Document(Record):
    """One document."""

    path: str
    """Inside the repository or folder that holds it."""
    text: str
    """Every line end is a single newline. Of a `.txt` plain text, of everything else Markdown."""


def load_documents(leaf: Leaf, source: Source, cache: Path, settings: Documents = _PUBLIC_ONLY) -> tuple[Document, ...]:
    """The documents of `leaf`, in the order that it names them; none for a skill.

    `cache` holds a mirror of each other repository and the text of each converted file; what is there is neither asked
    for nor converted again. Raises TaxonomyError: a document is not there, not readable or too large, its repository
    not reachable or not allowed.
    """
    spec = leaf.documents
    if spec is None:
        return ()
    if spec.files:
        return tuple(_document(path, source, cache) for path in document_files(source, leaf.id, spec))
    where = f"{leaf.id}/{QNA_NAME}"
    tree = _tree(spec, cache, settings, where)
    return tuple(_document(path, tree, cache) for path in _named(spec, tree, where))


def mirrored_files(repo: str, commit: str, cache: Path) -> Sequence[str] | None:
    """The files of another repository at a commit, sorted, if it was fetched before; asks nobody."""
    tree = mirrored_commit(repo, commit, cache)
    return None if tree is None else tree.files()


def remote_refs(repo: str, settings: Documents = _PUBLIC_ONLY) -> dict[str, str]:
    """Name of a ref (`HEAD`, `refs/heads/main`, …) -> commit, as the server has it now; by the rules for documents.

    Raises TaxonomyError when it may not be asked or does not answer.
    """
    address = allowed_address(repo, settings, where=repo)
    return list_refs(pinned(address, settings, where=repo), settings)


def _tree(spec: DocumentSpec, cache: Path, settings: Documents, where: str) -> Source:
    address = allowed_address(spec.repo, settings, where=where)
    folder = address.folder
    if folder and not (folder / ".git").exists() and not (folder / "HEAD").is_file():
        return _pinned_folder(folder, spec, where)
    if not COMMIT.fullmatch(spec.commit):
        what = f"{spec.commit!r} is no commit"
        raise TaxonomyError(what, where=where, fix="write the commit's hash; branches and tags move")
    return fetch_commit(address, spec.commit, cache, settings, where=where)


def _pinned_folder(folder: Path, spec: DocumentSpec, where: str) -> WorkingTree:
    """A folder without git has no commits: the hash of the files stands for one, so that a leaf says what they are."""
    tree = WorkingTree(folder)
    paths = _named(spec, tree, where)
    found = fingerprint({path: bytes_sha256(tree.read(path)) for path in paths}, length=40)
    if spec.commit != found:
        what = f"the documents in {folder} are others than when the leaf was written"
        raise TaxonomyError(what, where=where, fix=f"write `commit: {found}` if these are meant")
    return tree


def _named(spec: DocumentSpec, tree: Source, where: str) -> list[str]:
    files = tree.files()
    found = {pattern: matching(pattern, files) for pattern in spec.patterns}
    for pattern in (pattern for pattern, paths in found.items() if not paths):
        what = f"no file matches {pattern!r} in {spec.repo} at {spec.commit[:12]}"
        raise TaxonomyError(what, where=where, fix="mend document.patterns")
    return list(dict.fromkeys(path for paths in found.values() for path in paths))


def _document(path: str, source: Source, cache: Path) -> Document:
    if problem := suffix_problem(path):
        raise _refusal(problem, path)
    data = source.read(path)
    if problem := content_problem(path, data):
        raise _refusal(problem, path)
    text = data.decode("utf-8-sig") if path.lower().endswith(TEXT_SUFFIXES) else convert(path, data, cache)
    return Document(path=path, text=text.replace("\r\n", "\n").replace("\r", "\n"))


def _refusal(problem: str, path: str) -> TaxonomyError:
    what, _, fix = problem.rpartition("; ")
    return TaxonomyError(f"the document {what}", where=path, fix=fix)
