"""What a phase may say beyond its method, data and learning rate: a section of its YAML each."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..core.config import Amount, Section, Share

Positive = Amount
Above0 = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def auto(value: object) -> object:
    """`auto` as None."""
    return None if value == "auto" else value


AutoNumber = Annotated[Above0 | None, BeforeValidator(auto)]
"""`auto` in YAML is None here: a number that `auto.resolve` chooses."""
AutoCount = Annotated[Positive | None, BeforeValidator(auto)]


def _budget(value: object) -> object:
    if value and not re.fullmatch(r"[1-9][0-9]{0,11} (samples|tokens)", str(value)):
        raise ValueError("at_most is a number and what it counts: write `500 samples` or `20000 tokens`")
    return value


Weighting = Literal["uniform", "age", "loss"]


class Replay(Section):
    """Older samples mixed into a phase: shares of the samples that it trains on, a budget, or both (`replay.py`)."""

    earlier_phases: Share = 0.0
    """Samples that are new in earlier phases of the plan and not in this one, of kinds that its method can use."""
    earlier_cycles: Share = 0.0
    """Samples of earlier contributions, of every kind that the plan trains."""
    general: Share = 0.0
    """Conversations of `general_file`; without one, shipped prompts that the base model answers."""
    general_file: str = ""
    """A general instruction set of the user's, by its path from the plan's folder: JSON lines, each
    `{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}`."""
    self_generated: Share = 0.0
    """Prompts of earlier contributions, answered by the release that training starts from, before it does."""
    at_most: Annotated[str, BeforeValidator(_budget)] = ""
    """A budget for all of it in an epoch, `500 samples` or `20000 tokens`: each source has its share's part of it.

    Without any share it is spent half on earlier phases and half on earlier cycles, or whole on one of them where the
    other has nothing. A sample that no longer fits is passed over for smaller ones.
    """
    per_leaf: Positive | None = None
    """No more samples of any one leaf than this, from each source."""
    weight: Weighting = "uniform"
    """Which samples are drawn rather than others: none; those that were trained longest ago (in cycles); those that
    the last model found hardest, which is then measured at the end of every run."""

    @property
    def shares(self) -> float:
        """All of them together."""
        return self.earlier_phases + self.earlier_cycles + self.general + self.self_generated

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shares >= 1:
            raise ValueError("the replay shares must add up to less than 1, so that there is room for new samples")
        if self.general_file and not self.general:
            raise ValueError("replay.general_file has the samples, and replay.general is their share: write that too")
        if not self.shares and not self.at_most and self != Replay.model_construct():
            raise ValueError("nothing is replayed: give at least one source a share above 0, or `at_most` a budget")
        return self


class Lora(Section):
    """A low-rank adapter on every linear layer but the output head.

    Source: Hu et al., LoRA, arXiv 2106.09685; all linear layers as in "LoRA Learns Less and Forgets Less", 2405.09673.
    """

    rank: Positive = 32
    """How many columns the two matrices of an adapted layer have."""
    alpha: Above0 = 16.0
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of the adapter's inputs that a step leaves out; with sft and pretrain, the other methods have none."""
    merge: bool = True
    """Merged into the model when the phase ends; false: the next phase goes on with the adapter."""


class Preference(Section):
    """Learning from pairs.

    Source: Rafailov et al., DPO, arXiv 2305.18290; Ethayarajh et al., KTO, arXiv 2402.01306.
    """

    beta: Above0 = 0.1
    """How strongly the model is held to the one it started from."""


