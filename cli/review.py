"""Proposals for a new leaf, decided on one by one in the terminal: what `tilth add --suggest` shows.

A line is read for each, so that any terminal will do. Ctrl-C or Ctrl-D ends the review and keeps what was accepted.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence

from ..core.errors import TilthError
from ..sdg.suggest import without_copies
from ..taxonomy.leaf import SeedExample, SeedPair
from ..taxonomy.scaffold import NUM_PAIRS, NUM_SEEDS, Draft
from .terminal import columns, printable

Ask = Callable[[str, str], str]
"""Shows a prompt and, to be edited, a text; returns the line that was typed."""

_KEYS = "[a]ccept  [e]dit  [d]rop  [n]ext passage  [q]uit: "


class _Quit(Exception):
    """The person has seen enough."""


def check_terminal() -> None:
    """Raise TilthError where nobody can be asked."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fix = "run it in a terminal, or accept all proposals unread with --accept-all"
        raise TilthError("--suggest asks about each proposal, and this is no terminal", fix=fix)


def review(proposed: Draft, ask: Ask | None = None) -> Draft:
    """What the person kept of the proposals, edited where they wished. `ask`: how lines are read."""
    return _Review(ask or _typed).of(proposed)


class _Review:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._seeds: list[SeedExample] = []
        self._held_out: list[SeedPair] = []
        self._texts: dict[str, str] = {}

    def of(self, proposed: Draft) -> Draft:
        try:
            self._decide(proposed)
        except (_Quit, KeyboardInterrupt, EOFError):
            print("\nthe rest is left out; what you accepted is kept")
        return Draft(
            task_description=proposed.task_description,
            domain=self._texts.get("domain", ""),
            document_outline=self._texts.get("outline", ""),
            seed_examples=tuple(self._seeds),
            held_out=tuple(self._held_out),
        )

    def _decide(self, proposed: Draft) -> None:
        print("Every line is the teacher's proposal: keep what is right and what you would have asked yourself.")
        for name, text in (("domain", proposed.domain), ("outline", proposed.document_outline)):
            if text:
                print()
                _show(f"{name}: {text}", "  ")
                self._texts[name] = self._text(text)
        for number, seed in enumerate(proposed.seed_examples, start=1):
            self._seed(seed, f"Seed example {number} of {len(proposed.seed_examples)}")
        held_out = without_copies(proposed.held_out, self._seeds)
        if held_out:
            print("\nHeld-out questions: the model is examined on them, and never trained on them.")
        self._pairs(held_out, self._held_out, "aedq")

    def _seed(self, seed: SeedExample, title: str) -> None:
        """A passage with its questions, or a task; it is kept if any of them is."""
        print(f"\n{title}")
        if seed.context:
            _show(seed.context, "  | ")
        kept: list[SeedPair] = []
        try:
            self._pairs(seed.pairs, kept, "aednq" if len(seed.pairs) > 1 else "aedq")
        finally:
            if kept:
                self._seeds.append(SeedExample(context=seed.context, pairs=tuple(kept)))

    def _pairs(self, pairs: Sequence[SeedPair], kept: list[SeedPair], keys: str) -> None:
        """Add to `kept`, at once, each pair that is accepted."""
        for pair in pairs:
            print()
            _show(f"Q: {pair.question}", "  ")
            _show(f"A: {pair.answer}", "  ")
            match self._key(keys):
                case "a":
                    kept.append(pair)
                case "e":
                    question = self._edited("Q: ", pair.question)
                    kept.append(SeedPair(question=question, answer=self._edited("A: ", pair.answer)))
                case "n":
                    return
                case _:
                    pass

    def _text(self, text: str) -> str:
        """A text of the leaf's head, as the person wants it; empty if they drop it."""
        match self._key("aedq"):
            case "a":
                return text
            case "e":
                return self._edited("   ", text)
            case _:
                return ""

    def _key(self, allowed: str) -> str:
        """One of the allowed keys. Raises _Quit for q."""
        keys = _KEYS if "n" in allowed else _KEYS.replace("[n]ext passage  ", "")
        while True:
            typed = self._ask(f"  {keys}", "").strip().lower()[:1]
            if typed == "q":
                raise _Quit
            if typed and typed in allowed:
                return typed

    def _edited(self, name: str, text: str) -> str:
        return self._ask(f"  {name}", text).strip() or text


def missing(draft: Draft, *, knowledge: bool) -> str:
    """What the draft lacks to be a whole leaf, in words; empty when nothing is."""
    least = NUM_PAIRS if knowledge else 1
    seeds = NUM_SEEDS - len(draft.seed_examples)
    pairs = sum(max(0, least - len(seed.pairs)) for seed in draft.seed_examples)
    parts = [f"{seeds} seed example(s)"] if seeds > 0 else []
    parts += [f"{pairs} question(s) of a seed example"] if pairs else []
    parts += ["held-out questions"] if knowledge and not draft.held_out else []
    return ", ".join(parts)


def _show(text: str, indent: str) -> None:
    """A text of any length and origin, within the terminal's width."""
    width = min(columns(sys.stdout), 110) - 1
    for line in text.splitlines():
        lines = textwrap.wrap(printable(line), width - len(indent), break_long_words=True) or [""]
        print("\n".join(f"{indent}{part}" for part in lines))


def _typed(prompt: str, text: str) -> str:
    """A line from the keyboard, with `text` there to be edited."""
    import readline  # only to be edited in: importing it is what makes `input` know the arrow keys

    readline.set_startup_hook(lambda: readline.insert_text(text))
    try:
        return input(prompt)
    finally:
        readline.set_startup_hook()
