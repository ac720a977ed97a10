"""Proximal policy optimisation against rewards (Schulman et al., arXiv 1707.06347; for language models, 1909.08593).

TRL has dropped its trainer, so this is one of our own in the loop of transformers' `Trainer`. A step is a batch of
prompts: the model answers each (`answering`), the answers earn (`rewards`), every token costs what it is likelier than
to the model that the phase started from, a value head says what was to be expected, and the difference is learned in
`passes` over the answers, each in `minibatches` updates (`advantages`).

The value head is a linear map of the states before the output head; it is kept in the checkpoints, not in the model.
Answers follow from seed, step and weights, so a resumed run repeats them. Dropout is off: else a token's probability
would change between passes by chance.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.fingerprint import fingerprint
from ...llm.local import opening
from .. import adapters
from ..advantages import advantages, policy_losses, value_losses, whitened
from ..answering import Answers, Judged, draw, judge
from ..load import load_model, load_trained, padding_id, without_attention_dropout
from ..rewards import Answered, Rewards
from ..trainer import PhaseTraining, adapter_config, library_arguments, phase_trainer
from .prompts import PromptTokens
from .rollouts import LEDGER_NAME, prompts_of, unrewarded
from .setup import Setup

_VALUE_HEAD = "value_head.safetensors"
_GAMMA, _VALUE_CLIP = 1.0, 0.2
"""Nothing that comes later is discounted, and a value gains nothing by moving further than that in a batch: as in the
code of arXiv 1909.08593 (openai/lm-human-preferences)."""


def trainer(setup: Setup) -> Any:
    """A trainer on the prompts, ready to `train()`."""
    from transformers import Trainer, TrainingArguments

    phase, rows = setup.phase, prompts_of(setup.rows)
    model = without_attention_dropout(load_trained(setup.parent, phase))
    # To the library a step is one batch of prompts; how many answers go through the model at once is seen to here.
    whole = phase.model_copy(update={"micro_batch_size": phase.batch_size})
    made = phase_trainer(
        type("PpoTrainer", (PpoLoop, PhaseTraining, Trainer), {}),
        model,
        [row.length for row in rows],
        setup.watch,
        args=library_arguments(
            TrainingArguments,
            whole,
            setup.checkpoints,
            setup.seed,
            parameters=model.num_parameters(),
            remove_unused_columns=False,
        ),
        data_collator=list,
        train_dataset=range(len(rows)),
        peft_config=adapter_config(model, phase),
    )
    made.begin(setup, rows)
    return made


@dataclass(frozen=True)
class Experience:
    """A step's answers with what they are learned by, all of the shape of `Answers.tokens`."""

    answers: Answers
    counted: Any
    """Which tokens are learned from: those of answers whose reward is known."""
    before: Judged
    advantages: Any
    returns: Any

    def __getitem__(self, rows: Any) -> Experience:
        answers, before = self.answers[rows], self.before
        width = answers.tokens.shape[1]

        def some(numbers: Any) -> Any:
            return numbers[rows][:, :width]

        judged = Judged(some(before.log_probs), some(before.entropies), some(before.values))
        return Experience(answers, some(self.counted), judged, some(self.advantages), some(self.returns))


_LibraryTrainer: Any = object


