"""The Inception network that FID is defined by, its weights read from a file, which is never run."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.errors import VaekitError

if TYPE_CHECKING:
    from vaekit.data import Contract

SIDE = 299  # pixels that the network was trained on
Sizes = int | tuple[int, int]


class Unit(nn.Module):
    """Convolution, normalisation, ReLU: [B, i, H, W] -> [B, o, H, W]; of stride 1 with the border kept if `keeps`."""

    def __init__(self, i: int, o: int, kernel: Sizes, stride: int = 1, keeps: bool = True) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        border = (sides[0] // 2, sides[1] // 2) if keeps else (0, 0)
        self.conv = nn.Conv2d(i, o, sides, stride, border, bias=False)
        self.bn = nn.BatchNorm2d(o, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, and a pooled one last. A branch is the names of its units in order; a name with a bar forks
    the branch, each of its units reading the same. `pool` is "average", "max", or "halve", which has no unit behind it.
    Averages leave the border out, as the network was trained."""

    def __init__(self, pool: str, branches: list[str], **units: Unit) -> None:
        super().__init__()
        self.pool, self.branches = pool, branches
        for name, unit in units.items():
            self.add_module(name, unit)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self.branches:
            y = x
            for step in branch.split():
                y = torch.cat([self.get_submodule(f"branch{name}")(y) for name in step.split("|")], 1)
            found.append(y)
        return torch.cat((*found, self._pooled(x)), 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "halve":
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return self.get_submodule("branch_pool")(F.max_pool2d(x, 3, 1, 1))
        return self.get_submodule("branch_pool")(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def _a(i: int, pooled: int) -> Mixed:
    return Mixed(
        "average", ["1x1", "5x5_1 5x5_2", "3x3dbl_1 3x3dbl_2 3x3dbl_3"],
        branch1x1=Unit(i, 64, 1), branch5x5_1=Unit(i, 48, 1), branch5x5_2=Unit(48, 64, 5),
        branch3x3dbl_1=Unit(i, 64, 1), branch3x3dbl_2=Unit(64, 96, 3), branch3x3dbl_3=Unit(96, 96, 3),
        branch_pool=Unit(i, pooled, 1),
    )  # fmt: skip


def _b(i: int) -> Mixed:
    return Mixed(
        "halve", ["3x3", "3x3dbl_1 3x3dbl_2 3x3dbl_3"],
        branch3x3=Unit(i, 384, 3, 2, False), branch3x3dbl_1=Unit(i, 64, 1), branch3x3dbl_2=Unit(64, 96, 3),
        branch3x3dbl_3=Unit(96, 96, 3, 2, False),
    )  # fmt: skip


def _c(i: int, c: int) -> Mixed:
    return Mixed(
        "average", ["1x1", "7x7_1 7x7_2 7x7_3", "7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5"],
        branch1x1=Unit(i, 192, 1), branch7x7_1=Unit(i, c, 1), branch7x7_2=Unit(c, c, (1, 7)),
        branch7x7_3=Unit(c, 192, (7, 1)), branch7x7dbl_1=Unit(i, c, 1), branch7x7dbl_2=Unit(c, c, (7, 1)),
        branch7x7dbl_3=Unit(c, c, (1, 7)), branch7x7dbl_4=Unit(c, c, (7, 1)), branch7x7dbl_5=Unit(c, 192, (1, 7)),
        branch_pool=Unit(i, 192, 1),
    )  # fmt: skip


def _d(i: int) -> Mixed:
    return Mixed(
        "halve", ["3x3_1 3x3_2", "7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4"],
        branch3x3_1=Unit(i, 192, 1), branch3x3_2=Unit(192, 320, 3, 2, False), branch7x7x3_1=Unit(i, 192, 1),
        branch7x7x3_2=Unit(192, 192, (1, 7)), branch7x7x3_3=Unit(192, 192, (7, 1)),
        branch7x7x3_4=Unit(192, 192, 3, 2, False),
    )  # fmt: skip


def _e(i: int, pool: str) -> Mixed:
    return Mixed(
        pool, ["1x1", "3x3_1 3x3_2a|3x3_2b", "3x3dbl_1 3x3dbl_2 3x3dbl_3a|3x3dbl_3b"],
        branch1x1=Unit(i, 320, 1), branch3x3_1=Unit(i, 384, 1), branch3x3_2a=Unit(384, 384, (1, 3)),
        branch3x3_2b=Unit(384, 384, (3, 1)), branch3x3dbl_1=Unit(i, 448, 1), branch3x3dbl_2=Unit(448, 384, 3),
        branch3x3dbl_3a=Unit(384, 384, (1, 3)), branch3x3dbl_3b=Unit(384, 384, (3, 1)),
        branch_pool=Unit(i, 192, 1),
    )  # fmt: skip


class Inception(nn.Sequential):
    """Images [B, 3, 299, 299] in [-1, 1] -> 2,048 features [B, 2048]: the pool3 layer of the network of 2015.

    Szegedy et al. 2016, https://arxiv.org/abs/1512.00567; FID: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. The
    names are those of the weights that pytorch-fid and torch-fidelity publish (pt_inception-2015-12-05), and so is the
    maximum in the last block, where the paper has an average.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, part in {
            "Conv2d_1a_3x3": Unit(3, 32, 3, 2, False), "Conv2d_2a_3x3": Unit(32, 32, 3, 1, False),
            "Conv2d_2b_3x3": Unit(32, 64, 3), "pool1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": Unit(64, 80, 1), "Conv2d_4a_3x3": Unit(80, 192, 3, 1, False),
            "pool2": nn.MaxPool2d(3, 2),
            "Mixed_5b": _a(192, 32), "Mixed_5c": _a(256, 64), "Mixed_5d": _a(288, 64), "Mixed_6a": _b(288),
            "Mixed_6b": _c(768, 128), "Mixed_6c": _c(768, 160), "Mixed_6d": _c(768, 160),
            "Mixed_6e": _c(768, 192), "Mixed_7a": _d(768), "Mixed_7b": _e(1280, "average"),
            "Mixed_7c": _e(2048, "max"), "pool3": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(),
        }.items():  # fmt: skip
            self.add_module(name, part)


class InceptionFeatures:
    """x [B, C, H, W] in model units -> Inception's features [B, 2048] on the CPU; called as `features.Features` are.

    Grey images are given three times over, all are stretched to 299 pixels a side without smoothing, as pytorch-fid does:
    another way to stretch gives another FID. `digest`: the SHA-256 of the weights' file, as it was read.
    """

    def __init__(self, weights: Path, contract: Contract, device: torch.device) -> None:
        if not contract.is_image:
            raise VaekitError("FID is of images, and these rows are vectors; leave the Inception weights out")
        with torch.random.fork_rng([]), torch.device("meta"):
            self.net = Inception()
        found, self.digest = read(weights, self.net.state_dict())
        self.net.load_state_dict(found, assign=True)
        self.net.to(device).eval().requires_grad_(False)
        self.contract, self.device = contract, device

    def __call__(self, x: Tensor) -> tuple[Tensor, None]:
        images = torch.from_numpy(self.contract.picture(x)).to(self.device)  # [B, C, H, W] in [0, 1]
        found = []
        for part in images.split(32):
            wide = F.interpolate(part.expand(-1, 3, -1, -1), (SIDE, SIDE), mode="bilinear")
            found.append(self.net(2 * wide - 1).cpu())
        features = torch.cat(found)
        if not features.isfinite().all():
            raise VaekitError(
                "Inception's features of these images are not finite; the weights are no trained ones"
            )
        return features, None


def read(path: Path, wanted: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors `wanted` out of a .safetensors or .pth file, no code of which is run, and the file's SHA-256. Others in
    it are left alone.

    Raises VaekitError for a missing file, one that holds anything but tensors, and one of another network.
    """
    if not path.is_file():
        raise VaekitError(
            f"no Inception weights at {path}; download pt_inception-2015-12-05-6726825d.pth, which pytorch-fid publishes"
        )
    try:
        body = path.read_bytes()
    except OSError as error:
        raise VaekitError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which serve as well
            held: Any = (
                load(body)
                if path.suffix == ".safetensors"
                else torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
            )
    except Exception as error:  # of a damaged file, whatever its reader stumbles over
        raise VaekitError(f"{path.name} holds no plain tensors: {type(error).__name__}") from error
    if not isinstance(held, Mapping):
        raise VaekitError(f"{path.name} holds no plain tensors by name: it is one {type(held).__name__}")
    found = {}
    for name, blank in wanted.items():
        if name.endswith("batches_tracked"):
            found[name] = torch.zeros((), dtype=torch.long)
            continue
        if name not in held:
            raise VaekitError(f"{path.name} holds other weights than Inception's: it lacks {name!r}")
        found[name] = _plain(held[name], blank, f"{path.name} holds other weights than Inception's: {name}")
    return found, hashlib.sha256(body).hexdigest()


def _plain(given: Any, blank: Tensor, where: str) -> Tensor:
    """A tensor of the shape of `blank`, float32. Raises VaekitError, which begins with `where`."""
    if not isinstance(given, Tensor):
        raise VaekitError(f"{where} is no tensor but {type(given).__name__}")
    if given.is_meta or given.layout != torch.strided or not given.is_floating_point():
        kind = "without numbers" if given.is_meta else f"{given.layout}, {given.dtype}"
        raise VaekitError(f"{where} is {kind}; expected plain real numbers".replace("torch.", ""))
    if given.shape != blank.shape:
        raise VaekitError(f"{where} is {list(given.shape)}, expected {list(blank.shape)}")
    plain = given.detach().to(torch.float32)
    if not plain.isfinite().all():
        raise VaekitError(f"{where} is not finite")
    return plain
