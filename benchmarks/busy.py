"""A training step alone and beside one busy process, with passive waiting (vaekit's default) and with OpenMP's own.

    python benchmarks/busy.py ../shared/data/mnist [--rounds 3] [--steps 20] [--recipe torch-mlp] [--json FILE]

Recipes torch-mlp and keras-conv-2d as the command line trains them, on all cores (a step on one thread has nobody to wait
for). The busy process multiplies matrices on one core. Each turn is a process of its own: it makes its own warm-up, then
`--steps` steps; the four conditions take turns, ratios round by round against passive waiting alone. OpenMP's own waiting
spins: on an idle machine it spares the wake-up, beside a busy process it burns the core that the other thread needs.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

import rounds
from rounds import Result

RECIPES = ("torch-mlp", "keras-conv-2d")
BUSY = "import torch; torch.set_num_threads(1); a = torch.randn(512, 512)\nwhile True: a @ a"


def steps(recipe: str, data: str, count: int) -> Result:
    """Milliseconds a step, and images a second, on all cores."""
    from step import Way

    from vaekit.data import open_data
    from vaekit.devices import cores

    way = Way(recipe, open_data(data), [f"train.threads={cores()}", "train.compile=false"])
    seconds = way.take(count) / count
    return {"ms": 1000 * seconds, "rate": way.plan.per_step / seconds}


@contextlib.contextmanager
def company(busy: bool) -> Iterator[None]:
    """One busy process, if asked."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def turn(recipe: str, data: str, count: int, passive: bool, busy: bool) -> Result:
    command = [sys.executable, __file__, data, "--child", recipe, "--steps", str(count)]
    with company(busy):
        return rounds.child(command, None, passive)


def main() -> int:
    parser = rounds.options(__doc__, 3)
    parser.add_argument("data", help="MNIST: a path, such as ../shared/data/mnist")
    parser.add_argument("--steps", type=int, default=20, help="steps of each turn (default 20)")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="one of them alone")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(steps(given.child, given.data, given.steps)))
        return 0
    about, kept = rounds.machine(), {}
    conditions = {
        "passive, alone": (True, False),
        "OpenMP's own, alone": (False, False),
        "passive, beside a busy process": (True, True),
        "OpenMP's own, beside a busy process": (False, True),
    }
    for recipe in given.recipe or RECIPES:
        try:
            found = rounds.interleaved(
                {
                    name: lambda recipe=recipe, how=how: turn(recipe, given.data, given.steps, *how)
                    for name, how in conditions.items()
                },
                given.rounds,
            )
        except rounds.ChildError as error:
            print(error, file=sys.stderr)
            return 2
        kept[recipe], alone = found, rounds.values(found["passive, alone"], "rate")
        rows = [
            [name, rounds.spread(rounds.values(each, "ms"), 1), rounds.spread(rounds.values(each, "rate")),
             rounds.spread(rounds.ratios(rounds.values(each, "rate"), alone), 2)]
            for name, each in found.items()
        ]  # fmt: skip
        print(rounds.table([recipe, "ms a step", "images/s", "of passive, alone"], rows) + "\n", flush=True)
    rounds.keep(given.json, {"machine": about, "results": kept})
    return 0


if __name__ == "__main__":
    sys.exit(main())
