"""Backends on Cambricon MLU cards, in worker processes on the Python that the vendor supports.

``cambricon.magicmind`` compiles whole subgraphs, in fp32, fp16 and int8; ``cambricon.torch`` runs
them op by op on torch_mlu, in fp32 and fp16. The Python is named by the environment variable
``DIOE_CAMBRICON_PYTHON``; nothing is started where it isn't set. What an owner of a card does, and
what was never run on one, is in docs/cambricon.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dioe.types import Backend


def backends() -> list[Backend]:
    """The backends of this plugin. Called by every user of DIOE, so nothing heavy is imported."""
    from dioe_cambricon.backend import MagicMindBackend
    from dioe_cambricon.torch_backend import TorchMluBackend

    return [MagicMindBackend(), TorchMluBackend()]
