"""Keeps transformers and huggingface_hub from writing on the user's terminal: libraries never print.

Inside a block they log errors only and show no progress bars; afterwards their settings are as they were.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from typing import Any


@contextlib.contextmanager
def quiet_transformers() -> Generator[None]:
    """Quieten transformers (importing it), the hub's package, which it uses, and bitsandbytes, which peft imports."""
    from transformers.utils import logging as messages

    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_hub())
        advising = logging.getLogger("bitsandbytes")  # of packages that would be faster
        stack.callback(advising.setLevel, advising.level)
        advising.setLevel(logging.ERROR)
        stack.callback(messages.set_verbosity, messages.get_verbosity())
        messages.set_verbosity_error()
        if messages.is_progress_bar_enabled():
            stack.callback(messages.enable_progress_bar)
            messages.disable_progress_bar()
        yield


@contextlib.contextmanager
def quiet_hub() -> Generator[None]:
    """Quieten huggingface_hub (importing it)."""
    from huggingface_hub import utils

    bars: Any = utils
    logger = logging.getLogger("huggingface_hub")
    with contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        if not bars.are_progress_bars_disabled():
            stack.callback(bars.enable_progress_bars)
            bars.disable_progress_bars()
        yield
