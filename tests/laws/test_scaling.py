"""A density is per grey level: where a model sees the greys (data.scale_to) is no matter, if the model moves along."""

import numpy as np
import pytest
import torch

from vaekit import recipe
from vaekit.data import open_data

F64 = torch.float64


def built(name, data, interval, *overrides):
    """The objective of a recipe on data seen in `interval`, in float64, and the rows in model units."""
    loaded = recipe.load(name, [f"data.scale_to={list(interval)}", *overrides])
    contract = open_data(data, scale_to=interval).contract
    objective = recipe.build(recipe.resolve(loaded, contract), contract).double()
    rows = torch.from_numpy(data)[:, None].to(F64)
    x = (rows - contract.offset[0]) / contract.divisor[0]  # `contract.scale` in float64
    torch.testing.assert_close(x.float(), contract.scale(rows))
    return objective, x


@pytest.mark.parametrize("interval", [(-1.0, 1.0), (0.0, 255.0), (-0.5, 0.1)])
@pytest.mark.parametrize("variance", [0.3, "optimal"])
@pytest.mark.parametrize("name", ["linear-ae", "linear-vae"])
def test_nats_do_not_depend_on_the_interval(name, variance, interval):
    data = np.random.default_rng(0).integers(0, 256, (10, 8, 8)).astype(np.uint8)
    data[0].flat[:2] = 0, 255
    low, width = interval[0], interval[1] - interval[0]
    plain, x = built(name, data, (0.0, 1.0), f"likelihood.variance={variance}")
    fitting = variance if variance == "optimal" else variance * width**2
    moved, y = built(name, data, interval, f"likelihood.variance={fitting}")
    torch.testing.assert_close(y, low + width * x)
    moved.load_state_dict(plain.state_dict())
    with torch.no_grad():  # the same model over y = low + width x
        encoder, decoder = (net.last for net in (moved.model.posterior.net, moved.model.likelihood.net))
        encoder.weight /= width
        encoder.bias -= low * encoder.weight.sum(1)
        decoder.weight *= width
        decoder.bias.mul_(width).add_(low)
    losses = []
    for objective, rows in ((plain, x), (moved, y)):
        torch.manual_seed(0)
        losses.append(objective(rows, None, torch.tensor(1.0))[0])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("interval", [(-1.0, 1.0), (0.0, 255.0)])
def test_over_the_grey_levels_a_density_adds_up_to_one(interval):
    data = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    width = interval[1] - interval[0]
    # about as wide as 15 of 255 grey levels: the sum over levels is then the integral
    objective, x = built("linear-ae", data, interval, f"likelihood.variance={(15 / 255 * width) ** 2}")
    with torch.no_grad():
        objective.model.likelihood.net.last.weight.zero_()
        objective.model.likelihood.net.last.bias.fill_(interval[0] + 0.45 * width)
        law = objective.model.decode(torch.zeros(1, 2, dtype=F64))
    levels = x.flatten()[:, None, None, None].expand(256, 1, 8, 8)
    torch.testing.assert_close(law.log_prob_elements(levels).exp().sum(0), torch.ones(1, 8, 8, dtype=F64))
