"""What an answer earns while a model learns from answers of its own: the weighted sum of the rewards of the plan.

    with Rewards(phase.rollout.rewards, models, config, ledger) as rewards:
        earned = rewards.earned([Answered(prompt, "1874.", expected="1874", ended=True), ...])

A reward that cannot be said (a judge that did not answer, an answer that a reward model's chat template cannot write)
is None, and with it the sum: it is never taken for 0, and how many there were is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, cast

from ..core.answers import is_correct
from ..core.config import Config, Section
from ..core.errors import ConfigError, ModelError, nearest
from ..core.fingerprint import file_sha256, fingerprint
from ..core.normalise import normalise
from ..core.progress import SilentProgress
from ..core.records import Message
from ..core.yaml_source import load_yaml
from ..llm.ask import Gateway, RequestFailed, Unanswered
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.prompts import harmless, mark
from ..llm.untrusted import open_config
from .load import weights_sha256
from .masking import load_tokenizer
from .reward_model import RewardModel, load_reward_model
from .settings import Reward

_GRADE = Path(__file__).parent / "prompts" / "grade.yaml"
_LOWEST, _HIGHEST = 1, 10
_SCHEMA = {
    "type": "object",
    "properties": {"grade": {"type": "integer", "minimum": _LOWEST, "maximum": _HIGHEST}},
    "required": ["grade"],
    "additionalProperties": False,
}
_GRADE_TOKENS = 20
_WHERE = "rollout.rewards"


@dataclass(frozen=True)
class Answered:
    """An answer of the model that is trained."""

    prompt: tuple[Message, ...]
    answer: str
    expected: str
    """The answer of the sample that the prompt is from."""
    ended: bool
    """Whether the model ended it; else it was cut."""


@dataclass(frozen=True)
class Earned:
    """What each of some answers earns; None where a part of it could not be said."""

    totals: list[float | None]
    parts: Mapping[str, list[float | None]]
    """By the name of the reward, before its weight."""

    def numbers(self) -> dict[str, float]:
        """For the step's metrics: the mean of each part where it is known, and the share of answers without a sum."""
        means = {f"rewards/{name}": _mean(values) for name, values in self.parts.items()}
        return {**means, "rewards/failed": self.totals.count(None) / len(self.totals)}


Scorer = Callable[[Sequence[Answered]], Sequence[float | None]]


class Rewards:
    """The rewards of a phase, ready to be asked: a context manager, for a judge has connections to be closed.

    `models` are the reward models of earlier phases, by the phase's name; `ledger` is where a judge's answers are kept.
    Raises ConfigError, ModelError.
    """

    def __init__(self, rewards: Sequence[Reward], models: Mapping[str, Path], config: Config, ledger: Path) -> None:
        self._weights = dict(zip(_names(rewards), (reward.weight for reward in rewards), strict=True))
        with contextlib.ExitStack() as opened:
            self._scorers = [_scorer(reward, models, config, ledger, opened) for reward in rewards]
            self._opened = opened.pop_all()

    def __enter__(self) -> Rewards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def earned(self, answers: Sequence[Answered]) -> Earned:
        """What the answers earn, in their order. Raises ConfigError for a faulty function, ModelError."""
        found = {name: list(score(answers)) for name, score in zip(self._weights, self._scorers, strict=True)}
        totals = [self._total([found[name][place] for name in found]) for place in range(len(answers))]
        return Earned(totals, found)

    def _total(self, parts: Sequence[float | None]) -> float | None:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return sum(weight * part for weight, part in zip(self._weights.values(), known, strict=True))


def _scorer(
    reward: Reward, models: Mapping[str, Path], config: Config, ledger: Path, opened: contextlib.ExitStack
) -> Scorer:
    if reward.answer:
        return _exact if reward.answer == "exact" else _normalised
    if reward.function:
        return _by_function(reward.function)
    if reward.model:
        return _by_model(reward.model, models, config)
    return opened.enter_context(contextlib.closing(_Judge(config, ledger)))


def reward_sources(rewards: Sequence[Reward], reward_phases: Sequence[str], config: Config) -> list[str]:
    """Hashes of what rewards use beyond the plan: functions, models of this machine, the judge.

    `reward_phases` are the names of the plan's earlier ones. Raises ConfigError, ModelError where one cannot be used.
    """
    return [source for reward in rewards if (source := _source(reward, reward_phases, config))]


