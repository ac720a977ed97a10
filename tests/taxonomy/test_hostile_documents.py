"""Documents made to do harm: each ends in one line, in under a second of CPU and 200 MB, children included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from git import Repo

pytestmark = pytest.mark.slow  # many processes and servers

READ = """
import json, resource, sys
from pathlib import Path
from tilth.core.config import Documents
from tilth.core.errors import TilthError
from tilth.taxonomy.documents import load_documents
from tilth.taxonomy.leaf import read_leaf
from tilth.taxonomy.source import WorkingTree
root, settings = Path(sys.argv[1]), Documents(**json.loads(sys.argv[2]))
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)
def read(leaf):
    try:
        source = WorkingTree(root)
        made = load_documents(read_leaf(source, f"knowledge/{leaf}"), source, root.parent / "cache", settings)
        return "read: " + " ".join(document.path for document in made)
    except TilthError as error:
        return str(error)
said = {}
for leaf in sys.argv[3:]:
    before = used()
    said[leaf] = (read(leaf), used() - before)
# ru_maxrss of this process has that of pytest in it, from before the exec.
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
print(json.dumps([said, max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.md").write_text("secret")
    Repo.init(tmp_path / "taxonomy").close()
    return tmp_path / "taxonomy"


def told(root: Path, knowledge: dict[str, Any], documents: dict[str, dict[str, Any]], **settings: Any) -> list[str]:
    """What tilth says to each of these leaves, given by name with its `document`; how much it took is checked."""
    for leaf, document in documents.items():
        folder = root / "knowledge" / leaf
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "qna.yaml").write_text(yaml.safe_dump({**knowledge, "document": document}))
    command = [sys.executable, "-c", READ, str(root), json.dumps(settings), *documents]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    said, mb = json.loads(ran.stdout)
    assert not {line: cpu_s for line, cpu_s in said.values() if "\n" in line or cpu_s >= 1}
    assert mb < 200
    return [line for line, _ in said.values()]


def test_no_entry_leaves_the_repository(root: Path, knowledge: dict[str, Any]) -> None:
    entries = ["../../../secret.md", "/../secret.md", "../../../*.md", "a/../../../../secret.md"]
    said = told(root, knowledge, {f"x{number}": {"files": [entry]} for number, entry in enumerate(entries)})
    assert [line for line in said if "is outside the repository" not in line] == []


def test_no_link_is_followed(root: Path, knowledge: dict[str, Any]) -> None:
    entries = ["a.md", "loop.md", "folder/secret.md", "**/*.md", "round/round/round/a.md"]
    for number, _ in enumerate(entries):
        here = root / f"knowledge/x{number}"
        here.mkdir(parents=True)
        (here / "a.md").symlink_to(root.parent / "secret.md")
        (here / "loop.md").symlink_to("loop.md")
        (here / "folder").symlink_to(root.parent)
        (here / "round").symlink_to(".")
    said = told(root, knowledge, {f"x{number}": {"files": [entry]} for number, entry in enumerate(entries)})
    assert [line for line in said if "no file of the repository matches" not in line] == []


FILES: list[tuple[str, bytes | int, str]] = [
    ("a.md", 100 << 20, "a.md': the file has 100 MB, at most 32 are read; split it"),
    ("a.md", b"a\0b", "a.md' holds NUL bytes, so it is no text; save it as UTF-8"),
    ("a.md", "é".encode("latin-1"), "a.md' is not UTF-8 text; save it as UTF-8"),
    ("a.md", "text".encode("utf-16"), "a.md' is not UTF-8 text; save it as UTF-8"),
    ("a.md", b"\xef\xbb\xbf \n", "a.md' is empty; write it"),
    ("a.docx", b"", "a.docx' is empty; write it"),
    ("a.exe", b"MZ", "a.exe' cannot be read; use one of: .md"),
    ("a", b"text", "a' cannot be read; use one of: .md"),
    ("a.html", b"<div>" * 1_000_000, "a.html: the page's tags are nested more than 400 deep; save it as Markdown"),
    ("a.html", b"<table>" + b"<td colspan=999 rowspan=999>" * 999, "more than 200000 cells; save it as Markdown"),
    ("a.html", b"\xff\xfe\0", "a.html: the page is no utf-16 text; save it as UTF-8"),
    ("a.html", b"<!--" * 1_000_000, "a.html: there is no text in the file"),
]


def test_a_hostile_file_is_refused(root: Path, knowledge: dict[str, Any]) -> None:
    for number, (name, data, _) in enumerate(FILES):
        here = root / f"knowledge/x{number}"
        here.mkdir(parents=True)
        with (here / name).open("wb") as file:
            file.truncate(data) if isinstance(data, int) else file.write(data)
    said = told(root, knowledge, {f"x{number}": {"files": [name]} for number, (name, _, _) in enumerate(FILES)})
    assert [(line, each[2]) for line, each in zip(said, FILES, strict=True) if each[2] not in line] == []


def test_a_hostile_address_is_refused(root: Path, knowledge: dict[str, Any]) -> None:
    addresses = [
        "ext::sh -c 'touch owned'",
        "fd::17/x",
        "file:///etc",
        "/etc",
        "git://127.0.0.1/x",
        "http://127.0.0.1/x",
        "--upload-pack=touch owned",
        "git@-oProxyCommand=touch:x",
        "ssh://-oProxyCommand=touch/x",
        "https://ada:hunter2@x.org/y",
        "https://127.0.0.1/x",
        "https://[::ffff:10.0.0.1]/x",
        "git@localhost:x",
    ]
    document = {"commit": "0" * 40, "patterns": ["*"]}
    said = told(root, knowledge, {f"x{number}": {**document, "repo": repo} for number, repo in enumerate(addresses)})
    assert [line for line in said if "allow" not in line and "remove it" not in line] == []
    assert all(line.startswith(f"knowledge/x{number}/qna.yaml: ") for number, line in enumerate(said))
    assert "hunter2" not in "".join(said)


def test_a_hostile_repository_gives_plain_files_only(root: Path, knowledge: dict[str, Any], tmp_path: Path) -> None:
    """Links, a submodule, a filter for LFS, names to be careful with, and a file that is small in the pack only."""
    repo = Repo.init(tmp_path / "library", initial_branch="main")
    folder = Path(repo.working_dir)
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "way").symlink_to(tmp_path)
    (folder / ".gitattributes").write_text("*.md filter=lfs diff=lfs merge=lfs -text\n")
    (folder / ".gitmodules").write_text('[submodule "s"]\n\tpath = s\n\turl = ext::touch owned\n')
    (folder / "plain.md").write_text("a text")
    (folder / "pointer.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 12345\n")
    (folder / "-rf.md").write_text("a dash")
    with (folder / "bomb.md").open("wb") as file:
        file.truncate(40 << 20)
    repo.git.config("core.bigFileThreshold", "1m")  # the server is a child of ours here, and is to be small too
    repo.git.update_index("--add", "--cacheinfo", "160000," + "1" * 40 + ",s")
    repo.git.execute(["git", "-c", "filter.lfs.clean=cat", "-c", "core.compression=1", "add", "--all"])
    repo.git.execute(["git", "-c", "user.name=ada", "-c", "user.email=ada@x", "commit", "-qm", "work"])
    document = {"repo": str(folder), "commit": repo.head.commit.hexsha}
    repo.close()
    outside = ["link.md", "way/*.md", "way/**", "s/**", "../secret.md", "/etc/passwd", ".git*"]
    patterns = [["plain.md", "-rf.md"], ["pointer.txt"], ["*.md"], *([pattern] for pattern in outside)]
    leaves = {f"x{number}": {**document, "patterns": each} for number, each in enumerate(patterns)}
    read, pointer, large, *none = told(root, knowledge, leaves, allow_local=True)
    assert read == "read: plain.md -rf.md"
    assert "the document is a pointer of Git LFS, and the text is elsewhere; commit the file itself" in pointer
    assert large == "bomb.md: the file has 40 MB, at most 32 are read; split it"
    assert [
        pattern for pattern, line in zip(outside, none, strict=True) if f"no file matches {pattern!r}" not in line
    ] == []
    assert not list(tmp_path.rglob("owned"))
