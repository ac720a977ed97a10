"""Learning from answers of the model's own, by what they earn: grpo and rloo, over TRL's trainers.

Theirs are the loss and the advantages: grpo (Shao et al., arXiv 2402.03300; its loss is the mean over the tokens of the
step, DAPO, 2503.14476, its divergence unbiased, DeepSeek-V3.2, 2512.02556) and rloo (Ahmadian et al., 2402.14740). Ours
are:

- the prompts: ids made by `masking`, each in every epoch, in the order of seed and epoch, where their sampler drops
  what fills no batch;
- the draw: the answers of a step follow from seed, step and weights, so a resumed run repeats them to the bit (that of
  a judge or a function of the user's is theirs to repeat; a judge's grades are kept in the ledger);
- all answers of a step are given by the same weights, each micro-batch of prompts by itself, and the step's loss is
  the mean over all its tokens (rloo: answers) however it is accumulated;
- the rewards (`rewards.py`). An answer whose reward cannot be said moves nothing; a step without any is refused.

Dropout is off, else the model that is trained would not be the one that answers.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from ...core.errors import CheckFailed
from ...core.fingerprint import fingerprint
from ...llm.local import opening
from ...llm.precision import device
from .. import adapters
from ..load import count_parameters, load_trained, without_attention_dropout
from ..plan import Phase
from ..rewards import Answered, Rewards
from ..trainer import PhaseTraining, adapter_config, library_arguments, phase_trainer
from .prompts import PromptTokens
from .row import Row
from .setup import Setup

TILE_ON_CPU, TILE, TILE_WIDTH = 256, 4096, 32_768
"""How many positions, and logits of each, TRL has in memory at a time. What it computes of such a tile stands beside it
on a CPU, eight times as large: with the tiles that are meant for a GPU that takes 4 GB."""

LEDGER_NAME = "ledger.db"
"""Beside the phases' folders: what a judge was asked and answered."""

Example = dict[str, Any]
"""A prompt as the trainers are given it: `prompt`, its ids, and `place`, the number of its row."""


def grpo_trainer(setup: Setup) -> Any:
    """TRL's trainer on the prompts, ready to `train()`."""
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    return _rewarded(setup, GroupLoss, GRPOTrainer, GRPOConfig)


def rloo_trainer(setup: Setup) -> Any:
    """The same with leave-one-out advantages and one ratio for a whole answer."""
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    return _rewarded(setup, LeaveOneOutLoss, RLOOTrainer, RLOOConfig)


def rollout_trainer(setup: Setup, mixed: type, library: type, arguments: Any, **given: Any) -> Any:
    """A trainer of the library's class `library`, with `mixed` (a `Rollouts`) and ours above it."""
    from datasets import Dataset
    from transformers import GenerationConfig

    _set_tiles()
    rows = prompts_of(setup.rows)
    model = without_attention_dropout(load_trained(setup.parent, setup.phase))
    trainer = phase_trainer(
        type("RolloutTrainer", (mixed, PhaseTraining, library), {}),
        model,
        [row.length for row in rows],
        setup.watch,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": row.prompt_ids, "place": place} for place, row in enumerate(rows)]),
        processing_class=copy.deepcopy(setup.tokenizer),  # the library gives one without a padding token its own
        peft_config=adapter_config(model, setup.phase),
        **given,
    )
    # Else what the phase does not say is filled from the model's file, such as `min_p`: answers would be drawn from
    # another distribution than the one that is trained. What is saved has the file's (`untouched`).
    trainer.plain.generation_config = GenerationConfig()
    trainer.rows, trainer.completions = rows, setup.phase.rollout.completions
    trainer.stop_at({row.end_id for row in rows})
    return trainer


def _set_tiles() -> None:
    from trl.kernels import chunked_divergence, chunked_logprob

    kernels: tuple[Any, Any] = chunked_divergence, chunked_logprob
    for kernel in kernels:
        kernel.TOKEN_CHUNK_SIZE = TILE_ON_CPU if device() == "cpu" else TILE


