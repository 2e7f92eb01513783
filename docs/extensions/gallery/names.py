"""What the page of a pair is called."""

import re


def page_of(pair: str) -> str:
    """The name of the page, of letters, digits and hyphens: bnn++ is bnn-plus-plus."""
    return re.sub(r"[^a-z0-9]+", "-", pair.lower().replace("+", "-plus")).strip("-")


def link(pair: str) -> str:
    """A link to the page from that of another pair."""
    return f"[{pair}]({page_of(pair)}.md)"
