"""See ``magicmind``."""
