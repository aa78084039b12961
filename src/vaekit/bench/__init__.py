"""A bench: a named set of recipes, trained over seeds, judged, and set beside published figures in one table.

`plan` reads what is asked for, `cells` keeps what is there, `making` trains and judges one cell, `running` goes through
them, `table` draws the sum, `page` writes it down.
"""

from vaekit.bench.page import put, read, summary
from vaekit.bench.plan import Anchor, Bench, Row, listing, load
from vaekit.bench.running import benchmark

__all__ = ["Anchor", "Bench", "Row", "benchmark", "listing", "load", "put", "read", "summary"]
