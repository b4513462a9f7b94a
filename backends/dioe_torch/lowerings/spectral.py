"""Windows, Fourier transforms and spectrograms."""

from __future__ import annotations
