"""Text that comes from models and files, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with what could steer a terminal written as escapes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
