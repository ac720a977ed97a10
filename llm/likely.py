"""What a model might have said as well: for each token of an answer the likeliest ones, with their probabilities.

That is what a student learns from who is to stay as that model is (`train.methods.supervised`). The rest of the
probability is one sum: sparse knowledge distillation with the tail as a token of its own (arXiv 2503.16870).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST = 128
"""Tokens that are kept of each place: 16 do not hold a student where it is, 128 do as well as all (docs/log.md)."""
_PLACE = 4 + 2
"""Bytes of a token and of its probability."""


@dataclass(frozen=True)
class Likely:
    """Of an answer: at each of its places `MOST` tokens, likeliest first, and the natural logarithms of their shares.

    It was written greedily, so the first ones are what was said, its end of turn too. It is kept as it stands in a line
    of JSON, in base64: all tokens in 32 bits, then all logarithms in 16.
    """

    text: str = ""

    @classmethod
    def made_of(cls, tokens: Sequence[Sequence[int]], logs: Sequence[Sequence[float]]) -> Likely:
        """Of both, place by place."""
        import numpy as np

        return cls(base64.b64encode(np.array(tokens, "<u4").tobytes() + np.array(logs, "<f2").tobytes()).decode())

    def arrays(self) -> tuple[Any, Any]:
        """Tokens and logarithms, (places, `MOST`). Raises ValueError where the text is no such thing."""
        import numpy as np

        data = base64.b64decode(self.text, validate=True)
        places, rest = divmod(len(data), _PLACE * MOST)
        if rest:
            raise ValueError("not a whole number of places")
        shape, cut = (places, MOST), places * MOST * 4
        return np.frombuffer(data[:cut], "<u4").reshape(shape), np.frombuffer(data[cut:], "<f2").reshape(shape)

    @property
    def said(self) -> list[int]:
        """The tokens of the answer."""
        return self.arrays()[0][:, 0].tolist()

    def without_last(self, places: int) -> Likely:
        """Of all places but so many."""
        tokens, logs = self.arrays()
        left = max(0, len(tokens) - places)
        return Likely.made_of(tokens[:left], logs[:left])


NOTHING = Likely()
"""Of an answer that no model gave."""
