"""Arrays become pictures. Every function returns a `PIL.Image`; `save` writes it. Nothing here knows a model.

Images are arrays or tensors [N, C, H, W] in [0, 1] (`Contract.picture` makes them).
"""

from vaekit.pictures.heat import heat_map
from vaekit.pictures.plots import check_colours, curves, latent_map, trail
from vaekit.pictures.rows import fields, vectors
from vaekit.pictures.tiles import grid, pairs, save, stacked, strip

__all__ = [
    "check_colours", "curves", "fields", "grid", "heat_map", "latent_map", "pairs", "save", "stacked", "strip", "trail",
    "vectors",
]  # fmt: skip