def load_function(name: str) -> Callable[[str, str, str], float]:
    """The function `file.py:name` of the user's. Raises ConfigError, with the line where the file fails."""
    file, _, function = name.rpartition(":")
    path = Path(file).resolve()
    if not file.endswith(".py") or not function:
        raise ConfigError(f"cannot read the function {name!r}", where=_WHERE, fix="write it as file.py:name")
    if not path.is_file():
        fix = "give a path relative to the plan's file or to the current folder"
        raise ConfigError(f"there is no file {file!r}", where=_WHERE, fix=fix)
    module = _load_module(path, file_sha256(path))
    found = getattr(module, function, None)
    if not callable(found):
        names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise ConfigError(f"there is no function {function!r}", where=file, fix=nearest(function, names))
    try:
        inspect.signature(found).bind("", "", "")
    except (TypeError, ValueError) as error:  # ValueError: a function that does not tell what it takes
        fix = "let it take the question, the answer and the expected answer"
        raise ConfigError(f"{function} cannot be called with three texts ({error})", where=file, fix=fix) from error
    return cast("Callable[[str, str, str], float]", found)


def _names(rewards: Sequence[Reward]) -> list[str]:
    """A name for each, for the metrics."""
    names = ["failed"]  # what `numbers` counts
    for reward in rewards:
        name = reward.answer or reward.function.rpartition(":")[2] or Path(reward.model).name or "judge"
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        names.append(next(free for free in itertools.chain([name], numbered) if free not in names))
    return names[1:]


def _source(reward: Reward, reward_phases: Sequence[str], config: Config) -> str:
    if reward.function:
        load_function(reward.function)
        return file_sha256(Path(reward.function.rpartition(":")[0]))
    if reward.judge:
        judge = config.judge or config.teacher
        return fingerprint([identity(judge), file_sha256(_GRADE)])
    if not reward.model or reward.model in reward_phases:
        return ""
    folder = Path(reward.model)
    if not (folder / "config.json").is_file():
        what = f"{reward.model!r} is no earlier `reward` phase of the plan and no folder of a model"
        fix = nearest(reward.model, reward_phases) if reward_phases else "put a phase with `method: reward` before it"
        raise ConfigError(what, where=_WHERE, fix=fix)
    found = open_config(folder)
    if not str((found.architectures or [""])[0]).endswith("ForSequenceClassification"):
        what = f"{reward.model!r} is no reward model: nothing in it was trained to give a score"
        raise ConfigError(what, where=_WHERE, fix="name the folder of one, or a `reward` phase of the plan")
    if found.num_labels != 1:
        what = f"{reward.model!r} gives {found.num_labels} numbers, and a reward is one"
        raise ConfigError(what, where=_WHERE, fix="name the folder of a reward model with one output")
    load_tokenizer(folder)
    return weights_sha256(folder)


def _exact(answers: Sequence[Answered]) -> list[float | None]:
    return [float(each.answer.strip() == each.expected.strip()) for each in answers]


def _normalised(answers: Sequence[Answered]) -> list[float | None]:
    """An expected answer of several lines, or of marks alone, is earned by the same words, or the same text."""
    return [float(_says(each.answer.strip(), each.expected.strip())) for each in answers]


def _says(answer: str, expected: str) -> bool:
    same = answer == expected or (normalise(expected) != "" and normalise(answer) == normalise(expected))
    return same or is_correct(answer, [expected])


def _by_model(name: str, models: Mapping[str, Path], config: Config) -> Scorer:
    folder = models.get(name, Path(name))
    if not folder.is_dir():  # it was checked before training; so it is a phase
        fix = "generate preference pairs, or leave this reward out"
        raise ModelError(f"the reward phase {name!r} was skipped: it left no model", where=_WHERE, fix=fix)
    model = load_reward_model(folder, config.student.system_prompt)

    def score(answers: Sequence[Answered]) -> list[float | None]:
        rows = [_row(model, each) for each in answers]
        found = iter(model.scores_of([row for row in rows if row]))
        return [next(found) if row else None for row in rows]

    return score


