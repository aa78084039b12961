"""What a user gets for bad input: one line that says what came, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VaekitError(ValueError):
    """Bad input, named in one line. The command line prints it and exits with 2; no traceback.

    aloud: of several processes, whether this one prints it; None leaves that to the first.
    """

    aloud: bool | None = None


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'FlowPrior'?)"` where one of `known` is close to `name`, else what is known."""
    names = sorted(known)
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {lowered[close[0]]!r}?)"
    return f" (known: {', '.join(names)})" if names else ""
