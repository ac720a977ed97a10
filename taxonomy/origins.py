"""What `tilth add --from` is given: files of this machine, or the addresses of files in one git repository.

A browser's address of a file is what people have at hand, so that of the usual forges is understood:
`https://host/owner/name/blob/<branch, tag or commit>/<path>` (`/-/blob/` and `/src/branch/` as well). Any repository
can be named by its own address and a path or pattern: `https://host/name.git#docs/*.md`. What the name of a branch
stands for now is asked of the server, for a leaf names a commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..core.config import Documents
from ..core.errors import TaxonomyError
from .documents import remote_refs
from .leaf import DocumentSpec

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/?/|[\w.-]+@[\w.-]+:", re.IGNORECASE)
_PAGE = re.compile(r"(https://[^/]+(?:/[^/]+){2,}?)(?:/-)?/(?:blob|raw|src/branch|src/commit|src/tag)/(.+)")
_REPOSITORY = re.compile(r"(.+\.git)(?:#(.*))?")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Origins(NamedTuple):
    """The documents of a new leaf: files, or patterns in another repository at a commit, or neither."""

    files: tuple[Path, ...]
    remote: DocumentSpec | None


def read_origins(texts: Sequence[str], settings: Documents) -> Origins:
    """What `texts` name, each a path or an address. Asks the server where an address names no commit.

    Raises TaxonomyError for an address that is no file of a git repository, for files and addresses mixed, and for
    addresses of several repositories or commits: a leaf has room for one.
    """
    addresses = [text for text in texts if _ADDRESS.match(text)]
    if not addresses:
        return Origins(tuple(map(Path, texts)), None)
    if len(addresses) < len(texts):
        raise TaxonomyError("a leaf has either files or documents of a repository", where="--from", fix="name one kind")
    found = [_spec(address, settings) for address in addresses]
    if len({(spec.repo, spec.commit) for spec in found}) > 1:
        fix = "name files of one commit, or make several leaves"
        raise TaxonomyError("these are documents of several repositories or commits", where="--from", fix=fix)
    patterns = dict.fromkeys(pattern for spec in found for pattern in spec.patterns)
    return Origins((), found[0].model_copy(update={"patterns": tuple(patterns)}))


def _spec(address: str, settings: Documents) -> DocumentSpec:
    if page := _PAGE.fullmatch(address):
        repo, rest = page[1], unquote(urlsplit(page[2]).path)
        first, _, path = rest.partition("/")
        if _SHA.fullmatch(first):
            return _document(address, repo, first, path)
        commit, path = _split(address, rest, remote_refs(repo, settings))
        return _document(address, repo, commit, path)
    if repository := _REPOSITORY.fullmatch(address):
        repo, path = repository[1], repository[2] or ""
        return _document(address, repo, remote_refs(repo, settings).get("HEAD", "") if path else "?", path)
    what = "this is not the address of a file in a git repository"
    raise TaxonomyError(
        what, where=address, fix="save the page as a file (HTML, Markdown, text) and give that to --from"
    )


def _document(address: str, repo: str, commit: str, path: str) -> DocumentSpec:
    if not path.strip("/"):
        fix = f"add a path or a pattern: {repo}#docs/*.md"
        raise TaxonomyError("this is a whole repository, not a document", where=address, fix=fix)
    if not commit:
        raise TaxonomyError("this repository has no commits", where=address, fix="name another")
    return DocumentSpec(repo=repo, commit=commit, patterns=(path,))


def _split(address: str, rest: str, refs: Mapping[str, str]) -> tuple[str, str]:
    """Commit and path of `branch/path`; a branch's name may hold slashes, so the longest that is there is meant."""
    parts = rest.split("/")
    for end in range(len(parts) - 1, 0, -1):
        name = "/".join(parts[:end])
        for ref in (name, f"refs/heads/{name}", f"refs/tags/{name}^{{}}", f"refs/tags/{name}"):
            if ref in refs:
                return refs[ref], "/".join(parts[end:])
    fix = "open the file at a branch, or at a commit by its full hash, and copy that address"
    raise TaxonomyError(f"the repository has no branch or tag {parts[0]!r}", where=address, fix=fix)
