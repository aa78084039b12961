"""A run: the folder that training writes, and the trained model opened again."""

from vaekit.run.folder import RunFolder
from vaekit.run.loading import load
from vaekit.run.opened import Codes, Run

__all__ = ["Codes", "Run", "RunFolder", "load"]
