"""Tables as text, wherever they are made."""

import sys

from rich.table import Table

from proxconnect._support.text import plain


def test_a_notebook_gets_the_text_that_a_terminal_gets(monkeypatch):
    """There rich would show the table by itself and leave the text empty."""
    table = Table("layer", "bits")
    table.add_row("conv", "1")
    text = plain(table)
    assert "conv" in text
    monkeypatch.setattr(sys.modules["rich.console"], "_is_jupyter", lambda: True)
    assert plain(table) == text
