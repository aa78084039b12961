"""Who may import whom: the table of docs/architecture.md, held against every file."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import vaekit

ROOT = Path(vaekit.__file__).parent
GROUND = {"errors", "files", "_version"}
MATHEMATICS = {
    "distributions",
    "flows",
    "chains",
    "nets",
    "priors",
    "posteriors",
    "likelihoods",
    "model",
    "objectives",
}
# room -> the rooms it may import at the top of a file
MAY = {
    "errors": set(),
    "_version": set(),
    "files": set(),
    "devices": set(),
    "distributions": set(),
    "flows": {"distributions"},
    "nets": {"distributions"},
    "chains": {"distributions", "nets"},
    "priors": {"distributions", "flows", "chains", "nets"},
    "posteriors": {"distributions", "flows", "chains", "nets"},
    "likelihoods": {"distributions", "flows", "nets"},
    "model": {"distributions"},
    "measures": {"distributions", "model"},
    "walks": {"distributions", "model"},
    "objectives": {"distributions", "model"},
    "data": {"devices"},
    "pictures": set(),
    "output": set(),
    "recipe": MATHEMATICS | {"data"},
    "run": MATHEMATICS | {"data", "recipe", "devices"},
    "train": {
        "run",
        "recipe",
        "data",
        "objectives",
        "devices",
        "pictures",
        "model",
        "walks",
        "distributions",
    },
    "metrics": {"model", "measures", "distributions", "data", "devices"},
    "report": {"run", "data", "model", "measures", "walks", "distributions", "pictures"},
    "members": set(),
    "bench": {"recipe"},
    "shards": {"run", "data", "devices"},
    "commands": set(),
    "__main__": set(),
    "__init__": set(),
}
# room -> the rooms it may import inside a function: doors that lead to what looks at a trained model
LATE = {
    "run": {"metrics", "pictures", "walks", "output", "report", "train"},
    "report": {"metrics"},
    "members": {"recipe", "train", "run", "report"},
    "bench": {"train", "run", "data"},
    "shards": {"output"},
    "commands": {
        "run",
        "recipe",
        "data",
        "train",
        "pictures",
        "output",
        "report",
        "members",
        "shards",
        "bench",
    },
    "__main__": {"commands"},
}
FABRIC = {"lightning_fabric", "lightning"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    """(module, late, for types only) of every import in a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"vaekit.{a.name}" for a in node.names] if module == "vaekit" else [module]
        else:
            continue
        above, late, types = node, False, False
        while (above := getattr(above, "parent", None)) is not None:
            late |= isinstance(above, ast.FunctionDef | ast.AsyncFunctionDef)
            types |= isinstance(above, ast.If) and "TYPE_CHECKING" in ast.dump(above.test)
        for name in names:
            yield name, late, types


FILES = sorted(p for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_its_room_may(path):
    room = room_of(path)
    assert room in MAY, f"{room} is a new room: give it a line here and in docs/architecture.md"
    for module, late, types in imports(path):
        top, _, rest = module.partition(".")
        if top in FABRIC:
            assert room == "train", f"{path.name} imports {module}; Fabric is imported only in train/"
        if (
            top != "vaekit"
            or not rest
            or (
                types
                and room in ("__init__", "data", "train", "recipe", "metrics", "run", "members", "bench")
            )
        ):
            continue
        other = rest.split(".")[0]
        allowed = MAY[room] | GROUND | {room} | (LATE.get(room, set()) if late else set())
        assert other in allowed, f"{path.name} ({room}) imports {module}{' in a function' if late else ''}"


def test_the_parts_know_no_concrete_part():
    for path in [ROOT / "model.py", *(ROOT / "objectives").glob("*.py")]:
        source = path.read_text()
        for name in ("StandardPrior", "FlowPrior", "GaussianPosterior", "BernoulliLikelihood", "MLP"):
            imported = [
                line for line in source.splitlines() if line.startswith(("import", "from")) and name in line
            ]
            assert not imported, (path, imported)


def test_every_module_imports():
    for module in pkgutil.walk_packages([str(ROOT)], "vaekit."):
        if module.name != "vaekit.__main__":
            importlib.import_module(module.name)


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n"))


HEAVY = {"torch", "numpy", "lightning_fabric", "matplotlib", "sklearn", "PIL", "pyarrow", "scipy", "pandas"}


def test_import_vaekit_pulls_in_nothing_heavy():
    assert not modules_after("import vaekit") & (HEAVY | {"pydantic", "cyclopts", "rich"})


def test_help_pulls_in_nothing_heavy():
    code = (
        "from vaekit.__main__ import run; import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()): run(['--help'])"
    )
    assert not modules_after(code) & HEAVY


def test_importing_every_room_changes_no_global_state():
    code = """
import torch, os, numpy, random
before = (torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(), torch.is_grad_enabled(),
          torch.distributions.Distribution._validate_args, dict(os.environ), numpy.random.get_state()[1].tolist(),
          random.getstate(), torch.random.get_rng_state().tolist())
import importlib, pkgutil, vaekit
for m in pkgutil.walk_packages(vaekit.__path__, "vaekit."):
    if m.name != "vaekit.__main__": importlib.import_module(m.name)
after = (torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(), torch.is_grad_enabled(),
          torch.distributions.Distribution._validate_args, dict(os.environ), numpy.random.get_state()[1].tolist(),
          random.getstate(), torch.random.get_rng_state().tolist())
assert before == after, "importing vaekit changed global state"
"""
    modules = modules_after(code)
    assert "matplotlib" not in modules or "matplotlib.pyplot" not in modules
