"""What every method's row can say of itself."""

from __future__ import annotations

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

    def ids(self) -> Any:
        """All that the model is given, as JSON: two rows are equal if this is."""
        ...
