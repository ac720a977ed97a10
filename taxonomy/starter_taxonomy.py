"""The taxonomy that ships with tilth (`starter/`): two invented subjects no model knows, two small skills."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import TaxonomyError

FIRST_KNOWLEDGE = "knowledge/places/velmora_lighthouse"
SECOND_KNOWLEDGE = "knowledge/music/zellophar"
FREEFORM_SKILL = "compositional_skills/writing/polite_decline"
GROUNDED_SKILL = "compositional_skills/extraction/shopping_list"
STARTER_LEAVES = (FIRST_KNOWLEDGE, SECOND_KNOWLEDGE, FREEFORM_SKILL, GROUNDED_SKILL)


def starter_folder() -> Path:
    """The folder that is laid out as a taxonomy."""
    return Path(__file__).parent / "starter"


def starter_files(leaf_id: str) -> dict[str, str]:
    """The files of one of its leaves, name -> text: what `contribute.add_files` takes. Raises TaxonomyError."""
    folder = starter_folder() / leaf_id
    if not folder.is_dir():
        raise TaxonomyError(f"the starter taxonomy has no leaf {leaf_id!r}")
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()}
