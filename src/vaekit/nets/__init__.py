"""Plain modules, no probability: `net(x, c=None)`, x [N, *in_shape] -> [N, *out_shape].

Shapes are inferred from `in_shape` and `out_shape`, odd sizes included; `condition` is the width of an optional
condition c [N, condition], which every net joins to its input. `last` is the layer whose bias a likelihood may
start at the data's mean.
"""

from vaekit.nets.constant import Constant
from vaekit.nets.conv import ConvDecoder, ConvEncoder
from vaekit.nets.keras import KerasDecoder, KerasEncoder
from vaekit.nets.mlp import MLP, GatedMLP, ResidualMLP
from vaekit.nets.patches import PatchDecoder, PatchEncoder
from vaekit.nets.resnet import ResNetDecoder, ResNetEncoder

__all__ = [
    "MLP",
    "Constant",
    "ConvDecoder",
    "ConvEncoder",
    "GatedMLP",
    "KerasDecoder",
    "KerasEncoder",
    "PatchDecoder",
    "PatchEncoder",
    "ResNetDecoder",
    "ResNetEncoder",
    "ResidualMLP",
]
