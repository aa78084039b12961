"""The parts by hand, in a loop of your own: no recipe, no run folder, 30 lines.

python examples/own_loop.py            # about ten seconds on two cores
"""

import torch
from sklearn.datasets import load_digits

from vaekit import ELBO, MLP, VAE, BinomialLikelihood, GaussianPosterior, StandardPrior


def main(epochs: int = 40) -> tuple[float, float]:
    """Train on the 1,797 digits; returns the negative ELBO before and after, nats an image."""
    torch.manual_seed(0)
    x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16  # [N, 1, 8, 8], ink in 1/16
    latent, shape = 2, (1, 8, 8)
    model = VAE(
        StandardPrior(latent),
        GaussianPosterior(MLP(shape, (2 * latent,))),
        BinomialLikelihood(MLP((latent,), shape), levels=16),  # each value counts 0..16 ink pixels: exact
    )
    objective = ELBO(model, warm_up=0.1)
    objective.initialise(x, None, len(x))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    first = last = float("nan")
    for epoch in range(epochs):
        t = torch.tensor(epoch / epochs)
        total = 0.0
        for rows in torch.randperm(len(x)).split(128):
            loss, terms = objective(x[rows], None, t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total -= float(terms["elbo"]) * len(rows) / len(x)
        first, last = (total if epoch == 0 else first), total
        if epoch % 10 == 0 or epoch == epochs - 1:
            print(f"epoch {epoch:>3}: {total:.1f} nats, {terms['distortion']:.1f} + {terms['rate']:.1f}")
    pictures = model.sample(16)  # [16, 1, 8, 8] in [0, 1]
    print("samples", tuple(pictures.shape), f"ink {float(pictures.mean()):.2f}, data {float(x.mean()):.2f}")
    return first, last


if __name__ == "__main__":
    main()
