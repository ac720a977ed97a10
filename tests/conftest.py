"""For all tests: hypothesis without its clock (a busy machine is no failure), and with the same examples every time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tilth", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("tilth")
