"""What lies in a model's folder is data: weights are safetensors, and code beside them runs only for who trusts it."""

from pathlib import Path
from typing import Any

from betahead.errors import ConfigError, DataError

SAFETENSORS: dict[str, Any] = {"use_safetensors": True}
"""Keywords for `from_pretrained`: a pickle, which may run anything when it is read, is never opened."""

ADAPTER = "adapter_model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def refusal(name: str | Path, error: Exception) -> ConfigError | None:
    """The sentence for a model that was refused because it wants to run code; None when it failed for another reason.

    Args:
        name: folder or Hub name.
        error: what transformers said.
    """
    if "trust_remote_code" in str(error):
        return ConfigError(
            f"`trust_remote_code` must be true for a model with code of its own such as {name}, which runs when it is "
            "loaded, but is false instead; read that code, then set `trust_remote_code` (in a configuration "
            "`model.trust_remote_code: true`), or use a model that transformers knows."
        )
    pickled = _pickled(Path(name))
    if pickled is None:
        return None
    return ConfigError(
        f"`model` must have its weights as safetensors, but {name} has {pickled} instead, and reading a pickle can run "
        "any code; have its maker save it with `save_pretrained`, or convert it where nothing can be lost."
    )


def check_code_of_run(run: Path, *, asked: bool, trusted: bool) -> None:
    """Refuse a run that wants its model's code to run, unless who opens it has said so: a run folder is data.

    Such a run is not opened without that code either, because transformers may know another model by the same name.

    Args:
        run: its folder.
        asked: what its own configuration says.
        trusted: what the one who opens it says.

    Raises:
        ConfigError: asked for and not trusted.
    """
    if asked and not trusted:
        raise ConfigError(
            f"`--trust-remote-code` must be given for {run}, whose config.yaml says `model.trust_remote_code: true` "
            "and whose model's code would run when it is loaded, but is left out; read that code, then add "
            "`--trust-remote-code` (in Python `trust_remote_code=True`)."
        )


def check_adapter_weights(folder: Path) -> None:
    """Refuse an adapter that lies there as a pickle, or not at all.

    Raises:
        DataError: no adapter_model.safetensors.
    """
    if not (folder / ADAPTER).is_file():
        held = _pickled(folder)
        found = "has none" if held is None else f"has {held} instead, and reading a pickle can run any code"
        raise DataError(f"`{folder}` must hold {ADAPTER}, but {found}; save the adapter with `save_pretrained`.")


def _pickled(folder: Path) -> str | None:
    """The first pickle in a folder whose weights are no safetensors; the arguments that trainers leave are none."""
    if not folder.is_dir():
        return None
    names = sorted(entry.name for entry in folder.iterdir() if entry.name != "training_args.bin")
    if any(name.endswith(".safetensors") and name.startswith(("model", "adapter_model")) for name in names):
        return None
    return next((name for name in names if name.endswith(_PICKLES)), None)
