"""The words that started a run: its own, and those of the launcher that started it on several ranks."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from betahead.runs.redaction import redacted_words
from betahead.train.ranks import launched


def command_words() -> list[str]:
    """The words that repeat what this process does, those of its launcher included as far as they can be known."""
    return _launching_words() or ["betahead", *sys.argv[1:]]


def how_to_go_on() -> str:
    """The command that resumes this run, for a sentence; a secret in it is blotted out, because a screen is kept.

    It is to be asked for early, because a launcher that is told to stop may be gone before its ranks are.
    """
    words = command_words()
    command = shlex.join(redacted_words([*words, *([] if "--resume" in words else ["--resume"])]))
    known = not launched() or _launching_words() is not None
    return f"`{command}`" if known else f"`{command}`, launched on {os.environ.get('WORLD_SIZE', '1')} ranks as before,"


def _launching_words() -> list[str] | None:
    """The words of the launcher; None without one, and where the system does not tell (only Linux does)."""
    own = sys.argv[1:]
    if not (launched() and own):
        return None
    try:
        words = os.fsdecode(Path(f"/proc/{os.getppid()}/cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return None
    # Launchers end in the words of what they launch; anything else is another parent, such as a shell.
    return _by_name(words) if words[-len(own) :] == own else None


def _by_name(words: list[str]) -> list[str]:
    """`accelerate launch …` for `/some/bin/python /some/bin/accelerate launch …`."""
    if len(words) > 1 and Path(words[1]).is_file():
        name = Path(words[1]).name
        found = shutil.which(name)
        if found is not None and Path(found).samefile(words[1]):
            return [name, *words[2:]]
    return words
