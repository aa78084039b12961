"""The pictures a run shows, which a person looks at first. Seeded, apart from training's noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit import pictures, walks
from vaekit.data import Batches, Preparation, in_turn
from vaekit.model import VAE
from vaekit.run import RunFolder
from vaekit.run.looking import looking
from vaekit.run.showing import latent_map
from vaekit.train import frames

if TYPE_CHECKING:
    from vaekit.data import Contract, Data, Split

MAPPED = 5000  # points a latent map stays legible with
PAIRS, SAMPLES, ROWS = 30, 64, 24


def look(
    model: VAE,
    contract: Contract,
    split: Split,
    history: Sequence[Mapping[str, Any]],
    folder: str | Path,
    *,
    seed: int = 0,
    condition: bool = False,
    mapped: Split | None = None,
    fitted: bool = False,
) -> list[Path]:
    """Write the pictures a run ends with into `folder`, and return their paths.

    reconstructions.png  originals beside the centre of p(x given the mean code); none where D = 0
    samples.png          from the prior; a row for each label where the model is conditional
    latent.png           mean codes coloured by label; their principal plane where D > 2
    manifold.png         a decoded latent grid: at prior quantiles for D <= 2, else the principal plane; for a
                         conditional model under its first label
    curves.png           reconstruction and KL over training, from `history` (lines of metrics.jsonl)

    `split` [N, ...] gives the originals, `mapped` (else `split`) the codes, at most 5,000; `fitted`: the prior was fitted
    to codes after training. What a model cannot show is left out.
    """
    home = Path(folder)
    written: list[Path] = []

    def keep(name: str, picture: Any) -> None:
        pictures.save(picture, home / name)
        written.append(home / name)

    with looking(model, seed) as device:
        rows = Rows(split, contract, device, condition)
        x, c = rows.spread(PAIRS if contract.is_image else ROWS, seed)
        if model.latent:
            keep("reconstructions.png", _beside(contract, x, model.reconstruct(x, c)))
        keep("samples.png", _samples(model, contract, rows, x))
        if model.latent:
            drawn = split if mapped is None else mapped
            some = np.random.default_rng(seed).permutation(len(drawn))[:MAPPED]
            codes = Rows(drawn, contract, device, condition).codes(model, some)
            known = codes.isfinite().all(1)  # a run that has broken still gets its pictures
            if known.any():
                label = None if drawn.label is None else drawn.label[some][known.numpy()]
                keep("latent.png", latent_map(codes[known], label, contract, drawn.name))
                answers = fitted or getattr(model.posterior, "has_density", True)
                picture = _manifold(model, contract, codes[known], rows, answers)
                if picture is not None:
                    keep("manifold.png", picture)
    if any(key.startswith(("train_", "valid_")) for line in history for key in line):
        keep("curves.png", pictures.curves(history))
    return written


def peek(
    model: VAE,
    contract: Contract,
    split: Split,
    path: str | Path,
    *,
    seed: int = 0,
    condition: bool = False,
) -> Path:
    """One picture during training: ten originals, their reconstructions (where there is a latent), twenty samples.

    The rows of `split` and the noise behind the samples depend on `seed` alone, so that a run's pictures
    can be leafed through. A picture among those of a run folder leaves a frame of its film as well.
    """
    target = Path(path)
    with looking(model, seed) as device:
        rows = Rows(split, contract, device, condition)
        x, c = rows.spread(10, seed)
        again = [model.reconstruct(x, c)] if model.latent else []
        drawn = model.sample(20, rows.cycled(20))
        if contract.is_image:
            shown = [contract.picture(v) for v in (x, *again, drawn[:10], drawn[10:])]
            picture = pictures.strip(shown, ["original", *["reconstruction" for _ in again], "samples", ""])
        else:
            picture = _beside(contract, x, again[0]) if again else _samples(model, contract, rows, x)
    pictures.save(picture, target)
    run = RunFolder(target.parent.parent)
    if target.parent == run.pictures:
        frames.keep(model, contract, rows, run.frames / f"{target.stem}.npz", seed)
    return target


def preview(data: Data, *, seed: int = 0) -> Any:
    """Training rows, a `PIL.Image`: images as the model will see them, tables in their own units.

    A row of images for each label where there are 2 to 20, else a grid; rows of a table as a heat map.
    """
    contract, split = data.contract, data.train
    rows = Rows(split, contract, torch.device("cpu"), condition=False)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        if not contract.is_image:
            values = contract.unscale(rows.spread(ROWS, seed)[0])
            return pictures.vectors(values, None, contract.columns or None, ("rows", ""))
        if split.label is None or not 1 < len(contract.labels) <= 20:
            return pictures.grid(contract.picture(rows.spread(SAMPLES, seed)[0]))
        order = np.random.default_rng(seed).permutation(len(split))
        each = [order[split.label[order] == i][:10] for i in range(len(contract.labels))]
        shown = [(name, index) for name, index in zip(contract.labels, each, strict=True) if len(index)]
        pictured = [contract.picture(rows.at(index)[0]) for _, index in shown]
        return pictures.strip(pictured, [str(name) for name, _ in shown])


class Rows:
    """Rows of the split as the model sees them, with bits that stay the same where they are binarised."""

    def __init__(self, split: Split, contract: Contract, device: torch.device, condition: bool) -> None:
        self.split, self.contract, self.device, self.condition = split, contract, device, condition
        self.preparation = Preparation(contract).to(device)

    def at(self, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Rows at index -> x [B, ...] in model units, c [B, n] or None."""
        from dataclasses import replace

        label = self.split.label
        part = replace(self.split, x=self.split.rows(index), label=None if label is None else label[index])
        frozen = part.frozen(self.contract)
        batches = Batches(frozen, self.contract, self.device, condition=self.condition)
        raw, c = batches.get(np.arange(len(index)))
        return self.preparation(raw), c

    def spread(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """n rows that take the labels in turn (0, 1, 2, ..., 0, 1, ...), or any n where there are none."""
        return self.at(in_turn(self.split, n, seed))

    def codes(self, model: VAE, index: np.ndarray) -> Tensor:
        """Mean codes [N, D] on the CPU, float32."""
        step = max(1, min(1000, (1 << 23) // int(np.prod(self.contract.shape))))
        parts = [index[i : i + step] for i in range(0, len(index), step)]
        return torch.cat([model.encode(*self.at(part)).mean.float().cpu() for part in parts])

    def cycled(self, n: int) -> Tensor | None:
        """One-hot labels [n, labels] in turn, or None."""
        if not self.condition:
            return None
        kinds = len(self.contract.labels)
        return torch.eye(kinds, device=self.device)[torch.arange(n) % kinds]


def _beside(contract: Contract, x: Tensor, again: Tensor) -> Any:
    if contract.is_image:
        return pictures.pairs(contract.picture(x), contract.picture(again))
    return pictures.vectors(x, again, contract.columns or None)


def _samples(model: VAE, contract: Contract, rows: Rows, x: Tensor) -> Any:
    if not contract.is_image:
        drawn = model.sample(len(x), rows.cycled(len(x)), noise=True)
        return pictures.vectors(x, drawn, contract.columns or None, ("original", "sample"))
    if not rows.condition:
        return pictures.grid(contract.picture(model.sample(SAMPLES)))
    kinds = min(len(contract.labels), 20)
    each = torch.eye(len(contract.labels), device=rows.device)[:kinds].repeat_interleave(10, 0)
    shown = contract.picture(model.sample(len(each), each))
    return pictures.strip(np.split(shown, kinds), [str(name) for name in contract.labels[:kinds]])


def _manifold(model: VAE, contract: Contract, codes: Tensor, rows: Rows, answers: bool) -> Any:
    """A decoded grid; None for vectors over one latent dimension, which the latent map shows already."""
    D = model.latent
    side = 15 if max(contract.shape[-2:]) <= 32 else 11  # odd, so that the median stands in the middle
    c = rows.cycled(1)
    z = walks.grid(model.prior(c), codes, side, answers)
    z = z.to(rows.device).float()
    c = None if c is None else c.expand(len(z), -1)
    step = max(1, (1 << 22) // int(np.prod(contract.shape)))
    parts = [model.decode(part, None if c is None else c[: len(part)]).centre for part in z.split(step)]
    decoded = torch.cat(parts)
    if contract.is_image:
        shown = contract.picture(decoded)
        return pictures.grid(shown, side) if D > 1 else pictures.strip([shown])
    if D == 1:
        return None
    names = ("$z_0$", "$z_1$") if D == 2 else ("principal direction 1", "principal direction 2")
    return pictures.fields(decoded.reshape(side, side, -1), contract.columns or None, names)
