"""The text of a leaf's documents: files of the taxonomy itself, or files of another git repository at a commit.

A contribution names the repository, so nothing of it is trusted: only https and ssh, no options, no other transports,
no checkout (and so no hooks, filters, submodules or links); objects are fetched into a bare clone and read from there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..core.atomic import new_folder
from ..core.errors import TaxonomyError
from ..core.fingerprint import fingerprint
from ..core.records import Record
from .globs import matching
from .leaf import DOCUMENT_SUFFIXES, DocumentSpec, Leaf, document_files
from .repository import git_errors, open_repository
from .schema import QNA_NAME
from .source import CommitTree, Source

if TYPE_CHECKING:
    from git import Repo

_SSH = re.compile(r"(ssh://(\w[\w.-]*@)?\w[\w.-]*(:\d+)?/[^\s:-][^\s]*|\w[\w.-]*@\w[\w.-]*:[^\s:-][^\s]*)")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")

_GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    # A server that sends less than 1 kB/s for a minute is as good as dead.
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


class Document(Record):
    """One document."""

    path: str
    """Inside the repository that holds it."""
    text: str
    """Decoded from UTF-8, every line end a single newline."""


def load_documents(leaf: Leaf, source: Source, cache: Path, *, allow_local: bool = False) -> tuple[Document, ...]:
    """The documents of `leaf`, in the order that it names them; none for a skill.

    `cache` holds a bare clone of each other repository; one that has the commit already is not asked again.
    `allow_local` lets a repository be a path of this machine. Raises TaxonomyError: a document is not there or not
    readable, its repository not reachable or not allowed.
    """
    spec = leaf.documents
    if spec is None:
        return ()
    if spec.files:
        return tuple(_document(path, source) for path in document_files(source, leaf.id, spec))
    where = f"{leaf.id}/{QNA_NAME}"
    tree = _commit_tree(spec, cache, where, allow_local=allow_local)
    files = tree.files()
    found = {pattern: matching(pattern, files) for pattern in spec.patterns}
    for pattern in (pattern for pattern, paths in found.items() if not paths):
        what = f"no file matches {pattern!r} in {spec.repo} at {spec.commit[:12]}"
        raise TaxonomyError(what, where=where, fix="mend document.patterns")
    return tuple(_document(path, tree) for path in dict.fromkeys(path for paths in found.values() for path in paths))


def _document(path: str, source: Source) -> Document:
    if not path.lower().endswith(DOCUMENT_SUFFIXES):
        fix = f"use one of: {', '.join(DOCUMENT_SUFFIXES)}"
        raise TaxonomyError("documents of this format cannot be read", where=path, fix=fix)
    try:
        text = source.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaxonomyError("not UTF-8 text", where=path, fix="save it as UTF-8") from error
    return Document(path=path, text=text.replace("\r\n", "\n").replace("\r", "\n"))


def _commit_tree(spec: DocumentSpec, cache: Path, where: str, *, allow_local: bool) -> CommitTree:
    _check_url(spec.repo, where, allow_local=allow_local)
    if not _COMMIT.fullmatch(spec.commit):
        what = f"{spec.commit!r} is no commit"
        raise TaxonomyError(what, where=where, fix="write the commit's hash; branches and tags move")
    folder = cache / f"{fingerprint(spec.repo)}.git"
    if not folder.exists():
        with git_errors(spec.repo), new_folder(folder) as temporary:
            from git import Repo

            _fetch(Repo.init(temporary, bare=True), spec.repo, allow_local=allow_local)
        return CommitTree(folder, spec.commit)
    try:
        return CommitTree(folder, spec.commit)
    except TaxonomyError:  # the commit is younger than the clone
        with git_errors(spec.repo):
            _fetch(open_repository(folder), spec.repo, allow_local=allow_local)
        return CommitTree(folder, spec.commit)


def _fetch(repo: Repo, url: str, *, allow_local: bool) -> None:
    protocols = "https:ssh:file" if allow_local else "https:ssh"
    repo.git.fetch("--no-tags", "--", url, *_REFS, env={**_GIT_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": protocols})
    repo.close()


def _check_url(url: str, where: str, *, allow_local: bool) -> None:
    """Raises TaxonomyError for all but https, ssh and, if allowed, absolute paths."""
    if _SSH.fullmatch(url) or (allow_local and re.match(r"(file://)?/", url)):
        return
    try:
        parts = urlsplit(url)
        user, host = parts.username, parts.hostname
    except ValueError:
        parts, user, host = None, None, None
    if user is not None:
        what = "document.repo holds a user name or a key"
        raise TaxonomyError(what, where=where, fix="remove it; git's credential helper is the place for keys")
    if parts is None or parts.scheme != "https" or not host or re.search(r"[\s\x00-\x1f]", url):
        what = f"the repository {url!r} is not allowed"
        raise TaxonomyError(what, where=where, fix="use https://…, ssh://… or git@host:path; or copy the documents in")
