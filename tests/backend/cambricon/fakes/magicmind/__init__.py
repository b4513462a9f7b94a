"""A strict fake of Cambricon's MagicMind, with what was seen of it in public sources and no more.

It computes through ``onnx.reference``, int8 by the ranges that calibration finds. Every attribute
says where it was seen (``SEEN`` in ``_contract.py``); an unknown one raises, and so do calls in an
order that no public sample has. What the real library does beyond that isn't known.
"""

__dioe_known_as__ = "contract"
"""What the worker looks for: no figure of this package is one of a card."""
