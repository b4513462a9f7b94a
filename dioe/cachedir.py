"""Where DIOE keeps what it may throw away: one rule for every cache of the process.

``DIOE_CACHE_DIR`` if it is set, else the user's cache directory (``~/.cache/dioe`` on Linux).
"""

from __future__ import annotations

import os
from pathlib import Path

from dioe.types import ConfigError

ENVIRONMENT_VARIABLE = "DIOE_CACHE_DIR"


def cache_dir() -> Path:
    """The root of DIOE's caches, absolute; it need not exist yet.

    Reads the environment at every call. Raises ConfigError if it names something that is there
    but is no directory.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        import platformdirs  # only where the rule needs it: `import dioe` stays light

        return platformdirs.user_cache_path("dioe", appauthor=False)
    path = Path(named).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ConfigError(
            "the cache directory is not a directory",
            place=f"{ENVIRONMENT_VARIABLE}={named}",
            fix=f"let {ENVIRONMENT_VARIABLE} name a directory that you may write to, or unset it",
        )
    return path
