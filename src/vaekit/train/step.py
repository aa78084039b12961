"""One step as one module: what torch.compile traces, DDP wraps and autocast covers."""

from __future__ import annotations

from torch import Tensor, nn
from torch import stack as stack_tensors


class Step(nn.Module):
    """Scaling and binarisation, model and objective in one region; out come the numbers the loop needs."""

    def __init__(self, preparation: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.preparation, self.objective = preparation, objective
        self.names: tuple[str, ...] = ()
        self.players: tuple[str, ...] = ()

    def forward(self, raw: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """raw [B, ...] as stored, c [B, n] or None, t 0-d -> total loss, detached losses [players], terms
        [names].

        The names of the terms are left in `names`: strings would not pass through DDP.
        """
        loss, terms = self.objective(self.preparation(raw), c, t)
        losses = loss if isinstance(loss, dict) else {"model": loss}
        total = sum(losses.values()) if len(losses) > 1 else next(iter(losses.values()))
        terms = dict(terms)
        if len(losses) > 1:
            for player, value in losses.items():
                terms.setdefault(f"loss_{player}", value)
        terms.setdefault("loss", total)
        self.players, self.names = tuple(losses), tuple(terms)
        values = stack_tensors(list(terms.values())).detach()  # [names]
        return total, stack_tensors(list(losses.values())).detach(), values
