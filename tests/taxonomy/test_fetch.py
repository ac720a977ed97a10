"""Fetching from a real git server over https, honest and hostile."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from git import Repo
from tilth.core.config import Documents
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.documents import Document, load_documents, mirrored_files, remote_refs
from tilth.taxonomy.leaf import DocumentSpec, Leaf
from tilth.taxonomy.source import EmptyTree

from .git_server import HOST, GitServer, serve

LEAF = "knowledge/bridge"
Load = Callable[..., tuple[Document, ...]]

pytestmark = [
    pytest.mark.slow,  # a server of its own for every test
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the server's certificate"),
]


def commit(repo: Repo, text: str) -> str:
    (Path(repo.working_dir) / "bridge.md").write_text(text)
    repo.git.add("--all")
    repo.git.execute(["git", "-c", "user.name=ada", "-c", "user.email=ada@x", "commit", "-qm", "work"])
    return repo.head.commit.hexsha


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Three commits; the first has a megabyte that a shallow fetch of the last does not need."""
    repo = Repo.init(tmp_path_factory.mktemp("served") / "library", initial_branch="main")
    (Path(repo.working_dir) / "big.bin").write_bytes(os.urandom(1 << 20))
    commit(repo, "first")
    (Path(repo.working_dir) / "big.bin").unlink()
    commit(repo, "second")
    commit(repo, "third")
    return repo


@pytest.fixture(scope="module")
def running(library: Repo, tmp_path_factory: pytest.TempPathFactory) -> Generator[GitServer]:
    with serve(Path(library.working_dir).parent, tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture
def server(running: GitServer, monkeypatch: pytest.MonkeyPatch) -> GitServer:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(running.certificate))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running.manner = "honest"
    running.requests.clear()
    running.num_sent = 0
    return running


@pytest.fixture
def load(server: GitServer, tmp_path: Path) -> Load:
    def load(commit: str, host: str = "localhost", **settings: Any) -> tuple[Document, ...]:
        spec = DocumentSpec(repo=server.url("library", host), commit=commit, patterns=("*.md",))
        leaf = Leaf.model_construct(id=LEAF, documents=spec)
        allowed = Documents.model_validate({"allow_hosts": ("localhost",), **settings})
        return load_documents(leaf, EmptyTree(), tmp_path / "cache", allowed)

    return load


def history(repo: Repo) -> list[str]:
    """The commits, oldest first."""
    return [found.hexsha for found in repo.iter_commits("main", reverse=True)]


def test_one_commit_is_fetched_and_never_again(load: Load, server: GitServer, library: Repo, tmp_path: Path) -> None:
    last = history(library)[2]
    assert load(last) == (Document(path="bridge.md", text="third"),)
    (mirror,) = (tmp_path / "cache").glob("*.git")
    assert (mirror / "shallow").read_text().split() == [last]
    assert server.num_sent < 10_000  # the megabyte of the first commit is not among it
    server.requests.clear()
    assert load(last)[0].text == "third"
    assert server.requests == []
    assert mirrored_files(server.url("library", "localhost"), last, tmp_path / "cache") == ["bridge.md"]
    assert mirrored_files(server.url("library", "localhost"), history(library)[1], tmp_path / "cache") is None
    assert mirrored_files(server.url("library", "localhost"), "*", tmp_path / "cache") is None


def test_an_abbreviated_hash_is_found_behind_a_shallow_commit(load: Load, server: GitServer, library: Repo) -> None:
    first, _, last = history(library)
    assert load(last)[0].text == "third"
    assert load(first[:9])[0].text == "first"
    server.requests.clear()
    assert load(first[:9])[0].text == "first"
    assert load(first)[0].text == "first"
    assert server.requests == []