def _row(model: RewardModel, given: Answered) -> list[int] | None:
    """None where the chat template cannot write the answer, or it is longer than the model can read.

    What the student happens to say is no reason to stop.
    """
    with contextlib.suppress(ModelError):
        row = model.row((*given.prompt, Message(role="assistant", content=given.answer)), ended=given.ended)
        return row if len(row) <= model.longest else None
    return None


def _by_function(name: str) -> Scorer:
    function = load_function(name)

    def score(answers: Sequence[Answered]) -> list[float | None]:
        return [_called(function, name, each) for each in answers]

    return score


def _called(function: Callable[[str, str, str], float], name: str, given: Answered) -> float:
    file, _, called = name.rpartition(":")
    try:
        value = function(_question(given), given.answer, given.expected)
    except (Exception, SystemExit) as error:
        raise _told(error, file) from error
    try:
        number = float(value)
    except Exception:  # noqa: BLE001  whatever the user's value does when it is asked for a number
        number = math.nan
    if not math.isfinite(number):
        what = f"{called} returned {_as_text(value, repr)} for the answer {given.answer[:80]!r}"
        raise ConfigError(what, where=file, fix="return a finite number")
    return number


@cache
def _load_module(path: Path, sha256: str) -> ModuleType:
    """Loaded once; a dataclass in it looks its module up by name.

    Not by an import, which takes kept bytecode for a file of the same size and second, whatever it says.
    """
    name = f"tilth_reward_{sha256[:16]}"
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102
    except (Exception, SystemExit) as error:
        raise _told(error, str(path)) from error
    return module


def _told(error: BaseException, file: str) -> ConfigError:
    """What the user's code raised, with the last line of it that was reached."""
    frames = traceback.extract_tb(error.__traceback__)
    path = str(Path(file).resolve())
    own = [frame.lineno for frame in frames if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else (own or [1])[-1]
    said = [type(error).__name__, *_as_text(error, str).splitlines()[:1]]
    return ConfigError(": ".join(said), where=f"{file}:{line or 1}", fix="mend the reward function")


def _as_text(value: object, how: Callable[[object], str]) -> str:
    """Where it cannot even say what it is: its type."""
    try:
        return how(value)
    except Exception:  # noqa: BLE001  as above
        return type(value).__name__


class _GradePrompt(Section):
    """What stands in `prompts/grade.yaml`."""

    system: str
    user: str


class _Judge:
    """The judge of `tilth.yaml`, asked over the ledger; its grades 1 to 10 become 0 to 1.

    An event loop of its own lives as long as it does, and with that the connections, from step to step.
    """

    def __init__(self, config: Config, ledger: Path) -> None:
        self._prompt = load_yaml(_GRADE, _GradePrompt)
        with contextlib.ExitStack() as opened:
            self._runner = opened.enter_context(asyncio.Runner())
            kept = opened.enter_context(Ledger(ledger))
            server = config.judge or config.teacher
            self._gateway = Gateway(server, kept, SilentProgress(), seed=config.seed, role="judge")
            opened.callback(lambda: self._runner.run(self._gateway.__aexit__(None, None, None)))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """End what is on the wire and close the ledger."""
        self._opened.close()

    def __call__(self, answers: Sequence[Answered]) -> list[float | None]:
        return self._runner.run(self._grades(answers))

    async def _grades(self, answers: Sequence[Answered]) -> list[float | None]:
        return list(await asyncio.gather(*map(self._grade, answers)))

    async def _grade(self, given: Answered) -> float | None:
        written = {"question": _question(given), "reference": given.expected, "answer": given.answer}
        values = {name: harmless(text) for name, text in written.items()} | {"mark": mark(*written.values())}
        messages = [
            Message(role="system", content=self._prompt.system.strip()),
            Message(role="user", content=self._prompt.user.format(**values).strip()),
        ]
        try:
            answer: Any = await self._gateway.ask(
                messages, leaf="rewards", step="grade", schema=_SCHEMA, max_tokens=_GRADE_TOKENS
            )
        except (RequestFailed, Unanswered):
            return None
        return (answer.data["grade"] - _LOWEST) / (_HIGHEST - _LOWEST)


def _question(given: Answered) -> str:
    """The last turn before the answer."""
    return given.prompt[-1].content


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
