"""A finished run's policy on the Hugging Face Hub: its files, its card and the head beside it, in one commit."""

from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi

from betahead.beta.files import SETTINGS, WEIGHTS
from betahead.errors import ConfigError
from betahead.runs.folder import RunFolder
from betahead.runs.model_card import FILE, card_of
from betahead.runs.redaction import redacted


def upload_policy(folder: RunFolder, name: str, *, private: bool, revision: str | None = None) -> str:
    """Put the policy of a finished run into a repository of the Hub, which is made if need be.

    Args:
        folder: of the run.
        name: of the repository, `OWNER/NAME` or `NAME`.
        private: a new repository is seen by its owner alone; an old one stays as it is.
        revision: the branch; the repository's own when None.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: the run has no policy, or the Hub does not take it.
    """
    card = card_of(folder, place=name)
    if card is None or not folder.policy.is_dir():
        raise ConfigError(f"RUN must hold a policy and a summary, but {folder.path} does not; train it to its end.")
    files = {path.relative_to(folder.policy).as_posix(): path for path in sorted(folder.policy.rglob("*"))}
    files = {place: path for place, path in files.items() if path.is_file() and place != FILE}
    files |= {place: folder.path / place for place in (SETTINGS, WEIGHTS) if (folder.path / place).is_file()}
    operations: list[Any] = [CommitOperationAdd(path_in_repo=FILE, path_or_fileobj=card.encode())]
    operations += [CommitOperationAdd(path_in_repo=place, path_or_fileobj=Path(path)) for place, path in files.items()]
    api = HfApi()
    try:
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        commit = api.create_commit(
            repository,
            operations,
            commit_message="The policy of a BetaHead run, its card and its head",
            revision=revision,
        )
    except Exception as error:  # The Hub's library raises its own, its transport's and the system's.
        reason = redacted(" ".join(str(error).split()).rstrip("."))[:300] or type(error).__name__
        raise ConfigError(
            f"`--to` must be a repository that the Hub lets you write to, but {name!r} is not ({reason}); log in with "
            "`hf auth login`, or choose another name."
        ) from error
    return str(commit.commit_url)
