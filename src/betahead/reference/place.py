"""Where a reference cache lies when only the data is known."""

import os
from pathlib import Path

SUFFIX = ".refcache"


def cache_beside(data: Path) -> Path | None:
    """`DATA.refcache` beside a local file or folder of data, or None when there is no such data or no room beside it.

    An existing folder of that name that cannot be written is taken too: it may hold all that is needed.
    """
    if not data.exists():
        return None
    data = data.resolve() if data.name in {"", ".."} else data
    beside = data.with_name(data.name + SUFFIX)
    return beside if beside.is_dir() or os.access(beside.parent, os.W_OK) else None


def user_cache() -> Path:
    """The folder of this user's caches: `$XDG_CACHE_HOME/betahead/reference`, or the same below `~/.cache`."""
    above = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    root = Path(above) if above.startswith("/") else Path.home() / ".cache"
    return root / "betahead" / "reference"
