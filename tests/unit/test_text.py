"""Text made safe to show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dioe.text import printable


@given(st.text())
def test_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text


def test_what_a_terminal_would_obey() -> None:
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\x0ac"
