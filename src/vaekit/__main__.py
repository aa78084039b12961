"""The command line's door: how OpenMP waits, one clear line for bad input, exit codes.

0 done, 2 bad input, 130 interrupted. OpenMP reads the environment when torch is loaded, so it is set here: threads that
spin make a step several times slower beside another busy process.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def main() -> None:
    """Run the command line with `sys.argv` and exit with its code."""
    choose_waiting(sys.argv[1:])
    keep_memory()
    sys.exit(run(sys.argv[1:]))


def choose_waiting(arguments: list[str]) -> None:
    """Let threads sleep while they wait, unless the environment says otherwise.

    In a training they spin for a tenth of a millisecond first, which spares small steps the price of waking up; it looks
    out for others that want the cores (`train.company`), which nothing else here does.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if arguments[:1] in (["train"], ["sweep"], ["bench"]):
        os.environ["GOMP_SPINCOUNT"] = "10000"


def keep_memory() -> None:
    """Let glibc keep what is freed: it would hand a step's large tensors back to the kernel, and fetch them anew.

    A convolutional step then spends a fifth of its time on page faults. Elsewhere than on glibc this does nothing.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_TRIM_THRESHOLD, 256 << 20)
    mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that it takes


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; messages go to stderr."""
    from vaekit.errors import VaekitError

    warnings.showwarning = _one_line
    try:
        from cyclopts import CycloptsError

        from vaekit.commands import app
    except KeyboardInterrupt:
        return _interrupted("interrupted")
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        # the list of commands is cut at eight, and ends in dots
        message = str(error).strip().removesuffix(", ...").rstrip(".")
        return _refuse(f"{message}; see vaekit {_command(app, arguments)}--help")
    except VaekitError as error:
        return _refuse(str(error), error.aloud)
    except KeyboardInterrupt as interruption:
        return _interrupted(str(interruption) or "interrupted")
    except BrokenPipeError:
        # the reader of our output has gone; nothing is wrong, and nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(app: App, arguments: list[str]) -> str:
    return (
        f"{arguments[0]} " if arguments and arguments[0] in app and not arguments[0].startswith("-") else ""
    )


def _refuse(message: str, aloud: bool | None = None) -> int:
    _say(message, aloud)
    return 2


def _interrupted(message: str) -> int:
    _say(message)
    return 130


def _say(message: str, aloud: bool | None = None) -> None:
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first if aloud is None else aloud:  # once, though several processes run
        print("vaekit: " + " ".join(message.split()), file=sys.stderr)


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"note: {message}")


if __name__ == "__main__":
    main()