class Reward(Section):
    """One part of what an answer earns. Exactly one of the four is set."""

    answer: Literal["exact", "normalised"] | None = None
    """1 for the answer of the sample, compared as it stands or as the evaluation compares it, else 0."""
    function: str = ""
    """A function of the user's, `file.py:name`; it is given the question, the answer and the sample's answer, as text,
    and returns a number."""
    model: str = ""
    """The name of an earlier `reward` phase of the plan, or the folder of a reward model."""
    judge: bool = False
    """The judge of `tilth.yaml` grades the answer: 0 to 1."""
    weight: float = 1.0
    """What it counts for among the rewards; below 0 for what is not wanted."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [bool(self.answer), bool(self.function), bool(self.model), self.judge].count(True) != 1:
            raise ValueError("a reward has exactly one of answer, function, model and judge")
        return self


class Rollout(Section):
    """Answers that the model gives while it is trained."""

    completions: Positive = 8
    """Answers to each prompt."""
    max_new_tokens: Positive = 64
    """Longest answer."""
    temperature: Above0 = 1.0
    """At which answers are drawn: below 1 the likelier ones more often."""
    beta: NotNegative = 0.0
    """The weight of the divergence from the model that the phase started from."""
    rewards: tuple[Reward, ...] = ()
    """They are added up with their weights. For distill none is needed."""


class Distill(Section):
    """On-policy distillation: the model answers, the teacher's probabilities of each token are what it learns.

    Source: Agarwal et al., arXiv 2306.13649. The teacher shares the student's tokenizer.
    """

    teacher: str
    """The folder of a model on this machine, or `parent`: the model that the plan starts from, to get back what earlier
    phases made it forget."""
    divergence: Share = 1.0
    """0: forward KL, 1: reverse KL, between: the generalised Jensen-Shannon divergence."""


class Ppo(Section):
    """Proximal policy optimisation. Source: Schulman et al., arXiv 1707.06347; for language models 1909.08593."""

    clip: Above0 = 0.2
    """How far one batch of answers may move the probability of a token: to between 1 - clip and 1 + clip times."""
    value_weight: NotNegative = 0.1
    """What the loss of the value head counts for beside the policy's."""
    lam: Share = 0.95
    """Of the generalised advantage estimate (Schulman et al., arXiv 1506.02438)."""
    passes: Positive = 4
    """Over each batch of answers."""
    minibatches: Positive = 1
    """Updates in each pass, every one on its share of the answers."""


class Selection(Section):
    """Which of a phase's epochs becomes its model, and whether training ends early (`selection.py` has the rules).

    Loss on samples held back is the cheapest sign of over-fitting, but not the last word: it often rises while answers
    still get better (InstructGPT went on for 16 epochs though that loss rose after the first; arXiv 2203.02155, 3.5).
    The most questions right is what counts; but the best of several noisy numbers is flattered, so the questions that
    choose must not be those that judge: the cycle gives selection generated questions only and scores none of them.
    """

    by: Literal["auto", "last", "validation_loss", "held_out"] = "auto"
    """The last epoch; the one with the lowest loss on the samples held back; or the one that answers the most
    generated held-out questions rightly. `auto`: validation_loss where enough samples are held back, else last."""
    validation: Annotated[float | None, Field(ge=0, le=0.5), BeforeValidator(auto)] = None
    """The share of the phase's new samples that no phase trains and that are measured after every epoch.

    `auto`: a twentieth where that is enough to choose by, else none; with `by: validation_loss` always some, up to a
    fifth of few.
    """
    patience: Annotated[int, Field(ge=0)] = 0
    """Training ends after so many epochs without a better one; 0: it does not."""
    keep: Positive = 1
    """So many of the best epochs are left as models: the best as the phase's, the others beside it, `model-epoch-N`."""

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if self.by == "validation_loss" and self.validation == 0:
            raise ValueError("selection by validation_loss needs a `validation` share above 0")
        for name, asked in (("patience", self.patience > 0), ("keep", self.keep > 1)):
            if asked and self.by in {"auto", "last"}:
                raise ValueError(f"{name} needs `by: validation_loss` or `by: held_out`, which say what is better")
        return self


class TooLong(Section):
    """What becomes of samples with more tokens than `max_length`."""

    policy: Literal["drop", "cut"] = "drop"
    """Leave such a sample out, or (sft) train its beginning."""
    lost_share: Share = 0.005
    """If more of the trained tokens than this would be lost, the phase refuses."""
