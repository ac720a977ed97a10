"""What every method's row can say of itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol


class Row(Protocol):
    """One record as token ids."""

    @property
    def length(self) -> int:
        """Tokens that go through the model at once, which `max_length` bounds."""
        ...

    @property
    def tokens(self) -> int:
        """All tokens that go through the model."""
        ...

    @property
    def trained(self) -> int:
        """Tokens that carry loss, as far as that is known before training."""
        ...

    @property
    def places(self) -> Collection[int]:
        """Where they are, counted as the columns of a padded batch of such rows; none where no logits are needed."""
        ...

    def ids(self) -> Any:
        """All that the model is given, as JSON: two rows are equal if this is."""
        ...
