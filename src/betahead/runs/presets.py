"""The presets that ship with the package: complete, commented configurations to start from."""

import difflib
from pathlib import Path

from betahead.data.paths import path_kind, with_home
from betahead.errors import ConfigError

FOLDER = Path(__file__).parent.parent / "presets"


def preset_names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_summary(name: str) -> str:
    """The first sentence of a preset's opening comment."""
    text = preset_path(name).read_text(encoding="utf-8")
    comment = " ".join(line.removeprefix("#").strip() for line in text.partition("\n\n")[0].splitlines())
    return comment.partition(". ")[0].rstrip(".") + "."


def preset_path(name: str) -> Path:
    """The file of a preset.

    Raises:
        ConfigError: for a name that is none.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(f"PRESET must be one of {', '.join(names)}, but is {name!r} instead{_hint(name, names)}.")
    return FOLDER / f"{name}.yaml"


def config_path(name_or_path: str) -> Path:
    """The configuration file that a person means: a path, or the name of a preset where no such file lies.

    Raises:
        ConfigError: for neither.
    """
    path = with_home(name_or_path)
    names = preset_names()
    kind = path_kind(path, str(path))
    if kind == "file" or (name_or_path not in names and kind != "nothing"):
        return path
    if name_or_path in names:
        return FOLDER / f"{name_or_path}.yaml"
    raise ConfigError(
        f"CONFIG must be a YAML file or a preset, but {name_or_path} is neither"
        f"{_hint(name_or_path, names)}; `betahead init --list` shows the presets."
    )


def write_preset(name: str, target: Path, *, force: bool = False) -> Path:
    """Write a preset to a file for a person to change, and return the file.

    Args:
        name: of the preset.
        target: the file, or an existing folder to put NAME.yaml in.
        force: overwrite a file.

    Raises:
        ConfigError: for an unknown preset, a file that exists, or a place that cannot be written.
    """
    text = preset_path(name).read_text(encoding="utf-8")
    target = with_home(target)
    if target.is_dir():
        target = target / f"{name}.yaml"
    if target.exists() and not force:
        raise ConfigError(f"{target} must not exist yet, but does; choose another path or add --force.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target} must be writable, but is not ({error.strerror}); choose another path.") from error
    return target


def _hint(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(Path(name).stem, names, n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""
