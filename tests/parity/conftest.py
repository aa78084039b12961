"""Keras on torch, with its defaults: a configuration of the user's own must not change what a test compares."""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

_HOME = tempfile.TemporaryDirectory(prefix="keras-")
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = _HOME.name
