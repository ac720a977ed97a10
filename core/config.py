"""The configuration: one YAML file, one frozen typed tree. Unknown keys are refused with the nearest known one."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from . import environment
from .errors import ConfigError
from .yaml_problem import shortened
from .yaml_source import YamlProblems, YamlSource, parse_yaml, read_yaml

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0, le=1_000_000)]
"""Twelve days: the system's own calls take little more than twice that."""
Amount = Annotated[int, Field(ge=1, le=1_000_000)]


def _addresses(urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        try:
            parts = urlsplit(url)
            right, told = parts.scheme in {"http", "https"} and bool(parts.hostname), "@" in parts.netloc
            _ = parts.port  # raises for one that is none
        except ValueError:
            right = told = False
        if told:
            raise ValueError("holds a user name or a key; leave it out, and name the key's variable in api_key_env")
        if not right:
            what = "{url} is no http address; write it like http://127.0.0.1:8000/v1"
            raise PydanticCustomError("address", what, {"url": repr(shortened(url))})
    return urls


def _variable(name: str) -> str:
    if name and not (name.isascii() and name.isidentifier()):  # it may be the key itself, so it is not repeated
        raise ValueError("is no name of an environment variable; write one, such as MY_KEY: the key stands in no file")
    return name


VariableName = Annotated[str, AfterValidator(_variable)]


def _listed(value: Any) -> Any:
    """One address may stand alone."""
    return ([value] if value else []) if isinstance(value, str) else value


Addresses = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_addresses)]


class Section(BaseModel):
    """Base of every part of the tree."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """To pydantic `seed: yes` would be 1."""
        wanted = _alternatives(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in wanted and wanted & {int, float}:
            raise PydanticKnownError("int_type" if int in wanted else "float_type")
        return value


def _alternatives(annotation: Any) -> set[Any]:
    """The types of which a value may be one, without what is said about them."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return {each for part in get_args(annotation) for each in _alternatives(part)}
    return {annotation}


class Prices(Section):
    """What a model costs, in any currency, for a million tokens."""

    prompt: Annotated[float, Field(ge=0)] = 0.0
    """For tokens that it reads."""
    completion: Annotated[float, Field(ge=0)] = 0.0
    """For tokens that it writes."""

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1_000_000


class ModelServer(Section):
    """A chat model: one of the catalogue, served by tilth itself, or any OpenAI-compatible endpoint."""

    model: str = "qwen2.5-coder-1.5b-instruct"
    """A name of the catalogue, or (with `base_url`) the name that the endpoint knows the model by."""
    base_url: Addresses = ()
    """The endpoint, such as `http://127.0.0.1:8000/v1`, or a list of them; empty: tilth serves `model` itself."""
    api_key_env: VariableName = "OPENAI_API_KEY"
    """The environment variable that holds the key; the key itself never stands in a file."""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 8
    """Requests in flight at most, to each endpoint; how many there are follows from its answers."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """What the provider allows, over all endpoints; 0: as many as it answers."""
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    """The same of tokens, read and written."""
    prices: Prices = Prices()
    timeout_s: Seconds = 600.0
    """How long one answer may take, in seconds."""
    patience_s: Annotated[float, Field(ge=0, le=1_000_000)] = 600.0
    """How long an endpoint is waited for that has answered and now answers nothing, or asks to be left alone, in
    seconds."""


class Student(Section):
    """The model that is trained."""

    model: str = "smollm2-135m-instruct"
    """A name of the catalogue, a path, or a Hugging Face causal model."""
    system_prompt: str = ""
    """Put before every conversation, in training and in evaluation; empty: what the chat template does by itself."""


class Lint(Section):
    """What `tilth lint` asks of a leaf beyond its schema."""

    attribution: bool = True
    """Whether leaves of version 2 and later need an `attribution.txt`; false: for a taxonomy that nobody else sees."""
    licenses: tuple[str, ...] = (
        "CC0-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "CC-BY-3.0", "CC-BY-4.0",
        "CC-BY-SA-3.0", "CC-BY-SA-4.0", "Apache-2.0", "MIT", "public domain",
    )  # fmt: skip
    """The licences that a contribution may have, in SPDX's spelling; by default those of InstructLab's guide."""


class Documents(Section):
    """Where the documents of leaves may come from. Contributors name the places, so what is not allowed is refused."""

    allow_local: bool = False
    """Whether a leaf may name a repository or a folder of this machine by its path."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts that may be asked though they are of a private network or of this machine."""
    max_mb: Amount = 1000
    """The most that is fetched of a repository at once, in megabytes."""
    timeout_s: Seconds = 600.0
    """How long one fetch may take, in seconds."""


class Generate(Section):
    """What the data engine makes."""

    recipe: str = "quick"
    """A shipped recipe, or a path to one."""


