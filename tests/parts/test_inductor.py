"""The default recipe under torch.compile: the step that inductor writes is the eager one."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch._inductor import config

from vaekit import open_data, recipe

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler"
    ),
]


def step(objective, run, x):
    """Loss and gradients of one step, its noise from seed 0."""
    objective.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    loss, _ = run(x, None, torch.tensor(0.5))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in objective.named_parameters()}


@pytest.mark.parametrize("changes", [(), ("posterior.kind=PointPosterior",)], ids=["default", "point"])
def test_a_compiled_step_is_the_eager_one(changes):
    digits = open_data("digits")
    objective = recipe.build(
        recipe.resolve(recipe.load("digits", list(changes)), digits.contract), digits.contract
    ).train()
    x = digits.contract.scale(torch.from_numpy(digits.train.rows(slice(0, 64))))
    torch._dynamo.reset()
    loss, gradients = step(objective, objective, x)
    with config.patch(fallback_random=True):  # the draws of torch's own generator, as in eager
        compiled_loss, compiled = step(objective, torch.compile(objective), x)
    assert abs(loss - compiled_loss) <= 1e-4 * max(1, abs(loss))
    assert gradients and gradients.keys() == compiled.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-4, atol=1e-4, msg=name)
