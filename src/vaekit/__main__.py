"""The command line's door: passive OpenMP waiting, one clear line for bad input, exit codes.

0 done, 2 bad input, 130 interrupted. Only this file sets an environment variable, and before torch is loaded:
spinning OpenMP threads make a step several times slower beside another busy process.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App


def main() -> None:
    """Run the command line with `sys.argv` and exit with its code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


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
        return _refuse(str(error))
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


def _refuse(message: str) -> int:
    _say(message)
    return 2


def _interrupted(message: str) -> int:
    _say(message)
    return 130


def _say(message: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once, though several processes run
        print("vaekit: " + " ".join(message.split()), file=sys.stderr)


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"vaekit: note: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    main()