class PpoLoop(_LibraryTrainer):
    """See the module: mixed in above `PhaseTraining`. The library's attributes that are used here are declared."""

    args: Any
    state: Any
    model: Any
    optimizer: Any
    accelerator: Any
    step_tokens: int
    step_trained: int
    step_squares: int
    _metrics: Mapping[str, Any]

    setup: Setup
    rows: Sequence[PromptTokens]
    rewards: Rewards
    value_head: Any
    _reference: Any
    _grad_norm: Any = None

    def __init__(self, *, model: Any, peft_config: Any, **given: Any) -> None:
        if peft_config:
            import peft

            model = peft.get_peft_model(model, peft_config)
            if given["args"].activation_checkpointing:
                model.enable_input_require_grads()
        super().__init__(model=model, **given)

    def begin(self, setup: Setup, rows: Sequence[PromptTokens]) -> None:
        """Make what the library's trainer does not have."""
        import torch

        self.setup, self.rows = setup, rows
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        states = self.model.get_output_embeddings().weight.shape[1]
        self.value_head = torch.nn.Linear(states, 1, device=self.args.device)
        torch.nn.init.zeros_(self.value_head.weight)  # nothing is expected until something was earned
        torch.nn.init.zeros_(self.value_head.bias)
        self._reference = self._make_reference()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """With the rewards open."""
        setup = self.setup
        ledger = setup.checkpoints.parents[2] / LEDGER_NAME
        with Rewards(setup.phase.rollout.rewards, setup.models, setup.config, ledger) as self.rewards:
            return super().train(*args, **kwargs)

    def training_step(self, _model: Any, inputs: Sequence[int], _num_items_in_batch: Any = None) -> Any:
        """A whole step: answers to the prompts, and all updates that learn from them; the mean of their losses.

        No gradient is left, so that the library's own update moves nothing.
        """
        import torch

        experience = self._experience([self.rows[place] for place in inputs])
        losses, norms = zip(*(self._update(experience[part]) for part in self._parts(experience)), strict=True)
        self._grad_norm = torch.stack(norms).mean()
        return torch.stack(losses).mean()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The library's, with the value head."""
        optimizer = super().create_optimizer(*args, **kwargs)
        optimizer.add_param_group({"params": list(self.value_head.parameters()), "weight_decay": 0.0})
        return optimizer

    def _experience(self, prompts: Sequence[PromptTokens]) -> Experience:
        """Answers to the prompts, and how much better than expected each token of them turned out."""
        import torch

        settings = self.setup.phase
        asked = [prompt for prompt in prompts for _ in range(settings.rollout.completions)]
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            ids = self._drawn(asked)
            pad = padding_id(self.setup.tokenizer)
            answers = Answers.of([each.prompt_ids for each in asked], ids, pad, self.args.device)
            before, apart = self._judged(answers)
        earned = self._earned(asked, ids)
        counted = answers.said & ~earned.isnan()[:, None]
        if not counted.any():
            raise unrewarded(settings, self.state.global_step + 1)
        rewards = -settings.rollout.beta * apart
        last = answers.said.sum(dim=1) - 1
        rewards[torch.arange(len(last), device=rewards.device), last] += earned.nan_to_num()
        better = advantages(rewards, before.values, answers.said, _GAMMA, settings.ppo.lam)
        self._note_answers(answers, before, apart)
        return Experience(answers, counted, before, whitened(better, counted), better + before.values)

    def _drawn(self, asked: Sequence[PromptTokens]) -> list[list[int]]:
        """An answer to each prompt, from random numbers that follow from seed and step."""
        import torch

        rollout = self.setup.phase.rollout
        seed = int(fingerprint([self.args.seed, self.state.global_step], length=15), 16)
        chances = torch.rand(len(asked), rollout.max_new_tokens, generator=torch.Generator().manual_seed(seed))
        found: dict[int, list[int]] = {}
        for some in self._at_once([len(each.prompt_ids) for each in asked]):
            drawn = draw(
                self.model,
                [asked[place].prompt_ids for place in some],
                chances[some],
                temperature=rollout.temperature,
                ends=self._ends(asked),
                pad=padding_id(self.setup.tokenizer),
            )
            found.update(zip(some, drawn, strict=True))
        return [found[place] for place in range(len(asked))]

    def _ends(self, asked: Sequence[PromptTokens]) -> set[int]:
        """The tokens that end an answer."""
        return {self.setup.tokenizer.eos_token_id, *(each.end_id for each in asked)}

    def _judged(self, answers: Answers) -> tuple[Judged, Any]:
        """What the model now makes of the answers, and how much likelier each token is to it than to its parent."""
        import torch

        temperature = self.setup.phase.rollout.temperature
        log_probs, entropies, values, apart = (torch.zeros_like(answers.said, dtype=torch.float32) for _ in range(4))
        for rows in self._at_once(answers.lengths):
            some = answers[rows]
            columns = slice(some.tokens.shape[1])
            now = judge(self.model, some, temperature, self._values)
            log_probs[rows, columns], entropies[rows, columns] = now.log_probs, now.entropies
            values[rows, columns] = now.values
            with self._parent() as parent:
                if parent is not None:
                    apart[rows, columns] = now.log_probs - judge(parent, some, temperature).log_probs
        return Judged(log_probs, entropies, values), apart * answers.said

    def _earned(self, asked: Sequence[PromptTokens], ids: Sequence[Sequence[int]]) -> Any:
        """What each answer earns; NaN where nobody knows."""
        import torch

        tokenizer, ends = self.setup.tokenizer, self._ends(asked)
        before = opening(tokenizer)
        texts = [tokenizer.decode(each, skip_special_tokens=True).removeprefix(before) for each in ids]
        earned = self.rewards.earned(
            [
                Answered(prompt.prompt, text, prompt.answer, ended=each[-1] in ends)
                for prompt, text, each in zip(asked, texts, ids, strict=True)
            ]
        )
        totals = [float("nan") if total is None else total for total in earned.totals]
        found = torch.tensor(totals, device=self.args.device)
        self._note(reward=found.nanmean(), **earned.numbers())
        return found

    def _update(self, experience: Experience) -> tuple[Any, Any]:
        """Learn from some answers: their loss, and the norm of its gradient."""
        import torch

        self.model.train()
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        count = experience.counted.sum()
        losses = [self._learn(experience[rows], count) for rows in self._at_once(experience.answers.lengths)]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.args.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.stack(losses).sum(), norm

    def _learn(self, experience: Experience, count: Any) -> Any:
        """Add the gradient of some answers' part of the mean over `count` tokens; that part of the loss."""
        settings, before, counted = self.setup.phase.ppo, experience.before, experience.counted
        with self.accelerator.autocast():
            now = judge(self.model, experience.answers, self.setup.phase.rollout.temperature, self._values)
        by_policy, clipped = policy_losses(now.log_probs, before.log_probs, experience.advantages, settings.clip)
        by_value = value_losses(now.values, before.values, experience.returns, _VALUE_CLIP)
        loss = (by_policy + settings.value_weight * by_value)[counted].sum() / count
        self.accelerator.backward(loss)
        if counted.any():
            self._note(clip_fraction=clipped[counted].float().mean(), value_loss=by_value.detach()[counted].mean())
        return loss.detach()

    def _parts(self, experience: Experience) -> Iterator[list[int]]:
        """The answers that each update learns from: those whose reward is known."""
        settings, known = self.setup.phase.ppo, experience.counted.any(dim=1).nonzero().flatten().tolist()
        ends = [len(known) * part // settings.minibatches for part in range(settings.minibatches + 1)]
        for number in range(settings.passes):
            rng = random.Random(f"{self.args.seed}/{self.state.global_step}/{number}")  # noqa: S311 (reproducible)
            order = rng.sample(known, len(known))
            yield from (order[start:end] for start, end in itertools.pairwise(ends) if start < end)

    def _at_once(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of answers of similar length that go through the model together."""
        order = sorted(range(len(lengths)), key=lambda place: lengths[place])
        size = self.setup.phase.micro_batch_size * self.setup.phase.rollout.completions
        yield from (order[start : start + size] for start in range(0, len(order), size))

    def _values(self, states: Any) -> Any:
        """A product that autocast leaves in float32."""
        return (states.float() * self.value_head.weight[0]).sum(dim=-1) + self.value_head.bias

    def _make_reference(self) -> Any:
        """The parent, where the model is not its parent with an adapter that can be left out."""
        phase, parent = self.setup.phase, self.setup.parent
        if not phase.rollout.beta or (phase.adapter != "none" and not (parent / adapters.FOLDER).exists()):
            return None
        return load_model(parent, phase.adapter).to(self.args.device).eval().requires_grad_(False)

    @contextlib.contextmanager
    def _parent(self) -> Generator[Any]:
        """The model that the phase started from; None where what is trained need not stay near it."""
        if self._reference is not None or not self.setup.phase.rollout.beta:
            yield self._reference
            return
        with self.model.disable_adapter():
            yield self.model

    def _note_answers(self, answers: Answers, before: Judged, apart: Any) -> None:
        said = answers.said
        self.step_trained = int(said.sum())
        self.step_tokens, self.step_squares = sum(answers.lengths), sum(length**2 for length in answers.lengths)
        length = said.sum(dim=1).float().mean()
        self._note(entropy=before.entropies[said].mean(), kl=apart.sum(dim=1).mean(), answer_tokens=length)

    def _note(self, **numbers: Any) -> None:
        for name, number in numbers.items():
            self._metrics["train"][name].append(float(number))

    def _clip_grad_norm(self, _model: Any) -> Any:
        return self._grad_norm

    def floating_point_ops(self, _inputs: Any) -> int:
        """The library would guess them from tensors that it is not given."""
        return 0

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        from safetensors.torch import save_file

        super()._save_optimizer_and_scheduler(output_dir)
        save_file(self.value_head.state_dict(), Path(output_dir) / _VALUE_HEAD)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        from safetensors.torch import load_file

        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.value_head.load_state_dict(load_file(Path(checkpoint) / _VALUE_HEAD))
