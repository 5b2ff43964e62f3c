"""The reference of the sequence world: fitted once on a machine, then found in a folder that its settings name."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from betahead.runs.machine import version_of
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.small_model import SmallModelSpec, fit_small_model


def fitted_reference(spec: SmallModelSpec, documents: int, seed: int, folder: Path | None = None) -> Path:
    """The folder of a reference fitted on the grammar world's corpus; the first call fits it.

    The fit is a function of its arguments on one kind of machine; machines that share a comparison must be of one kind,
    or be given the same folder.

    Args:
        spec: of the model.
        documents: of the corpus.
        seed: of corpus and fit.
        folder: where references lie; None is `betahead/sequence` in the user's cache folder.
    """
    facts = {"spec": asdict(spec), "documents": documents, "seed": seed, "torch": version_of("torch")}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    home = folder or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "betahead" / "sequence"
    found = home / name
    if found.is_dir():
        return found
    home.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=home))
    try:
        fit_small_model(GrammarWorld().corpus(documents, seed), making, spec=spec, seed=seed)
        try:
            making.rename(found)
        except OSError:  # another process was first, with the same result
            if not found.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return found
