"""The parts of the page as HTML: the run, a prompt's numbers, and the answers of both models."""

import math

import numpy as np
from jaxtyping import Float

from betahead.beta.rule import BetaRule
from betahead.evaluate.prompts import PromptView, Snapshot
from betahead.explore.colours import colour_of, legend, scale_of
from betahead.explore.explorer import Answer
from betahead.explore.markup import told
from betahead.explore.pieces import Piece
from betahead.explore.place import place_plot
from betahead.report.html import Html, element

_PUSHED = {
    "up": "pushes β up from what the rule gives without its net",
    "down": "pushes β down from what the rule gives without its net",
    "none": "the net changes nothing",
}
_NEWLINE = "↵"


def run_card(name: str, rule: BetaRule) -> Html:
    """What is explored, and a word about rules that have no β of the prompt."""
    return element(
        "header",
        element("h1", "What does this run make of your prompt?"),
        element("p", element("code", name), " · β by the rule ", element("code", rule.kind), class_="lead"),
        beta_note(rule),
    )


def beta_note(rule: BetaRule) -> Html | None:
    """What a prompt cannot show of the rule's β; None where β is the prompt's own."""
    if rule.reads == "nothing":
        return told(
            "note",
            "This run's β is one number for all prompts: editing the prompt moves log PPL and the answers, not β.",
        )
    if rule.reads in ("pair", "batch"):
        return told(
            "note",
            f"This run's β belongs to the {rule.reads}, so that a prompt alone has none: only the answers can be "
            "seen here. `betahead eval` shows the β of held-out pairs.",
        )
    return None


def numbers_card(view: PromptView, rule: BetaRule, held_out: Snapshot, training: Snapshot | None) -> Html:
    """log PPL, f and β of a prompt, and where they lie among the prompts of the run.

    Args:
        view: the prompt.
        rule: of the run.
        held_out: the held-out prompts, at the end of the run.
        training: a sample of the training prompts; the drawings are of the held-out ones where the run kept none.
    """
    among, whose = (held_out, "held-out") if training is None else (training, "training")
    constant = rule.reads == "nothing"
    return element(
        "section",
        element(
            "dl",
            _number("log PPL", view.log_ppl, ".3f", _ppl_words(view)),
            _number("f(x)", view.f, ".3f", "this rule has none" if view.pushed is None else _PUSHED[view.pushed]),
            _number("β(x)", view.beta, ".4g", _beta_words(view, rule.bounds)),
            class_="numbers",
        ),
        element("p", _ranks(view, held_out, training), class_="ranks"),
        element(
            "div",
            _place(f"log PPL of the {whose} prompts", "nats per token", view.log_ppl, among.log_ppl, log=False),
            None if constant else _place(f"β of the {whose} prompts", "", view.beta, among.beta, log=True),
            class_="places",
        ),
        class_="card",
    )


def answers_card(policy: Answer, reference: Answer) -> Html:
    """Both answers side by side, each token in the colour of its log-ratio, with the legend."""
    scale = scale_of(piece.log_ratio for answer in (policy, reference) for piece in answer.pieces)
    return element(
        "section",
        legend(scale),
        element("div", (_answer(one, scale) for one in (policy, reference)), class_="answers"),
        element(
            "details",
            element("summary", "the numbers of every token"),
            element("div", (_table(one) for one in (policy, reference)), class_="answers"),
        ),
        class_="card",
    )


def _number(name: str, value: float | None, form: str, words: str) -> Html:
    shown = "–" if value is None else f"{value:{form}}"
    number = element("dd", shown, data_value=None if value is None else repr(value))
    return element("div", element("dt", name), number, element("dd", words, class_="why"))


def _ppl_words(view: PromptView) -> str:
    if view.log_ppl is None:
        return f"{view.tokens} tokens, none of which counts"
    return f"nats per token over {view.tokens} tokens; perplexity {math.exp(min(view.log_ppl, 700.0)):.4g}"


def _beta_words(view: PromptView, bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return "no bounds"
    low, high = bounds
    return f"{'held by a bound of' if view.at_bound else 'within'} [{low:g}, {high:g}]"


def _ranks(view: PromptView, held_out: Snapshot, training: Snapshot | None) -> str:
    parts = [
        _rank(
            f"{0 if training is None else len(training.beta)} training prompts sampled at the end of the run",
            view.log_ppl_training_quantile,
            view.beta_training_quantile,
        ),
        _rank(f"{len(held_out.beta)} held-out prompts", view.log_ppl_quantile, view.beta_quantile),
    ]
    return " ".join(part for part in parts if part)


def _rank(whose: str, log_ppl: float | None, beta: float | None) -> str:
    shares = [
        f"{share:.0%} have a smaller {name}" for name, share in (("log PPL", log_ppl), ("β", beta)) if share is not None
    ]
    return f"Of the {whose}, {' and '.join(shares)}." if shares else ""


def _place(name: str, unit: str, value: float | None, among: Float[np.ndarray, " values"], *, log: bool) -> Html | None:
    among = among[np.isfinite(among)]
    if value is None or not math.isfinite(value) or not len(among):
        return None
    return place_plot(name, unit, value, among, log=log)


def _answer(answer: Answer, scale: float) -> Html:
    ending = "cut at its longest" if answer.cut else "ended by itself"
    return element(
        "article",
        element("h3", f"the {answer.by}'s answer"),
        element("p", f"{answer.tokens} tokens, {ending}; log-ratio of the whole answer ", nats(answer.log_ratio),
                class_="why"),
        element("div", (_piece(piece, scale) for piece in answer.pieces), class_="text", lang=""),
        class_=answer.by,
    )  # fmt: skip


def _piece(piece: Piece, scale: float) -> Html:
    title = f"{nats(piece.log_ratio)}: policy {piece.policy:+.2f}, reference {piece.reference:+.2f}"
    return element(
        "span",
        piece.text.replace("\n", f"{_NEWLINE}\n"),
        style=colour_of(piece.log_ratio, scale) or None,
        title=title,
        class_="special" if piece.special else None,
        data_value=repr(piece.log_ratio),
    )


def _table(answer: Answer) -> Html:
    heads = (f"{answer.by}'s answer", "policy, nats", "reference, nats", "difference")
    rows = (
        element(
            "tr",
            element("td", piece.text.replace("\n", _NEWLINE), class_="words"),
            (element("td", f"{value:.3f}") for value in (piece.policy, piece.reference, piece.log_ratio)),
        )
        for piece in answer.pieces
    )
    head = element(
        "thead",
        element("tr", (element("th", one, class_=None if number else "words") for number, one in enumerate(heads))),
    )
    return element("div", element("table", head, element("tbody", rows)), class_="wide", tabindex="0")


def nats(value: float) -> str:
    """A log-ratio with its sign and unit."""
    return f"{value:+.2f} nats".replace("-", "−")
