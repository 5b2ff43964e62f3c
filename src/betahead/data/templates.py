"""Prompts as the model reads them: the tokenizer's chat template for the prompt, its end-of-turn for the answers.

Answers are appended to the rendered prompt and never rendered themselves: templates rewrite assistant messages (that of
DeepSeek-R1-Distill deletes everything up to `</think>`), and what they rewrite would not be trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from betahead.data.conversations import Message
from betahead.data.formats import Pair
from betahead.data.rows import RowError, cut
from betahead.data.spans import content_spans, probe
from betahead.data.transcripts import label_spans
from betahead.errors import ConfigError, DataError

PromptTemplate = Literal["auto", "none"]

_THINK = "<think>"


@dataclass(frozen=True, kw_only=True)
class RenderedPair:
    """A prompt as the model reads it and two answers as they follow it.

    Args:
        prompt: the whole text before the answer.
        chosen: the preferred answer without its end-of-turn token.
        rejected: the other answer.
        contents: character spans of the prompt that are words of a message, not of the template; None if the template
            rewrites its messages, so that they cannot be found again.
        reopened: True if a `<think>` that the prompt already ends with was taken off an answer.
    """

    prompt: str
    chosen: str
    rejected: str
    contents: tuple[tuple[int, int], ...] | None
    reopened: bool = False


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot end an answer, pad a batch or tell its longest text.

    Raises:
        DataError: no eos token, no pad token, or a `model_max_length` that is no number.
    """
    name = tokenizer.name_or_path or type(tokenizer).__name__
    longest: Any = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        raise DataError(
            f"`model_max_length` of the tokenizer {name} must be a number, but is {cut(repr(longest))} instead; "
            "correct its tokenizer_config.json."
        )
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"the tokenizer must have an end-of-sequence token, but {name} has none; name one that its vocabulary "
            'holds, `tokenizer.eos_token = "…"`, and save it again.'
        )
    if tokenizer.pad_token_id is None:
        raise DataError(
            f"the tokenizer must have a padding token, but {name} has none; set `tokenizer.pad_token = "
            "tokenizer.eos_token` (padding is masked everywhere) and save it again."
        )


