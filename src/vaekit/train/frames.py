"""A frame of the film a report shows: the same rows and the same z, as the model sees them at one epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vaekit.data import Contract, in_turn
from vaekit.files import atomic
from vaekit.model import VAE
from vaekit.run.looking import looking

if TYPE_CHECKING:
    from vaekit.train.look import Rows

PICKED, DRAWN, MAPPED = 10, 20, 1000
SIDE = 64  # pixels of a stored image; larger ones are averaged down


def keep(model: VAE, contract: Contract, rows: Rows, path: Path, seed: int = 0) -> Path:
    """Write a frame, an npz of some ten kilobytes; which rows and which noise depends on `seed` alone.

    split           the split's name
    picked          numbers [P] of rows, `original` and `reconstruction` of them [P, ...]
    z, decoded      codes [S, D] from the prior, always of the same noise (so the same codes, under a prior that does
                    not learn), and what they decode to [S, ...]
    row, code       numbers [N] of rows and their mean codes [N, D], float16; label [N] where there are labels

    Images are uint8 of at most 64 pixels a side, other rows in data units. Where D = 0 there are no codes and no
    reconstructions.
    """
    with looking(model, seed):
        picked = in_turn(rows.split, PICKED, seed)
        x, c = rows.at(picked)
        arrays = {"split": np.array(rows.split.name), "picked": picked, "original": _stored(x, contract)}
        if model.latent:
            arrays["reconstruction"] = _stored(model.reconstruct(x, c), contract)
    with looking(model, seed):  # seeded again: the noise below is that of every frame
        c = rows.cycled(DRAWN)
        z = model.draw(DRAWN, c)
        arrays |= {"z": z.cpu().numpy(), "decoded": _stored(model.decode(z, c).centre, contract)}
        if model.latent:
            some = np.random.default_rng(seed).permutation(len(rows.split))[:MAPPED]
            with np.errstate(over="ignore"):  # a code beyond float16 is infinite, and so far off any map
                arrays |= {"row": some, "code": rows.codes(model, some).numpy().astype(np.float16)}
            if rows.split.label is not None:
                arrays["label"] = rows.split.label[some]
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


def _stored(x: Tensor, contract: Contract) -> np.ndarray:
    """Rows in model units as a frame keeps them."""
    if not contract.is_image:
        return contract.unscale(x)
    shown = torch.from_numpy(contract.picture(x))
    factor = -(-max(shown.shape[-2:]) // SIDE)
    if factor > 1:
        shown = F.avg_pool2d(shown, factor, ceil_mode=True)
    return (shown * 255).round().to(torch.uint8).numpy()
