"""The page: a prompt to type into, and the cards that follow it. Everything else is in the pure parts."""

import importlib
import os
from pathlib import Path
from typing import Any

from betahead.errors import BetaHeadError, ConfigError
from betahead.explore.cards import answers_card, numbers_card, run_card
from betahead.explore.explorer import Explorer, Sampling
from betahead.explore.markup import filled, told
from betahead.explore.trail import Trail, extended, trail_card
from betahead.runs.machine import version_of

STYLE = Path(__file__).with_name("page.css")
_LONGEST = 512
_QUIET = 350  # milliseconds
# Every key waits; only the last one of them, once the box has stood still, goes on with what the box then holds.
_SETTLED = f"""async (text, trail) => {{
  const key = window.betaheadKey = (window.betaheadKey || 0) + 1;
  await new Promise(done => setTimeout(done, {_QUIET}));
  return key === window.betaheadKey
    ? [document.querySelector('#prompt textarea').value, trail]
    : new Promise(() => {{}});
}}"""
_SYSTEM = ["system-ui", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "sans-serif"]
_SYSTEM_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]


def check_gradio() -> None:
    """Refuse to go on without the package `gradio`; it is not loaded for that.

    Raises:
        ConfigError: when it is missing, or older than 6.
    """
    version = version_of("gradio")
    if version is None or int(version.partition(".")[0]) < 6:
        found = "is not there" if version is None else f"is {version} instead"
        raise ConfigError(
            f"`gradio` must be installed, 6 or newer, for `betahead explore`, but {found}; "
            "pip install 'betahead[explore]'."
        )


def gradio() -> Any:
    """The package `gradio`, told to report nothing to anybody."""
    check_gradio()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("gradio")


class Page:
    """The page's answers to what is typed and pressed.

    Args:
        explorer: an opened run.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    @property
    def header(self) -> str:
        """The run and its rule."""
        opened = self.explorer.opened
        return filled(run_card(str(opened.folder.path), opened.rule))

    def looked(self, prompt: str, trail: Trail) -> tuple[str, Trail, str]:
        """The numbers of what was typed, and the trail with it; nothing for a rule without a β of the prompt."""
        if self.explorer.opened.rule.reads in ("pair", "batch"):
            return "", trail, ""
        if not prompt.strip():
            shown = told("note", "Type a prompt: its numbers follow as you write.")
        else:
            try:
                view = self.explorer.view(prompt)
                inspector = self.explorer.inspector
                shown = numbers_card(view, self.explorer.opened.rule, inspector.held_out, inspector.training)
                trail = extended(trail, view)
            except BetaHeadError as error:
                shown = told("mistake", str(error))
        return filled(shown), trail, filled(trail_card(trail))

    def answered(self, prompt: str, max_new_tokens: float, temperature: float, seed: float) -> str:
        """Both answers to what was typed, coloured."""
        try:
            sampling = Sampling(max_new_tokens=int(max_new_tokens), temperature=temperature, seed=int(seed))
            shown = answers_card(*self.explorer.answers(prompt, sampling))
        except BetaHeadError as error:
            shown = told("mistake", str(error))
        return filled(shown)


def blocks_of(page: Page) -> Any:
    """The page as Gradio's blocks."""
    gr = gradio()
    shown: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": "model"}
    config = page.explorer.opened.config
    with gr.Blocks(title="betahead explore", analytics_enabled=False) as blocks:
        gr.HTML(page.header, elem_id="run", **shown)
        prompt = gr.Textbox(
            label="prompt", lines=3, max_lines=14, elem_id="prompt", placeholder="What is rain?", autofocus=True
        )
        first, trail, _ = page.looked("", ())
        numbers = gr.HTML(first, elem_id="numbers", **shown)
        history = gr.HTML("", elem_id="history", **shown)
        kept = gr.State(trail)
        with gr.Row(elem_id="sampling"):
            longest = gr.Slider(
                1, _LONGEST, min(config.evaluate.max_new_tokens, _LONGEST), step=1, label="longest answer (tokens)"
            )
            temperature = gr.Slider(0, 2, 1, step=0.05, label="temperature")
            seed = gr.Number(0, precision=0, minimum=0, label="seed")
            ask = gr.Button("Let both models answer", variant="primary", elem_id="ask")
        answers = gr.HTML("", elem_id="answers", **shown)
        prompt.change(
            page.looked,
            [prompt, kept],
            [numbers, kept, history],
            js=_SETTLED,
            trigger_mode="always_last",
            show_progress="hidden",
            **private,
        )
        ask.click(page.answered, [prompt, longest, temperature, seed], answers, show_progress="minimal", **private)
    return blocks


def theme() -> Any:
    """Colours of Gradio's plainest theme, and fonts that the reader's machine has."""
    gr = gradio()
    text, code = ([gr.themes.Font(name) for name in names] for names in (_SYSTEM, _SYSTEM_MONO))
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=text, font_mono=code)
