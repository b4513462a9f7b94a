"""Node cases that the lowerings fail, and why. A case that passes has to leave this list."""

KNOWN: dict[str, str] = {}
