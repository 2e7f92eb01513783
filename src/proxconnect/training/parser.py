"""The parser of `proxconnect fit | validate | test`: Lightning's, whose help fits a terminal."""

import argparse
import textwrap
from typing import Any

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

_TITLES = {
    "Customize every aspect": "how it is trained, by Lightning's Trainer",
    "A DataModule standardizes": "what it is trained on",
}
"""By the beginnings of Lightning's titles of groups, which say what its classes are good for, ours."""


class Formatter(DefaultHelpFormatter):
    """Lines of a description and of an end stay as they are written, titles and options are broken between words."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text.strip():
            return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)

    def start_section(self, heading: str | None) -> None:
        """Begin a group of options."""
        ours = next((title for start, title in _TITLES.items() if (heading or "").startswith(start)), heading)
        super().start_section(ours and textwrap.fill(ours, self._width))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        whole, width = super()._format_action_invocation(action), self._width - self._current_indent
        if len(whole) <= width:
            return whole
        words = textwrap.wrap(whole.replace(",", ", "), width - 4, break_on_hyphens=False)
        return "\n      ".join(line.replace(", ", ",") for line in words)


class TrainingParser(LightningArgumentParser):
    """Lightning's parser, whose help begins with a short usage; complaints have the whole one, with every option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "formatter_class": Formatter})

    def format_help(self, *args: Any) -> str:
        """The help."""
        self.usage = "%(prog)s [--json] --config RECIPE.yaml [OPTION ...]"
        try:
            return str(super().format_help(*args))
        finally:
            self.usage = None
