"""A density fitted to codes: a mixture by expectation and maximisation, a flow by the one training loop."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data import Contract, Data, Split
from vaekit.errors import VaekitError
from vaekit.recipe import Recipe, TrainSettings
from vaekit.recipe.parts import part_class
from vaekit.run import RunFolder

CANDIDATES = (1, 3, 10, 30, 100)  # components that are tried where none are asked for
ROUNDS = 100  # of expectation and maximisation, at most
WORTH = 0.01  # nats of validation codes that more components must bring
# numbers of codes whose density is taken at a time: a hundred components make that a hundred times
PIECE = 1 << 17
FLOOR = 1e-4  # of the codes' root mean square deviation: the least that a dimension is taken to vary
LAYERS, HIDDEN = 6, (128,)
STEPS, BATCH, LEARNING_RATE, EMA = 3000, 512, 2e-3, 0.995
# steps between looks at held-out codes, and looks without gain after which a flow is done
LOOK, PATIENCE = 100, 5


@dataclass(frozen=True)
class Codes:
    """S draws of q(z given x) of each of N rows, z [S, N, D] float32 on the CPU, and the rows' labels int64 [N] where
    the model is given `labels` of them (0: it is not)."""

    z: Tensor
    label: Tensor | None
    labels: int

    @property
    def flat(self) -> np.ndarray:
        """All draws [S N, D], float64."""
        return self.z.flatten(0, 1).double().numpy()

    @property
    def flat_label(self) -> np.ndarray | None:
        return None if self.label is None else self.label.repeat(len(self.z)).numpy()

    @torch.no_grad()
    def log_density(self, prior: nn.Module) -> Tensor:
        """log p(z given c) of each row, the mean over its draws [N], nats, float64."""
        one_hot = None if self.label is None else torch.eye(self.labels)[self.label]
        step = max(1, PIECE // self.z[:, 0].numel())
        found = []
        for start in range(0, self.z.shape[1], step):
            here = slice(start, start + step)
            p_z = prior(None if one_hot is None else one_hot[here])
            found.append(p_z.log_prob(self.z[:, here]).double().mean(0))
        return torch.cat(found)


class Density(nn.Module):
    """-log p(z given c) as an objective: the model is the prior, and its data are codes."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.model = prior

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x [B, D] codes, c [B, n] or None."""
        loss = -self.model(c).log_prob(x).mean()
        return loss, {"loss": loss.detach()}


def mixture(
    codes: Codes, held: Codes, components: int | None, seed: int, say: Callable[[str], None]
) -> nn.Module:
    """A `FullMixturePrior` by maximum likelihood; without `components`, a label where there are labels, as many of
    `CANDIDATES` as make held-out codes likelier. Raises VaekitError for more components than codes."""
    rows = codes.z.shape[0] * codes.z.shape[1] // max(1, codes.labels)
    if components is not None:
        if not 1 <= components <= rows:
            raise VaekitError(
                f"components is {components}, and there are {rows:,} codes{' a label' * bool(codes.labels)} to fit them "
                f"to; give 1 to {rows:,}"
            )
        return _mixture(codes, components, seed)
    best, most = None, -np.inf
    for count in CANDIDATES:
        # a covariance wants more codes than it has columns
        if count > 1 and count * 2 * (codes.z.shape[-1] + 1) > rows:
            break
        made = _mixture(codes, count, seed)
        value = float(held.log_density(made).mean())
        say(f"{count} component{'s' * (count != 1)}: log p(z) {value:.3f} nats, held-out codes")
        if best is not None and value < most + WORTH:
            break
        best, most = made, value
    assert best is not None
    return best


def _mixture(codes: Codes, components: int, seed: int) -> nn.Module:
    """The mixture of so many components; in a conditional model so many for each label, side by side."""
    z, label = codes.flat, codes.flat_label
    if label is None:
        weights, means, covariances = _em(z, components, seed)
    else:
        own = [z[label == n] for n in range(codes.labels)]
        # a label of few rows has fewer components, but one if it has any
        counts = [min(components, max(1, len(rows) // (2 * z.shape[1] + 2))) for rows in own]
        each = [_em(rows, n, seed) if len(rows) else None for rows, n in zip(own, counts, strict=True)]
        known = [found for found in each if found is not None]
        means, covariances = (np.concatenate([found[part] for found in known]) for part in (1, 2))
        weights, at = np.zeros((codes.labels, len(means))), 0
        for number, found in enumerate(each):
            if found is None:
                weights[number] = 1 / len(means)  # a label that no row has: all that there is
                continue
            weights[number, at : at + len(found[0])] = found[0]
            at += len(found[0])
    prior: Any = part_class("prior", "FullMixturePrior")(z.shape[1], len(means), codes.labels)
    prior.become(*(torch.from_numpy(values) for values in (weights, means, covariances)))
    return prior


def _em(z: np.ndarray, components: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [M], means [M, D] and covariances [M, D, D] of codes [N, D], whatever the scale of a column."""
    from sklearn.mixture import GaussianMixture

    centre, scale = z.mean(0), _spread(z)
    model = GaussianMixture(components, random_state=seed % 2**32, max_iter=ROUNDS)
    if len(z) == 1:
        return np.ones(1), z, np.diag(scale**2)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has used up its rounds is a density too
        found = model.fit((z - centre) / scale)
    return found.weights_, found.means_ * scale + centre, found.covariances_ * scale[:, None] * scale


