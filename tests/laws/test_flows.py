"""Flows invert, their log-determinants equal autograd's Jacobian, and the law they push forward is a density."""

import pytest
import torch

from vaekit import FlowPrior, StandardPrior, VaekitError
from vaekit.flows import CouplingFlow


def flow_of(latent: int, condition: int = 0) -> CouplingFlow:
    torch.manual_seed(0)
    flow = CouplingFlow(latent, 3, (8,), condition).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(0, 0.5)
    return flow


@pytest.mark.parametrize("latent", [2, 3, 8])
@pytest.mark.parametrize("condition", [0, 2])
def test_inverts_and_log_determinant_equals_the_jacobian(latent, condition):
    flow = flow_of(latent, condition)
    u = torch.randn(latent, dtype=torch.float64)
    c = torch.randn(condition, dtype=torch.float64) if condition else None
    z, log_determinant = flow(u, c)
    back, inverse_log_determinant = flow.inverse(z, c)
    torch.testing.assert_close(back, u)
    torch.testing.assert_close(inverse_log_determinant, -log_determinant)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v, c)[0], u)
    torch.testing.assert_close(log_determinant, torch.linalg.slogdet(jacobian).logabsdet)


def test_density_of_the_flow_integrates_to_one():
    prior = FlowPrior(2, layers=3, hidden=(8,)).double()
    prior.flow = flow_of(2)
    axis = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        total = prior().log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(total) - 1) < 1e-3


def test_draw_and_weight_agree_with_the_inverse():
    prior = FlowPrior(4, layers=3, hidden=(8,), condition=2).double()
    prior.flow = flow_of(4, 2)
    c = torch.randn(5, 2, dtype=torch.float64)
    z, log_p = prior(c).rsample_and_log_prob((3,))
    assert z.shape == (3, 5, 4)
    torch.testing.assert_close(prior(c).log_prob(z), log_p)


def test_a_new_flow_is_its_base():
    z = torch.randn(7, 6)
    torch.testing.assert_close(FlowPrior(6)().log_prob(z), StandardPrior(6)().log_prob(z))


def test_one_dimension_is_refused_in_words():
    with pytest.raises(VaekitError, match="at least 2 latent dimensions, not 1"):
        FlowPrior(1)


@pytest.mark.parametrize("latent", range(2, 65))
def test_two_layers_move_every_dimension(latent):
    moved = set()
    for layer in CouplingFlow(latent, 2, (4,)).layers:
        moved |= set(layer.permutation[layer.pass_size :].tolist())
    assert moved == set(range(latent))
