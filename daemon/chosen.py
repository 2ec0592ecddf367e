"""Whether the variables that a command chooses, by name or by title, are in the context file."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctxlib.errors import nearest

_LISTED = "`read-context` lists them"


def unknown(
    names: Iterable[str], match: Iterable[str], described: Sequence[Mapping[str, Any]]
) -> str | None:
    """Say which of `names`, or which text to `match` with titles, chooses nothing; None if all do.

    `described` are the context's variables, each as `graph.Node.describe` gives it.
    """
    known = [str(variable["name"]) for variable in described]
    titles = [str(variable["title"]) for variable in described]
    for name in names:
        if name not in known:
            hint = nearest(name, known, otherwise=_LISTED)
            return f"context.py has no variable {name!r}: {hint}"
    for text in match:
        if not any(text.casefold() in title.casefold() for title in titles):
            hint = f"it is the name of one: choose it with --var {text}"
            if text not in known:
                hint = nearest(text, titles, otherwise=_LISTED)
            return f"no variable of context.py has {text!r} in its title: {hint}"
    return None
