"""Inception's network against the same blocks written out by hand and frozen numbers; files that are no weights."""

import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vaekit import VaekitError
from vaekit.data import Contract
from vaekit.metrics.inception import Inception, InceptionFeatures

GREYS = Contract("greys", (1, 16, 16), "8-bit", 0, 255, 255, (0.0,), (255.0,), "uint8")
CPU = torch.device("cpu")


def drawn_weights(seed: int = 0) -> dict[str, Tensor]:
    """Weights under Inception's names, from a generator of their own: no block is like another."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        blank = Inception().state_dict()
    found = {}
    for name, value in blank.items():
        if name.endswith("batches_tracked"):
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("conv.weight"):
            found[name] = noise * (2 / value[0].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            found[name] = 1 + 0.1 * noise.abs()
        else:
            found[name] = 0.1 * noise
    return found


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return drawn_weights()


class Hand:
    """The units of one block by name, written out."""

    def __init__(self, weights: dict[str, Tensor], block: str) -> None:
        self.weights, self.block = weights, block

    def __call__(self, name: str, x: Tensor, stride: int = 1, border: tuple[int, int] = (0, 0)) -> Tensor:
        at = f"{self.block}.branch{name}."
        get = {key.removeprefix(at): value for key, value in self.weights.items() if key.startswith(at)}
        y = F.conv2d(x, get["conv.weight"], None, stride, border)
        scale = get["bn.weight"] / torch.sqrt(get["bn.running_var"] + 1e-3)
        return (
            (y - get["bn.running_mean"][:, None, None]) * scale[:, None, None] + get["bn.bias"][:, None, None]
        ).relu()


def average(x: Tensor) -> Tensor:
    """Means of 3 by 3 that leave the border out."""
    ones = torch.ones(1, 1, *x.shape[-2:])
    return 9 * F.avg_pool2d(x, 3, 1, 1) / (9 * F.avg_pool2d(ones, 3, 1, 1))


def a(u: Hand, x: Tensor) -> list[Tensor]:
    five = u("5x5_2", u("5x5_1", x), border=(2, 2))
    double = u("3x3dbl_3", u("3x3dbl_2", u("3x3dbl_1", x), border=(1, 1)), border=(1, 1))
    return [u("1x1", x), five, double, u("_pool", average(x))]


def b(u: Hand, x: Tensor) -> list[Tensor]:
    double = u("3x3dbl_3", u("3x3dbl_2", u("3x3dbl_1", x), border=(1, 1)), 2)
    return [u("3x3", x, 2), double, F.max_pool2d(x, 3, 2)]


def c(u: Hand, x: Tensor) -> list[Tensor]:
    seven = u("7x7_3", u("7x7_2", u("7x7_1", x), border=(0, 3)), border=(3, 0))
    double = u("7x7dbl_3", u("7x7dbl_2", u("7x7dbl_1", x), border=(3, 0)), border=(0, 3))
    double = u("7x7dbl_5", u("7x7dbl_4", double, border=(3, 0)), border=(0, 3))
    return [u("1x1", x), seven, double, u("_pool", average(x))]


def d(u: Hand, x: Tensor) -> list[Tensor]:
    seven = u("7x7x3_3", u("7x7x3_2", u("7x7x3_1", x), border=(0, 3)), border=(3, 0))
    return [u("3x3_2", u("3x3_1", x), 2), u("7x7x3_4", seven, 2), F.max_pool2d(x, 3, 2)]


def e(u: Hand, x: Tensor) -> list[Tensor]:
    three = u("3x3_1", x)
    double = u("3x3dbl_2", u("3x3dbl_1", x), border=(1, 1))
    pooled = average(x) if u.block == "Mixed_7b" else F.max_pool2d(x, 3, 1, 1)
    return [
        u("1x1", x), u("3x3_2a", three, border=(0, 1)), u("3x3_2b", three, border=(1, 0)),
        u("3x3dbl_3a", double, border=(0, 1)), u("3x3dbl_3b", double, border=(1, 0)), u("_pool", pooled),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("block", "by_hand", "i", "o"),
    [
        ("Mixed_5b", a, 192, 256), ("Mixed_5d", a, 288, 288), ("Mixed_6a", b, 288, 768), ("Mixed_6c", c, 768, 768),
        ("Mixed_7a", d, 768, 1280), ("Mixed_7b", e, 1280, 2048), ("Mixed_7c", e, 2048, 2048),
    ],
)  # fmt: skip
def test_a_block_is_what_the_published_one_computes(weights, block, by_hand, i, o):
    net = Inception().eval()
    net.load_state_dict(weights, strict=False)
    x = torch.randn(2, i, 7, 7)
    with torch.no_grad():
        found, wanted = net.get_submodule(block)(x), torch.cat(by_hand(Hand(weights, block), x), 1)
    assert found.shape[1] == o
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_features_are_the_frozen_ones(weights, tmp_path):
    """A block of another order, width, stride or pooling changes them all."""
    save_file(weights, tmp_path / "w.safetensors")
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    eye = InceptionFeatures(tmp_path / "w.safetensors", GREYS, CPU)
    features, none = eye(x)
    assert none is None and features.shape == (2, 2048)
    assert numbers(features) == pytest.approx(FROZEN, rel=1e-3)


def numbers(features: Tensor) -> list[float]:
    """Mean and spread of each branch of the last block, and how far the two images are apart."""
    branches = features.split((320, 384, 384, 384, 384, 192), 1)
    found = [float(value) for branch in branches for value in (branch.mean(), branch.std())]
    return [*found, float((features[0] - features[1]).norm())]


FROZEN = [
    0.52817, 0.73968, 0.70368, 0.87181, 0.66029, 0.86606, 0.66631, 0.83175, 0.65352, 0.78628, 0.75149, 0.9967, 1.63588,
]  # fmt: skip


# -- files that are no weights


def refused(path: Path) -> str:
    with pytest.raises(VaekitError) as caught:
        InceptionFeatures(path, GREYS, CPU)
    text = str(caught.value)
    assert "\n" not in text and path.name in text
    return text


def legacy(held: object) -> bytes:
    file = io.BytesIO()
    torch.save(held, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "body",
    [
        b"", b".", b"\x80\x02.", b"some text\n", b"\x80\x02]q\x00.", pickle.dumps([1, 2]), b"PK\x03\x04rubbish",
        legacy({"a": torch.ones(3)})[:-5], legacy({"a": torch.ones(3)})[:40], bytes(range(256)),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line(tmp_path, suffix, body):
    (tmp_path / f"w{suffix}").write_bytes(body)
    assert "holds no plain tensors" in refused(tmp_path / f"w{suffix}")


FIRST = "Conv2d_1a_3x3.conv.weight"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((32, 3, 3, 3), torch.nan), f"{FIRST} is not finite"),
        (torch.full((32, 3, 3, 3), 1e300, dtype=torch.float64), f"{FIRST} is not finite"),
        (torch.zeros(32, 3, 3, 3, device="meta"), f"{FIRST} is without numbers; expected plain real numbers"),
        (torch.zeros(32, 3, 3, 3).to_sparse(), f"{FIRST} is sparse_coo, float32; expected"),
        (torch.zeros(32, 3, 3, 3, dtype=torch.complex64), f"{FIRST} is strided, complex64; expected"),
        (torch.zeros(32, 3, 3, 3, dtype=torch.int8), f"{FIRST} is strided, int8; expected"),
        (torch.zeros(32, 3, 3), rf"{FIRST} is \[32, 3, 3\], expected \[32, 3, 3, 3\]"),
        ([1.0], f"{FIRST} is no tensor but list"),
    ],
)
def test_tensors_that_are_no_weights_are_one_line(tmp_path, value, message):
    torch.save({FIRST: value}, tmp_path / "w.pth")
    with pytest.raises(VaekitError, match=rf"^w.pth holds other weights than Inception's: {message}"):
        InceptionFeatures(tmp_path / "w.pth", GREYS, CPU)


@pytest.mark.parametrize("held", [torch.zeros(3), [torch.zeros(3)], "text", None])
def test_what_is_no_mapping_is_one_line(tmp_path, held):
    torch.save(held, tmp_path / "w.pth")
    assert "holds no plain tensors by name" in refused(tmp_path / "w.pth")


def test_weights_that_overflow_are_one_line(weights, tmp_path):
    save_file(weights | {FIRST: torch.full((32, 3, 3, 3), 3e38)}, tmp_path / "w.safetensors")
    with pytest.raises(VaekitError, match=r"features of these images are not finite"):
        InceptionFeatures(tmp_path / "w.safetensors", GREYS, CPU)(torch.rand(1, 1, 16, 16))