def rollout_arguments(kind: Any, setup: Setup, **own: Any) -> Any:
    """The phase in the library's words: what all methods with rollouts have in common."""
    phase = setup.phase
    return library_arguments(
        kind,
        phase,
        setup.checkpoints,
        setup.seed,
        parameters=count_parameters(setup.parent),
        temperature=phase.rollout.temperature,
        max_completion_length=phase.rollout.max_new_tokens,
        disable_dropout=True,
        remove_unused_columns=False,
        **own,
    )


def prompts_of(rows: Sequence[Row]) -> list[PromptTokens]:
    """The rows of a method that takes prompts."""
    return [row for row in rows if isinstance(row, PromptTokens)]


def unrewarded(phase: Phase, step: int) -> CheckFailed:
    """What is raised where a step has nothing to learn by: else momentum alone would move the model from then on."""
    fix = "see that its judge answers, and that its reward model's chat template takes the answers"
    return CheckFailed(f"no answer of step {step} has a reward", where=f"phase {phase.name!r}", fix=fix)


def _rewarded(setup: Setup, mixed: type, library: type, config: Any) -> Any:
    rollout = setup.phase.rollout
    adapters.check_reference(setup.phase, setup.parent)  # phases in between may have had nothing to train
    arguments = rollout_arguments(
        config,
        setup,
        beta=rollout.beta,
        num_generations=rollout.completions,
        steps_per_generation=rollout.completions,  # makes whole groups of any micro-batch; nothing else reads it now
    )
    arguments.steps_per_generation = arguments.gradient_accumulation_steps
    trainer = rollout_trainer(setup, mixed, library, arguments, reward_funcs=[total])
    trainer.setup = setup
    return trainer


def total(**_given: Any) -> list[float]:
    """Stands where the library wants a reward function, with the name of its metrics; `_calculate_rewards` is ours."""
    raise NotImplementedError


