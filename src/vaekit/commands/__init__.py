"""The commands: one typed function each. A room is imported inside the function that needs it, so help is instant.

Results go to stdout, progress and messages to stderr. Every command that writes takes `-o` and `--seed`.
"""

from vaekit.commands import arithmetic, bench, codes, facts, judge, pages, prior, training, walk  # noqa: F401 - each file puts its commands on `app`
from vaekit.commands.app import app

__all__ = ["app"]
