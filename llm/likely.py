"""What a model might have said as well: for each token of an answer the likeliest ones, with their probabilities.

That is what a student learns from who is to stay as that model is (`train.methods.supervised`). The rest of the
probability is one sum: sparse knowledge distillation with the tail as a token of its own (arXiv 2503.16870).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

MOST = 16
"""Tokens that are kept of each place."""
_PLACE = 4 + 2
"""Bytes of a token and of its probability."""


@dataclass(frozen=True)
class Likely:
    """Of an answer: at each of its places `MOST` tokens, likeliest first, and the natural logarithms beside them.

    It was written greedily, so the first ones are what was said, its end of turn too.
    """

    tokens: list[list[int]]
    logs: list[list[float]]

    @property
    def said(self) -> list[int]:
        """The tokens of the answer."""
        return [place[0] for place in self.tokens]

    def first(self, places: int) -> Likely:
        """Of so many places."""
        return Likely(self.tokens[:places], self.logs[:places])

    def text(self) -> str:
        """For a line of JSON; logarithms in 16 bits."""
        import numpy as np

        tokens, logs = np.array(self.tokens, "<u4"), np.array(self.logs, "<f2")
        return base64.b64encode(tokens.tobytes() + logs.tobytes()).decode()

    @classmethod
    def of(cls, text: str) -> Likely:
        """What `text` wrote. Raises ValueError."""
        import numpy as np

        data = base64.b64decode(text, validate=True)
        places, rest = divmod(len(data), _PLACE * MOST)
        if rest:
            raise ValueError("not a whole number of places")
        cut = places * MOST * 4
        tokens, logs = np.frombuffer(data[:cut], "<u4"), np.frombuffer(data[cut:], "<f2")
        return cls(tokens.reshape(places, MOST).tolist(), logs.reshape(places, MOST).tolist())


NOTHING = Likely([], [])
"""Of an answer that no model gave."""
