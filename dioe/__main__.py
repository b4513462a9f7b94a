"""``python -m dioe`` is the ``dioe`` command."""

from __future__ import annotations

from dioe.cli import main

if __name__ == "__main__":
    main()
