"""What a run makes of a prompt: β and its causes, and answers of policy and reference."""

from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import cast

from betahead.data.rows import Row
from betahead.data.templates import PromptRenderer
from betahead.evaluate.both_models import as_reference, token_logps_of_both
from betahead.evaluate.generate import Prompt, sample_answers
from betahead.evaluate.prompts import PromptView
from betahead.explore.pieces import Piece, pieces_of
from betahead.runs.inspected import Inspector
from betahead.runs.opened import OpenedRun
from betahead.train.sizes import check_room

WHERE = "typed"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are sampled.

    Args:
        max_new_tokens: an answer is cut there.
        temperature: 1 samples from a model as it is, 0 takes the likeliest token.
        seed: the same gives the same answers.
    """

    max_new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of one model, as both see it.

    Args:
        by: whose it is.
        pieces: its text, in order.
        cut: whether it was cut before its end.
    """

    by: str
    pieces: tuple[Piece, ...]
    cut: bool

    @property
    def log_ratio(self) -> float:
        """log π_θ(y|x) − log π_ref(y|x), nats."""
        return sum(piece.log_ratio for piece in self.pieces)

    @property
    def tokens(self) -> int:
        """Its length, end included."""
        return sum(piece.tokens for piece in self.pieces)


class Explorer:
    """An opened run that is asked one thing at a time, by however many threads.

    Args:
        opened: the run.
    """

    def __init__(self, opened: OpenedRun) -> None:
        self.opened = opened
        self.inspector = Inspector(opened)
        # Turning adapters off and seeding touch the model and the process.
        self._alone = Lock()

    def view(self, prompt: str) -> PromptView:
        """β of a prompt, its causes, and where it lies, as `betahead inspect` has them.

        Raises:
            DataError: for a prompt that is empty, refused by the chat template, or too long.
            ConfigError: for a rule that has no β of a prompt.
        """
        with self._alone:
            return self.inspector.views(self.inspector.records([_row(prompt)]))[0]

    def answers(self, prompt: str, sampling: Sampling) -> tuple[Answer, Answer]:
        """An answer of the policy and one of the reference.

        Raises:
            DataError: as `view` does.
            ConfigError: for settings out of their range.
        """
        with self._alone:
            (record,) = self.inspector.records([_row(prompt)])
            ids = cast("list[int]", list(record["prompt_ids"]))
            policy, reference = self.opened.model.policy, self.opened.reference_model
            check_room(policy, len(ids), sampling.max_new_tokens, "longest answer")
            of_policy = self._sampled(ids, sampling, by_reference=False)
            of_reference = self._sampled(ids, sampling, by_reference=True)
            # Each row alone, so that an answer's numbers do not depend on the other's length.
            scored = [token_logps_of_both(policy, reference, [(ids, one)])[0] for one in (of_policy, of_reference)]
        made = [
            Answer(
                by=by,
                pieces=tuple(pieces_of(self.opened.tokenizer, found, logps)),
                cut=found[-1] not in self._ends,
            )
            for by, found, logps in zip(("policy", "reference"), (of_policy, of_reference), scored, strict=True)
        ]
        return made[0], made[1]

    def _sampled(self, ids: Prompt, sampling: Sampling, *, by_reference: bool) -> list[int]:
        policy = self.opened.model.policy
        kept_apart = self.opened.reference_model if by_reference else policy
        with as_reference(policy, kept_apart) as model:
            return sample_answers(
                model,
                self.opened.tokenizer,
                [ids],
                samples=1,
                max_new_tokens=sampling.max_new_tokens,
                seed=sampling.seed,
                eos_token_ids=self._ends,
                temperature=sampling.temperature,
            )[0][0]

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        return tuple(PromptRenderer(self.opened.tokenizer, self.opened.config.data.prompt_template).end_ids)


def _row(prompt: str) -> Row:
    return Row(values={"prompt": prompt}, where=WHERE)