class PromptRenderer:
    """Renders pairs for one tokenizer, and knows which ids start a text and end an answer.

    Args:
        tokenizer: with or without a chat template.
        prompt_template: `auto` uses the chat template if there is one; `none` takes texts as they are.

    Raises:
        ConfigError: another `prompt_template`.
        DataError: a tokenizer without eos or pad token, or a chat template that cannot render one question and answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_template: str = "auto") -> None:
        if prompt_template not in ("auto", "none"):
            raise ConfigError(
                f"`data.prompt_template` must be `auto` or `none`, but is {prompt_template!r} instead; `auto` uses the "
                "tokenizer's chat template if it has one, `none` the prompt's text as it is."
            )
        check_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.templated = prompt_template == "auto" and bool(tokenizer.chat_template)
        self._why_plain = "`data.prompt_template` is `none`" if prompt_template == "none" else "it has no chat template"
        self._skeletons: dict[tuple[str, ...], str] = {}
        self.end_text, self.end_ids = self._end_of_turn() if self.templated else self._end_of_text()
        # The chat template writes its own beginning of text; a plain text gets what the tokenizer puts before it.
        self.start_ids: tuple[int, ...] = () if self.templated else self._start_ids()

    def render(self, pair: Pair) -> RenderedPair:
        """The prompt's text with its generation prompt, and both answers.

        Raises:
            RowError: messages that the chat template refuses.
            DataError: a conversation for a tokenizer without a chat template.
        """
        contents: tuple[tuple[int, int], ...] | None
        chosen, rejected = pair.chosen, pair.rejected
        if self.templated:
            messages = _as_messages(pair.prompt)
            prompt = self._templated(messages, pair.where)
            contents = content_spans(prompt, [message["content"] for message in messages], self._skeleton(messages))
        elif pair.transcript:
            prompt = pair.transcript
            contents = tuple(label_spans(prompt)[:-1])
            chosen, rejected = f" {chosen}", f" {rejected}"
        else:
            prompt = self._plain(pair)
            contents = ((0, len(prompt)),)
        chosen, rejected = (self._without_end(answer) for answer in (chosen, rejected))
        opened = [_without_think(prompt, answer) for answer in (chosen, rejected)]
        return RenderedPair(
            prompt=prompt,
            chosen=opened[0],
            rejected=opened[1],
            contents=contents,
            reopened=opened != [chosen, rejected],
        )

    def _templated(self, messages: Sequence[Message], where: str) -> str:
        try:
            return self._applied(messages, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError) as error:
            roles = cut(", ".join(cut(message["role"]) for message in messages), 200)
            raise RowError(
                "refused by the chat template",
                where,
                f"the messages must fit the tokenizer's chat template, but it refuses the roles {roles} ({error}); "
                "correct or remove the row.",
            ) from None

    def _plain(self, pair: Pair) -> str:
        if isinstance(pair.prompt, str):
            return pair.prompt
        if len(pair.prompt) == 1 and pair.prompt[0]["role"] == "user":
            return pair.prompt[0]["content"]
        name = self.tokenizer.name_or_path or type(self.tokenizer).__name__
        raise DataError(
            f"{pair.where}: a conversation of {len(pair.prompt)} messages must go through a chat template, but with "
            f"the tokenizer {name} {self._why_plain}; set `tokenizer.chat_template` (and `data.prompt_template: auto`) "
            "or give prompts as text."
        )

    def _skeleton(self, messages: Sequence[Message]) -> str:
        roles = tuple(message["role"] for message in messages)
        if roles not in self._skeletons:
            probes = [Message(role=role, content=probe(number)) for number, role in enumerate(roles)]
            self._skeletons[roles] = self._applied(probes, add_generation_prompt=True)
        return self._skeletons[roles]

    def _applied(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        conversation = cast("Any", [dict(message) for message in messages])
        text = self.tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return cast("str", text)

    def _end_of_turn(self) -> tuple[str, tuple[int, ...]]:
        """What the template writes after an assistant's words, without white space; eos if it writes nothing."""
        answer = probe(1)
        conversation = [Message(role="user", content=probe(0)), Message(role="assistant", content=answer)]
        try:
            rendered = self._applied(conversation, add_generation_prompt=False)
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(
                "the tokenizer's chat template must render a question and its answer, but fails "
                f"({error}); correct it or set `data.prompt_template: none`."
            ) from None
        if answer not in rendered:
            raise DataError(
                "the tokenizer's chat template must write out an assistant message, but drops it; correct it or set "
                "`data.prompt_template: none`."
            )
        after = rendered.rpartition(answer)[2].strip()
        ids = self._ids_of(after)
        if not ids:
            return self._end_of_text()
        # Some templates write more than the end of the turn (an eos after it, a separator): its first token ends it.
        added = self.tokenizer.added_tokens_decoder.get(ids[0])
        return (str(added), ids[:1]) if added is not None else (after, ids)

    def _end_of_text(self) -> tuple[str, tuple[int, ...]]:
        return cast("str", self.tokenizer.eos_token), (cast("int", self.tokenizer.eos_token_id),)

    def _ids_of(self, text: str) -> tuple[int, ...]:
        return tuple(cast("list[int]", self.tokenizer(text, add_special_tokens=False)["input_ids"]))

    def _start_ids(self) -> tuple[int, ...]:
        plain = self._ids_of("a")
        whole = tuple(cast("list[int]", self.tokenizer("a")["input_ids"]))
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return whole[:start]
        return ()

    def _without_end(self, answer: str) -> str:
        trimmed = answer.rstrip()
        return trimmed.removesuffix(self.end_text) if trimmed.endswith(self.end_text) else answer


def _as_messages(prompt: tuple[Message, ...] | str) -> tuple[Message, ...]:
    return (Message(role="user", content=prompt),) if isinstance(prompt, str) else prompt


def _without_think(prompt: str, answer: str) -> str:
    """The answer without the `<think>` that the generation prompt of a reasoning model has already written."""
    if prompt.rstrip().endswith(_THINK) and answer.lstrip().startswith(_THINK):
        return answer.lstrip().removeprefix(_THINK).lstrip("\n")
    return answer
