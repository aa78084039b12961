"""A trained model with its data contract: data in, data out. What looks at it is called late."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Contract, Data, Split
from vaekit.errors import VaekitError
from vaekit.model import VAE
from vaekit.recipe import Recipe
from vaekit.run import inputs
from vaekit.run.folder import RunFolder
from vaekit.run.looking import looking

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaekit.objectives.common import Objective
    from vaekit.run.arithmetic import Arithmetic


@dataclass(frozen=True)
class Codes:
    """Codes of rows: `mean` [N, D], `log_variance` [N, D], `label` int64 [N] and the names of these, `labels` [N].

    What there is not is None; a row without a label has -1 and "". `split` names the split they are of.
    """

    mean: np.ndarray
    log_variance: np.ndarray | None
    label: np.ndarray | None
    labels: np.ndarray | None = None
    split: str = ""

    def __len__(self) -> int:
        return len(self.mean)

    def arrays(self) -> dict[str, np.ndarray | None]:
        """By the names that `vaekit encode` writes."""
        return {
            "mean": self.mean, "log_variance": self.log_variance, "label": self.label, "labels": self.labels,
        }  # fmt: skip


class Run:
    """An opened run. `model` takes model units; the methods take and give arrays in the data's own units.

    Data are a name, a path, an array, a tensor, a `Split`, or None for the run's own; labels names or ids.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        contract: Contract,
        objective: Objective,
        folder: RunFolder | None = None,
    ) -> None:
        self.path, self.recipe, self.contract = path, recipe, contract
        self.objective, self.folder = objective, folder
        self.own: Data | None = None  # the run's data, once opened

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.recipe.name or 'recipe'}, {self.contract.line()})"

    @property
    def model(self) -> VAE:
        return self.objective.model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def condition(self) -> bool:
        """Whether the model is given the label."""
        return self.recipe.model.condition == "label"

    @property
    def fitted(self) -> bool:
        """Whether the prior was fitted to the codes after training."""
        return self.recipe.prior.trained is not None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl. Raises VaekitError for a weights file without its run."""
        if self.folder is None:
            raise VaekitError(
                f"{self.path} is a weights file alone; its metrics are in the folder of its run"
            )
        return self.folder.read_metrics()

    # -- data

    def data(self) -> Data:
        """The run's own data, opened once. Raises VaekitError if they have gone or broken the contract."""
        if self.own is None:
            self.own = inputs.own_data(self, self.contract)
            if self.own.contract.hash != self.contract.hash:
                warnings.warn(
                    f"the data at {self.recipe.data.source} have changed since this run", stacklevel=2
                )
        return self.own

    def rows(self, data: Any = None, split: str = "test", label: Any = None) -> Split:
        """Rows as a split: of the run's own data, or of others, which must keep the contract.

        `split` is train, valid, test or all; others that name no splits are taken whole. `label`, one or one
        a row, stands in for those of the data. Bits of binarised data are the fixed ones of evaluation.
        """
        return inputs.rows(self, data, split, label)

    def batches(self, rows: Split) -> Iterator[tuple[Tensor, Tensor | None]]:
        """x [B, ...] in model units and c [B, n] or None, row after row, at most 512 at a time."""
        return inputs.batches(self, rows)

    def conditions(self, n: int, label: Any = None, turns: bool = False) -> Tensor | None:
        """One-hot c [n, labels], None where the model takes none; with `turns`, by default all in turn."""
        return inputs.conditions(self, n, label, turns)

    # -- the model, data in and data out

    def looking(self, seed: int | None = None) -> contextlib.AbstractContextManager[torch.device]:
        """No gradient, eval mode, and with a seed a generator of one's own; all is as before afterwards."""
        return looking(self.model, seed)

    def in_data_units(self, x: Tensor, noise: bool = False) -> np.ndarray:
        """Model units -> data units. The centre of bits is their probability: as a grey value where the data
        are binarised greys, else as a number in between."""
        if self.contract.kind != "binary" or noise:
            return self.contract.unscale(x)
        values = x.float().cpu().numpy() * np.float32(self.contract.divisor[0]) + np.float32(
            self.contract.offset[0]
        )
        values = values.clip(self.contract.low, self.contract.high)
        return np.rint(values).astype(self.contract.dtype) if self.contract.binarize else values

    def sample(
        self,
        n: int = 16,
        *,
        seed: int | None = None,
        label: Any = None,
        noise: bool = False,
        with_codes: bool = False,
    ) -> Any:
        """n items from the prior [n, ...]: the centre of p(x given z), or with `noise` a draw of it.

        A conditional model takes `label`, or all labels in turn. With `with_codes` also z [n, D].
        """
        if n < 1:
            raise VaekitError(f"{n} samples asked for; ask for at least 1")
        if not (self.fitted or getattr(self.model.posterior, "has_density", True)):
            warnings.warn(
                f"{type(self.model.posterior).__name__} fits no prior to its codes: these are decoded draws from "
                f"{type(self.model.prior).__name__}, not samples of the data; Run.fit_prior (vaekit fit-prior) fits one",
                stacklevel=2,
            )
        with self.looking(seed):
            c = self.conditions(n, label, turns=True)
            z = self.model.draw(n, c)
            x = self.decoded(z, c, noise)
        return (x, z.cpu().numpy()) if with_codes else x

    def encode(self, data: Any = None, *, split: str = "all", label: Any = None) -> Codes:
        """Codes of every row, in the order of the rows (train, valid, test for "all"). Nothing is random."""
        inputs.need_latent(self, "there are no codes")
        rows = self.rows(data, split, label)
        means: list[Tensor] = []
        log_variances: list[Any] = []
        with self.looking():
            for x, c in self.batches(rows):
                q = self.model.encode(x, c)
                means.append(q.mean.cpu())
                log_variances.append(getattr(q, "log_variance", None))
        spread = None
        if log_variances and log_variances[0] is not None:
            spread = torch.cat(
                [v.expand_as(m).cpu() for v, m in zip(log_variances, means, strict=True)]
            ).numpy()
        names = None if rows.label is None else self.contract.names_of(rows.label)
        return Codes(torch.cat(means).numpy(), spread, rows.label, names, rows.name)

    def decode(
        self, points: Any, *, label: Any = None, noise: bool = False, seed: int | None = None
    ) -> np.ndarray:
        """Latent points [N, D] (or one, [D]) -> items [N, ...]. Raises VaekitError for another length."""
        z = inputs.points(points, self.model.latent).to(self.device)
        with self.looking(seed):
            return self.decoded(z, self.conditions(len(z), label), noise)

    def reconstruct(
        self, data: Any = None, *, n: int | None = None, split: str = "test", seed: int = 0, label: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Originals [N, ...] and the centre of p(x given their mean code); the seed chooses `n` rows, and draws
        where a centre is a draw (`AutoregressiveLikelihood`)."""
        if n is not None and n < 1:
            raise VaekitError(f"{n} reconstructions asked for; ask for at least 1")
        inputs.need_latent(self, "nothing is reconstructed")
        rows = self.rows(data, split, label)
        if n is not None and n < len(rows):
            rows = inputs.subset(rows, np.sort(np.random.default_rng(seed).permutation(len(rows))[:n]))
        with self.looking(seed):
            again = [self.in_data_units(self.model.reconstruct(x, c)) for x, c in self.batches(rows)]
        return rows.rows(slice(None)), np.concatenate(again)

    def decoded(self, z: Tensor, c: Tensor | None, noise: bool = False) -> np.ndarray:
        """z [N, D] -> items [N, ...] in data units, 256 at a time."""
        parts = []
        for start in range(0, len(z), 256):
            p_x = self.model.decode(z[start : start + 256], None if c is None else c[start : start + 256])
            parts.append(self.in_data_units(p_x.sample() if noise else p_x.centre, noise))
        return np.concatenate(parts)

    # -- thin doors to the rooms that look at a model

    def interpolate(
        self, start: Any, end: Any, *, steps: int = 10, path: str = "spherical", label: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items [steps, ...] and codes [steps, D] from `start` to `end`: each a row of the test split (its
        number), a latent point ("0.5,0.5" or D numbers), a row of data or the path of one."""
        from vaekit.run.walking import interpolate

        return interpolate(self, start, end, steps, path, label)

    def traverse(
        self,
        at: Any = None,
        *,
        dimensions: Any = None,
        steps: int = 9,
        extent: float = 2.5,
        label: Any = None,
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Items [R * steps, ...], codes and the names of R rows: one latent dimension moved in each, `extent`
        standard deviations of the codes to each side of `at`, by default those ten that vary most."""
        from vaekit.run.walking import traverse

        return traverse(self, at, dimensions, steps, extent, label)

    def manifold(self, n: int = 20, *, label: Any = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The decoded latent grid [n * n, ...] and its codes: at the prior's quantiles for D = 2 (D = 1:
        [n, ...]), in the principal plane of the codes for D > 2."""
        from vaekit.run.walking import manifold

        return manifold(self, n, label, seed)

    def arithmetic(
        self, plus: str, minus: str, to: Any, *, groups: str | os.PathLike[str] | None = None, steps: int = 7,
        n: int = 4, label: Any = None, seed: int = 0,
    ) -> Arithmetic:  # fmt: skip
        """`to` moved by the mean code of the training rows of one group minus another's, at `steps` strengths from 0
        to 1.5 (Radford et al. 2016, https://arxiv.org/abs/1511.06434; attribute vectors, Larsen et al. 2016,
        https://arxiv.org/abs/1512.09300).

        Groups are labels, or named by the CSV `groups` with a column `group` and one of `file` or `row`. `to` is a
        group, whose mean and `n` rows are moved (held-out ones first, by the seed), or as for `interpolate`;
        "row:3" is row 3 where a group is called 3. A conditional run decodes each item under its own label, and
        its codes leave labels out, so that `plus` and `minus` must then come from the CSV.
        Raises VaekitError for an unknown group, one without training rows, and a CSV that does not fit the data.
        """
        from vaekit.run.arithmetic import arithmetic

        return arithmetic(self, plus, minus, to, groups=groups, steps=steps, n=n, label=label, seed=seed)

    def evaluate(
        self, data: Any = None, *, split: str = "test", k: Sequence[int] = (1, 10, 100, 1000),
        binarize: str | None = None, limit: int | None = None, seed: int = 0, device: str | None = None,
        progress: bool = False, label: Any = None, ais: int | Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What `vaekit evaluate --json` prints: elbo, rate, distortion, nll at several k, nats an image.

        `ais`: anneal log p(x) of so many rows, or {"images": 100, "steps": 250, "chains": 16, "start": "prior",
        "leapfrog": 2}, to know how far the bounds are from it (`metrics.ais.Annealing`).
        """
        from vaekit.run.judging import evaluate

        return evaluate(
            self, data, split=split, k=k, binarize=binarize, limit=limit, seed=seed, device=device,
            progress=progress, label=label, ais=ais,
        )  # fmt: skip

    def refit_encoder(self, *, set: Iterable[str] = (), progress: bool | None = None) -> Run:
        """This model with its posterior trained further, so that bounds lie nearer to the same log p(x).

        Decoder and prior are frozen, the posterior sees training rows alone, by DReG with 8 draws for 3,000 steps;
        `set=["train.epochs=20", "objective.draws=16"]` changes that. A point posterior becomes a Gaussian one on its
        net. The result is a run of its own in RUN/refitted, kept for the next call as long as this run's weights stay
        what they are. Raises VaekitError where there is nothing to refit, InterruptedRun as training does.
        """
        from vaekit.train.refit import refit_encoder

        return refit_encoder(self, set=set, progress=progress)

    def fit_prior(
        self, kind: str = "mixture", *, data: Any = None, components: int | None = None,
        output: str | os.PathLike[str] | None = None, seed: int = 0, progress: bool | None = None,
    ) -> Run:  # fmt: skip
        """This model with a prior fitted by maximum likelihood to the codes of its training rows (Ghosh et al. 2020,
        https://arxiv.org/abs/1903.12436, sec. 4); encoder and decoder stay as they are.

        kind: "gaussian", one of any covariance; "mixture", of `components` such Gaussians, by default as many as held-out
        codes want; "flow", affine couplings. In a conditional model each label gets a density (a mixture: so many
        components) of its own. Codes are draws of the posterior, so that what log p(z) gains the ELBO gains; of a
        point posterior they are its points.

        The prior becomes that of the run's folder, whose former state is kept in RUN/as-trained (`restore_prior`);
        with `output` a folder of its own is made, and this one left alone. prior.json says what was gained. Returns the
        run with the new prior. `data`: the run's own, where they were an array or have moved.

        Raises VaekitError where there is nothing to fit, InterruptedRun after Ctrl-C.
        """
        from vaekit.train.prior import fit_prior

        return fit_prior(
            self, kind, data=data, components=components, output=output, seed=seed, progress=progress
        )

    def scores(
        self, data: Any = None, *, split: str = "test", k: int = 1, seed: int = 0, label: Any = None
    ) -> dict[str, np.ndarray]:
        """Each row's `elbo`, `rate`, `distortion` and `nll` [N], nats, from k draws: what `evaluate` gives the means of.
        Of a point posterior `distortion` alone; without `nll` where the likelihood is no density of these data."""
        from vaekit.run.scoring import scores

        return scores(self, self.rows(data, split, label), k, seed)

    def latents(
        self, data: Any = None, *, split: str = "test", seed: int = 0, device: str | None = None,
        progress: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """What the latent space is worth beside the bound: reconstruction error, KL and mutual information of each
        dimension, the cloud of codes and its holes against the prior, accuracy of k-NN and a linear probe on codes,
        quality of decoded samples and midpoints, smoothness (`metrics.latents.latents` says how). The run's own test
        split leaves latents.json in the run. On training rows the probes are judged where they were fitted, and the
        floor of the distances is 0."""
        from vaekit.run.readings import latents

        return latents(self, data, split, seed, device, progress)

    def samples(
        self, data: Any = None, *, split: str = "test", seed: int = 0, device: str | None = None,
        inception: str | os.PathLike[str] | None = None, progress: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """How near samples come to held-out rows: Fréchet and kernel distance, precision, recall, density and coverage on
        features of a small classifier, beside those of training rows (`metrics.samples.samples` says how). `inception`:
        a file of that network's weights (.pth, .safetensors), for the FID. The run's own test split leaves samples.json
        in the run."""
        from vaekit.run.readings import samples

        weights = None if inception is None else Path(inception)
        return samples(self, data, split, seed, device, weights, progress)

    def copies(
        self, data: Any = None, *, split: str = "test", seed: int = 0, device: str | None = None,
        progress: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Whether samples repeat training rows: distances to the nearest of all training rows, against those of held-out
        rows (`metrics.copies.copies` says how). The run's own test split leaves copies.json, .npz and .png in the run."""
        from vaekit.run.readings import copies

        return copies(self, data, split, seed, device, progress)

    def disentanglement(
        self, data: Any = None, *, split: str = "test", seed: int = 0, device: str | None = None,
        progress: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """How far latent dimensions are the factors that the data were made from, where these are known (`sprites`): MIG,
        SAP, DCI, FactorVAE and beta-VAE scores, modularity (`metrics.disentanglement.judge` says how). Minutes, nearly
        all of them DCI's. `split` all is the whole grid, as published scores are. The run's own test split leaves
        disentanglement.json and disentanglement.png in the run. Raises VaekitError for data without factors."""
        from vaekit.run.disentangling import disentanglement

        return disentanglement(self, data, split=split, seed=seed, device=device, progress=progress)

    def report(
        self, lang: str = "en", output: str | os.PathLike[str] | None = None, *, seed: int = 0,
        progress: bool = False,
    ) -> Path:  # fmt: skip
        """Write RUN/report.html (RUN/report.ko.html), or `output`: all of the run on one page that needs nothing else.

        `lang` is en or ko; `seed` chooses rows and noise. A test split that has not been evaluated is, with few draws.
        """
        from vaekit.report.build import report

        return report(self, lang, output, seed=seed, progress=progress)

    def info(self) -> dict[str, Any]:
        """What the run is, in facts that JSON can hold."""
        from vaekit.run.judging import info

        return info(self)

    def facts_of(self, info: Mapping[str, Any]) -> str:
        """The facts as lines for a person."""
        from vaekit.run.judging import lines

        return lines(info)

    def table_of(self, found: Mapping[str, Any], reading: str = "nats") -> str:
        """A reading as lines for a person: of `nats` what `evaluate` gives, else what the method of its name does."""
        from vaekit.run.telling import READINGS

        return READINGS[reading](found)

    def picture_of(
        self,
        x: np.ndarray,
        *,
        columns: int | None = None,
        rows: Sequence[str] | None = None,
        steps: Sequence[str] | None = None,
    ) -> Image:
        """Items [N, ...] in data units as a picture; with `rows` a name for each row of `columns`.

        Vectors stand beside rows of the data; those of a walk, which have `rows` or `steps` (a name an item),
        stand alone.
        """
        from vaekit.run.showing import items

        return items(self, x, columns, rows, steps)

    def picture_of_grid(self, x: np.ndarray, side: int) -> Image:
        """A decoded latent grid [side * side, ...] in data units; for vectors a small map a column."""
        from vaekit.run.showing import latent_grid

        return latent_grid(self, x, side)

    def picture_of_arithmetic(self, found: Arithmetic) -> Image:
        """The decoded means, and below what was moved, a row each, the original at its left."""
        from vaekit.run.showing import moved

        return moved(self, found)

    def picture_of_pairs(self, originals: np.ndarray, reconstructions: np.ndarray) -> Image:
        """Originals above their reconstructions."""
        from vaekit.run.showing import pairs

        return pairs(self, originals, reconstructions)

    def picture_of_codes(self, codes: Codes, *, colours: str | None = None) -> Image:
        """The latent map, coloured by label; the principal plane where D > 2. `colours` names a colormap of
        matplotlib, e.g. "viridis", which is drawn with its bar."""
        from vaekit.run.showing import latent_map

        return latent_map(torch.from_numpy(codes.mean), codes.label, self.contract, codes.split, colours)