@contextlib.contextmanager
def seeded(seed: int, step: int) -> Generator[None]:
    """Inside the block torch draws what follows from seed and step, outside what it would have drawn."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(int(fingerprint([seed, step], length=15), 16))
        yield


_LibraryTrainer: Any = object


class Rollouts(_LibraryTrainer):
    """See the module: mixed in above `PhaseTraining`."""

    args: Any
    state: Any
    model: Any
    generation_config: Any
    generation_kwargs: dict[str, Any]
    eos_token_ids: list[int]
    step_tokens: int
    step_trained: int
    step_squares: int
    _metrics: Mapping[str, Any]
    rows: Sequence[PromptTokens]
    completions: int
    """Answers to each prompt."""

    def stop_at(self, ends: set[int]) -> None:
        """Let an answer end at these tokens too: not every model's configuration names its template's own."""
        self.eos_token_ids = sorted({*self.eos_token_ids, *ends})
        self.generation_config.eos_token_id = self.generation_kwargs["eos_token_id"] = self.eos_token_ids

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[Example]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Any]], None]:
        """The prompts of one step with the model's answers, what these earn, and what each micro-batch counts."""
        asked = super().get_batch_samples(epoch_iterator, num_batches, device)[0]
        if not asked:
            return [], None
        self.model.train()
        with seeded(self.args.seed, self.state.global_step), warnings.catch_warnings():
            # TRL 1.16 reads an attribute that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            batches = [self._answered(examples) for examples in asked]
        masks = [self.learned(batch) for batch in batches]
        self.step_trained = sum(int(mask.sum()) for mask in masks)
        both = [batch["prompt_mask"].sum(dim=1) + batch["completion_mask"].sum(dim=1) for batch in batches]
        lengths = [length for some in both for length in some.tolist()]
        self.step_tokens, self.step_squares = sum(lengths), sum(length**2 for length in lengths)
        for batch in batches:
            self.weigh(batch, len(batches), sum(int(mask.any(dim=1).sum()) for mask in masks))
        return batches, None

    def learned(self, batch: dict[str, Any]) -> Any:
        """Where a micro-batch has tokens of answers that are learned from."""
        return batch["completion_mask"]

    def weigh(self, batch: dict[str, Any], count: int, answers: int) -> None:
        """Say what the loss of one of `count` micro-batches is divided by; of all, `answers` are learned from."""
        raise NotImplementedError

    def _answered(self, examples: Sequence[Example]) -> dict[str, Any]:
        return self._generate_and_score_completions([each for each in examples for _ in range(self.completions)])

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Nothing is left to do; theirs would generate here."""
        return inputs

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """They are tokens already."""
        return prompts, None, {}


class RewardedRollouts(Rollouts):
    """What grpo and rloo have in common."""

    setup: Setup
    rewards: Rewards
    unknown: list[bool]
    """Of the newest answers those whose reward could not be said."""

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """With the rewards open."""
        setup = self.setup
        ledger = setup.checkpoints.parents[2] / LEDGER_NAME
        with Rewards(setup.phase.rollout.rewards, setup.models, setup.config, ledger) as self.rewards:
            return super().train(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[Example]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Any]], None]:
        """The step's micro-batches. Raises CheckFailed where none of their answers has a reward."""
        batches, counted = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and all(share == 1 for share in self._metrics["train"]["rewards/failed"]):
            raise unrewarded(self.setup.phase, self.state.global_step + 1)
        return batches, counted

    def _answered(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Of an answer without a reward nothing is learned: neither from it nor by how many they are."""
        batch = super()._answered(examples)
        known = batch["completion_mask"].new_tensor([not each for each in self.unknown])
        return batch | {"known": known[:, None]}

    def learned(self, batch: dict[str, Any]) -> Any:
        """Without answers that have no reward."""
        return batch["completion_mask"] * batch["known"]

    def _calculate_rewards(
        self, inputs: Sequence[Example], prompts: Any, completions: Sequence[str], completion_ids_list: Any
    ) -> Any:
        import torch

        before, rows = opening(self.setup.tokenizer), [self.rows[each["place"]] for each in inputs]
        earned = self.rewards.earned(
            [
                Answered(row.prompt, text.removeprefix(before), row.answer, ended=ids[-1] in self.eos_token_ids)
                for row, text, ids in zip(rows, completions, completion_ids_list, strict=True)
            ]
        )
        for name, number in earned.numbers().items():
            self._metrics["train"][name].append(number)
        self.unknown = [total is None for total in earned.totals]
        totals = [float("nan") if total is None else total for total in earned.totals]
        return torch.tensor(totals, device=self.args.device)[:, None]


class GroupLoss(RewardedRollouts):
    """grpo: the library divides by `num_items_in_batch`, scaled by its share of whole accumulations."""

    def _answered(self, examples: Sequence[Example]) -> dict[str, Any]:
        """An answer without a reward is masked: its advantage is 0, but it would be held to the parent."""
        batch = super()._answered(examples)
        if any(self.unknown):
            batch["tool_mask"] = batch["known"].expand_as(batch["completion_mask"])
        return batch

    def weigh(self, batch: dict[str, Any], count: int, answers: int) -> None:
        """The tokens of all answers of the step that are learned from."""
        whole = self.args.gradient_accumulation_steps
        batch["num_items_in_batch"] = batch["advantages"].new_tensor(self.step_trained * whole / count)


class LeaveOneOutLoss(RewardedRollouts):
    """rloo: the library takes the mean over a micro-batch, and of these the mean."""

    def weigh(self, batch: dict[str, Any], count: int, answers: int) -> None:
        """How much more or less than the other micro-batches it has."""
        batch["weight"] = len(batch["completion_mask"]) * count / max(answers, 1)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        return super()._compute_loss(model, inputs) * inputs["weight"]
