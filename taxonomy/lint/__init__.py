"""Every fault of a taxonomy's leaves, with its place: `lint` finds them, `rules.yaml` says what each code stands for.

`read_leaf` refuses what has an error E1xx here, and nothing else; E13x are about the contribution, not its reading.
"""

from __future__ import annotations

from .finding import Finding
from .form import mended
from .rules import Rule, load_rules
from .run import lint
from .staged import touched

__all__ = ["Finding", "Rule", "lint", "load_rules", "mended", "touched"]