class Train(Section):
    """How the student is trained."""

    plan: str = "lab"
    """A shipped plan or a path to one."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds of training between two checkpoints: what a kill can cost at most."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 1
    """The newest checkpoints that stay; an older one is gone back to only where the disk has damaged a newer."""
    processes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that train together on each machine: one for each GPU."""
    nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Machines that train together; more than one needs `rendezvous`."""
    rendezvous: str = ""
    """`HOST:PORT` of the first machine, where the others find it; they share the disk that the workspace is on."""
    distributed: Literal["none", "zero1", "zero2", "zero3", "fsdp"] = "none"
    """What each process holds a share of: nothing; by DeepSpeed the optimizer's state (zero1), the gradients too
    (zero2), the weights too (zero3); the same as zero3 by PyTorch itself (fsdp)."""
    offload: bool = False
    """Whether what is shared waits in main memory instead of on the GPU: slower, and larger models fit."""
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Where the numbers of each step and each epoch go besides the phase's files; the package must be installed."""

    @property
    def total_processes(self) -> int:
        """On all machines."""
        return self.processes * self.nodes

    @property
    def alone(self) -> bool:
        """Whether the process that runs the plan trains, and no other."""
        return self.total_processes == 1 and self.distributed == "none"

    @model_validator(mode="after")
    def _check(self) -> Self:
        host, _, port = self.rendezvous.rpartition(":")
        if self.rendezvous and not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ValueError(f"rendezvous is {shortened(self.rendezvous)!r}; write HOST:PORT, such as node-1:29400")
        if self.nodes > 1 and not self.rendezvous:
            raise ValueError("more than one node needs train.rendezvous, the HOST:PORT of the first")
        if self.offload and self.distributed == "none":
            raise ValueError("offload has no effect with `distributed: none`")
        if self.distributed == "fsdp" and self.total_processes == 1:
            raise ValueError("fsdp shares the model among processes: it needs more than one")
        return self


class Eval(Section):
    """How models are scored."""

    max_new_tokens: Amount = 32
    """Longest answer to a held-out question that has a short one, in tokens."""
    max_new_tokens_judged: Amount = 192
    """Longest answer to one that a judge grades, in tokens."""
    batch_size: Amount = 32
    """Questions that the student in this process answers side by side."""
    general: bool = True
    """Whether each cycle measures general ability too, on the small set that ships with tilth."""
    open_book: bool = False
    """Whether models answer with the passages of the leaf before them too: what retrieval would give."""
    pairwise: bool = False
    """Whether the judge also compares parent and candidate, answer by answer, in both orders."""


class Gate(Section):
    """What a candidate must prove before it becomes a release."""

    significance: Annotated[float, Field(ge=0.001, lt=0.5)] = 0.05
    """Level of the tests that call a leaf learned (over all changed ones) or forgotten (over all others), and of bounds
    held to a margin. The draws of the bootstrap tell no smaller one."""
    min_gain: Share = 0.0
    """What the changed leaves must gain, as a share of their held-out questions: the lower bound of all together lies
    above this, and so does what each was seen to gain."""
    max_loss: Share = 0.15
    """What the other leaves may lose at most, as a share of their held-out questions, against the parent and against
    the releases that learned them."""
    max_general_loss: Share = 0.05
    """What the general set may lose at most."""
    max_unjudged: Share = 0.1
    """The share of answers that the judge may fail to grade."""


class Releases(Section):
    """What stays of older releases."""

    keep: Amount | None = None
    """How many of the newest keep their model when a cycle has made another; absent: all do. The current one, pinned
    ones and the records of all stay."""


class Config(Section):
    """`tilth.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """All that is drawn follows from it: the teacher's answers, the order of training, the intervals."""
    teacher: ModelServer = Field(default_factory=ModelServer)
    judge: ModelServer | None = None
    """The model that grades; absent: the teacher."""
    student: Student = Field(default_factory=Student)
    documents: Documents = Field(default_factory=Documents)
    lint: Lint = Field(default_factory=Lint)
    generate: Generate = Field(default_factory=Generate)
    train: Train = Field(default_factory=Train)
    eval: Eval = Field(default_factory=Eval)
    gate: Gate = Field(default_factory=Gate)
    releases: Releases = Field(default_factory=Releases)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read `tilth.yaml`, then apply `a.b=c` overrides (values are YAML). Raises ConfigError or YamlProblems."""
    if not path.exists():
        raise ConfigError(f"there is no {path.name}", where=str(path.parent), fix="run `tilth init` first")
    source = read_yaml(path, name=path.name)
    config = _withheld(source.validate(Config))
    if not overrides:
        return config
    tree: dict[str, Any] = dict(source.data or {})
    for override in overrides:
        _apply(tree, override)
    try:
        return _withheld(YamlSource("--set", tree).validate(Config))
    except YamlProblems as error:
        problem = error.problems[0]  # the file alone was right, so an override is to blame
        raise ConfigError(problem.message, where=f"--set {_blamed(overrides, problem.key)}") from error


def _withheld(config: Config) -> Config:
    """The same; no child process gets the keys that it names."""
    environment.withhold(server.api_key_env for server in (config.teacher, config.judge) if server)
    return config


def _blamed(overrides: tuple[str, ...], key: tuple[str | int, ...]) -> str:
    """The last override that wrote at, above or below `key`."""

    def related(override: str) -> bool:
        written = override.partition("=")[0].split(".")
        return all(left == str(right) for left, right in zip(written, key, strict=False))

    return next((override for override in reversed(overrides) if related(override)), overrides[-1])


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"cannot read {override!r}", where="--set", fix="write it as section.key=value")
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.get(parent)
        tree[parent] = tree = dict(child) if isinstance(child, dict) else {}
    tree[last] = parse_yaml(value, f"--set {key}").data