def test_a_server_that_gives_no_single_commits_is_asked_for_all(
    load: Load, library: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "gitconfig"  # the old protocol, in which a server may refuse them, and does
    config.write_text("[protocol]\n\tversion = 0\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert load(history(library)[1])[0].text == "second"


@pytest.mark.parametrize("wrong", ["0" * 40, "0" * 8])
def test_a_commit_that_is_not_there_is_told(load: Load, wrong: str) -> None:
    with pytest.raises(TaxonomyError, match=r"library: the repository has no such commit; mend document.commit"):
        load(wrong)


def test_a_branch_that_looks_like_a_hash_is_none(load: Load, library: Repo) -> None:
    library.create_head("abcdef1", history(library)[0])
    try:
        with pytest.raises(TaxonomyError, match="no such commit"):
            load("abcdef1")
    finally:
        library.delete_head("abcdef1", force=True)


def test_git_uses_the_address_that_was_checked(load: Load, library: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name server knows `docs.test`, so git can only have used what it was given."""
    asked: list[Any] = []

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(
        TaxonomyError, match=r"'docs.test' has the address 127.0.0.1, which is not public; add 'docs.te"
    ):
        load(history(library)[2], HOST)
    monkeypatch.setattr("tilth.taxonomy.address._is_public", lambda _: True)
    assert load(history(library)[2], HOST)[0].text == "third"
    assert asked == [HOST, HOST]


def test_a_redirect_is_not_followed(load: Load, server: GitServer, library: Repo) -> None:
    server.manner = "redirect"
    with pytest.raises(
        TaxonomyError, match="library: the server says that the repository has moved; write its new address"
    ):
        load(history(library)[2])
    assert len(server.requests) == 1


def test_a_pack_without_end_is_cut(load: Load, server: GitServer, library: Repo, tmp_path: Path) -> None:
    server.manner = "endless pack"
    with pytest.raises(TaxonomyError, match=r"library: the repository is larger than 1 MB; raise documents.max_mb"):
        load(history(library)[2], max_mb=1)
    assert sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file()) < 2 << 20
    server.manner = "honest"
    assert load(history(library)[2])[0].text == "third"
    assert not list((tmp_path / "cache").rglob("tmp_*"))


@pytest.mark.parametrize("manner", ["silent", "endless refs"])
def test_a_server_that_does_not_come_to_an_end_is_left(
    load: Load, server: GitServer, library: Repo, manner: Any
) -> None:
    server.manner = manner
    with pytest.raises(TaxonomyError, match=r"not done after 0.5 seconds; raise documents.timeout_s"):
        load(history(library)[2], timeout_s=0.5)


FETCH = """
import sys
from pathlib import Path
from tilth.core.config import Documents
from tilth.taxonomy.documents import load_documents
from tilth.taxonomy.leaf import DocumentSpec, Leaf
from tilth.taxonomy.source import EmptyTree
spec = DocumentSpec(repo=sys.argv[1], commit=sys.argv[2], patterns=("*.md",))
leaf = Leaf.model_construct(id="knowledge/bridge", documents=spec)
print(load_documents(leaf, EmptyTree(), Path(sys.argv[3]), Documents(allow_hosts=("localhost",)))[0].text)
"""


def test_a_killed_fetch_leaves_nothing_broken(load: Load, server: GitServer, library: Repo, tmp_path: Path) -> None:
    server.manner = "endless pack"
    first, _, last = history(library)
    command = [sys.executable, "-c", FETCH, server.url("library", "localhost"), last, str(tmp_path / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "cache").rglob("tmp_pack_*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.manner = "honest"
    server.closed.set()  # git outlives tilth and holds the mirror; it ends with what it is sent
    assert load(last)[0].text == "third"
    server.closed.clear()
    assert load(first[:9])[0].text == "first"


def test_two_processes_fetch_at_once(server: GitServer, library: Repo, tmp_path: Path) -> None:
    last = history(library)[2]
    command = [sys.executable, "-c", FETCH, server.url("library", "localhost"), last, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["third\n", "third\n"]
    assert sum("upload-pack" in path for path in server.requests) <= 3  # one handshake, one list of refs, one pack


def test_the_environment_of_a_hook_does_not_matter(
    load: Load, library: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    last = history(library)[2]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nowhere/index"))
    assert load(last)[0].text == "third"


def test_the_refs_of_a_server_are_told(server: GitServer, library: Repo) -> None:
    last = history(library)[2]
    allowed = Documents(allow_hosts=("localhost",))
    assert remote_refs(server.url("library", "localhost"), allowed) == {"HEAD": last, "refs/heads/main": last}
    with pytest.raises(TaxonomyError, match="which is not public"):
        remote_refs(server.url("library", "localhost"))