def _spread(z: np.ndarray) -> np.ndarray:
    """Standard deviation of each column [D], not below a ten-thousandth of what is usual; 1 where all is one point."""
    spread = z.std(0)
    usual = float(np.sqrt((spread**2).mean()))
    return np.maximum(spread, FLOOR * usual) if usual else np.ones_like(spread)


def flow(
    codes: Codes, held: Codes, recipe: Recipe, contract: Contract, seed: int, progress: bool | None
) -> nn.Module:
    """A `WhitenedFlowPrior` by maximum likelihood: the run's one loop, on codes for data. KeyboardInterrupt if it was
    stopped."""
    from vaekit.train import resolve, train
    from vaekit.train.automatic import steps_per_epoch
    from vaekit.train.progress import Wordless, choose

    D, z = codes.z.shape[-1], codes.flat
    scale = _spread(z)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        prior: Any = part_class("prior", "WhitenedFlowPrior")(D, LAYERS, HIDDEN, codes.labels)
    covariance = np.cov(((z - z.mean(0)) / scale).T).reshape(D, D) + 1e-6 * np.eye(D)
    prior.whiten(torch.from_numpy(z.mean(0)), torch.from_numpy(covariance * scale[:, None] * scale))
    n = len(z)
    settings = TrainSettings(
        steps=STEPS, batch_size=min(BATCH, n), learning_rate=LEARNING_RATE, ema=EMA, clip=100.0, seed=seed,
        device="cpu", precision="fp32", compile=False, pictures=False, patience=PATIENCE,
    )  # fmt: skip
    every = max(1, LOOK // steps_per_epoch(settings, n))
    settings = resolve(settings.model_copy(update={"validate_every": every}), n_train=n)
    table = Contract(
        source=f"codes of {contract.source}", shape=(D,), kind="real", low=float(z.min()), high=float(z.max()), levels=0,
        offset=(0.0,), divisor=(1.0,), dtype="float32", labels=contract.labels if codes.labels else (),
    )  # fmt: skip
    data = Data(table, _split(codes, "train"), _split(held, "valid"))
    shown = Wordless(choose(progress, 0))  # the doctor's advice is on the nets of a VAE
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        folder.write_recipe(recipe)
        folder.write_contract(table)
        outcome = train(Density(prior), data, settings, folder, condition=bool(codes.labels), progress=shown)
    if outcome.reason == "interrupted":
        raise KeyboardInterrupt
    prior.load_state_dict(outcome.weights)
    return prior.eval()


def _split(codes: Codes, name: str) -> Split:
    return Split(codes.z.flatten(0, 1).numpy(), codes.flat_label, name)
