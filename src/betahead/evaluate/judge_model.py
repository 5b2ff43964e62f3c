"""A language model as a judge: asked twice about every match, with the answers in both orders.

A side wins where both orders say so. Two ties, a tie and a side, or two orders that disagree are a tie; a reply without
a verdict in either order leaves the match unjudged. Equal answers are a tie without being asked about.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

from betahead.evaluate.judge_cache import JudgementCache, Reply, key_of
from betahead.evaluate.judge_cost import Outlay, Spent
from betahead.evaluate.judge_endpoint import Endpoint
from betahead.evaluate.judge_words import messages_of, verdict_in
from betahead.evaluate.matches import Judgement, Match

# English prose has about four characters a token; a guess for the cost that is shown beforehand, nothing else.
_CHARACTERS_PER_TOKEN = 4


@dataclass(kw_only=True)
class ModelJudge:
    """A judge behind an endpoint.

    Args:
        endpoint: where it is asked.
        cache: of its replies.
        workers: questions at the same time.
        spent: what the questions have cost so far, by the provider's count.
    """

    endpoint: Endpoint
    cache: JudgementCache
    workers: int = 8
    spent: Spent = field(default_factory=Spent)

    @property
    def name(self) -> str:
        """The words that name the judge in a report."""
        return f"{self.endpoint.model} at {self.endpoint.base_url}"

    def outlay(self, matches: Sequence[Match]) -> Outlay:
        """What judging these matches will cost at most: a guess of what is sent, and replies of full length."""
        bodies = self._bodies(matches)
        new = {key: body for key, body in bodies.items() if self.cache.reply(key) is None}
        sent = sum(len(message["content"]) for body in new.values() for message in body["messages"])
        return Outlay(
            requests=len(new),
            kept=len(bodies) - len(new),
            tokens_in=-(-sent // _CHARACTERS_PER_TOKEN),
            tokens_out=len(new) * self.endpoint.max_tokens,
        )

    def judgements(self, matches: Sequence[Match], progress: Callable[[int], None] = lambda _: None) -> list[Judgement]:
        """One judgement a match; every reply is on the disk before the next question of its thread.

        Raises:
            ConfigError, DataError: see `Endpoint.reply`.
            CacheError: the cache cannot be read or written.
        """
        replies = self._replies(self._bodies(matches), progress, len(matches))
        return [self._judgement(match, replies) for match in matches]

    def _questions(self, match: Match) -> list[dict[str, Any]]:
        if match.answer == match.other:
            return []
        orders = ((match.answer, match.other), (match.other, match.answer))
        return [self.endpoint.body(messages_of(match.prompt, *order)) for order in orders]

    def _bodies(self, matches: Sequence[Match]) -> dict[str, dict[str, Any]]:
        return {key_of(self.endpoint.url, body): body for match in matches for body in self._questions(match)}

    def _replies(
        self, bodies: dict[str, dict[str, Any]], progress: Callable[[int], None], matches: int
    ) -> dict[str, Reply]:
        found = {key: reply for key in bodies if (reply := self.cache.reply(key)) is not None}
        new = {key: body for key, body in bodies.items() if key not in found}
        self.spent = replace(self.spent, kept=self.spent.kept + len(found))
        progress(matches - (len(new) + 1) // 2)
        stop = threading.Event()

        def asked(key: str, body: dict[str, Any]) -> tuple[str, Reply] | None:
            if stop.is_set():
                return None
            try:
                reply = self.endpoint.reply(body, stop)
                self.cache.keep(key, reply)
            except BaseException:
                stop.set()  # before this thread takes its next question
                raise
            return key, reply

        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            futures = [pool.submit(asked, key, body) for key, body in new.items()]
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    answered = future.result()
                    if answered is None:
                        continue
                    key, reply = answered
                    found[key] = reply
                    self.spent = self.spent.plus(reply)
                    progress(number % 2)
            except BaseException:  # also an interruption: what is not asked yet stays unasked
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _judgement(self, match: Match, replies: dict[str, Reply]) -> Judgement:
        bodies = self._questions(match)
        if not bodies:
            return Judgement(outcome=0.5)
        said = [_said(replies[key_of(self.endpoint.url, body)]) for body in bodies]
        sides = tuple(
            {"1": sides[0], "2": sides[1]}.get(verdict, verdict)
            for verdict, sides in zip(said, (("answer", "other"), ("other", "answer")), strict=True)
        )
        if not {"nonsense", "cut"}.isdisjoint(sides):
            return Judgement(outcome=None, orders=sides)
        if sides[0] != sides[1] or sides[0] == "tie":
            return Judgement(outcome=0.5, orders=sides)
        return Judgement(outcome=1.0 if sides[0] == "answer" else 0.0, orders=sides)


def _said(reply: Reply) -> str:
    """The verdict of a reply; one that ended at its limit before there was any is `cut`."""
    verdict = verdict_in(reply.text)
    return "cut" if verdict == "nonsense" and reply.cut else verdict
