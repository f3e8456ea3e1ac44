"""Every checkpoint that the checks run over. A group of families is one file and one line here."""

from __future__ import annotations

from tests.families import gemma, glm, idefics, internvl, llava, mistral, qwen, text
from tests.families.builder import Builder

BUILDERS: tuple[Builder, ...] = (
    *qwen.BUILDERS,
    *llava.BUILDERS,
    *internvl.BUILDERS,
    *glm.BUILDERS,
    *mistral.BUILDERS,
    *gemma.BUILDERS,
    *idefics.BUILDERS,
    *text.BUILDERS,
)
