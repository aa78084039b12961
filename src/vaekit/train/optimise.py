"""From gradients to weights: an optimiser for each player, clipping, and the steps that are better not taken.

Nothing here waits for the device. A fused optimiser leaves weights and moments alone where its `found_inf` is
1 and divides gradients by its `grad_scale`, so skipping and clipping are decided and done on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.errors import VaekitError
from vaekit.recipe.settings import TrainSettings
from vaekit.train.sharded import Shards

Agree = Callable[[Tensor], Tensor] | None

SETTLING = 20  # accepted steps before a gradient norm can be called a freak
MEMORY = 0.02  # weight of the newest norm in the running mean


class Updates:
    """The players' optimisers, and the rule that skips a step."""

    def __init__(self, objective: nn.Module, settings: TrainSettings, device: torch.device) -> None:
        self.clip, self.skip_factor = settings.clip, settings.skip_factor
        self.shards = Shards(players_of(objective))
        self.players = self.shards.players
        self.names = tuple(self.players)
        self.fused = device.type in ("cpu", "cuda")
        self.optimizers = {
            name: _optimizer(parameters, settings, self.fused) for name, parameters in self.players.items()
        }
        self.everything = [p for parameters in self.players.values() for p in parameters]
        self.running_norm = torch.zeros(len(self.players), device=device)
        self.accepted = torch.zeros(len(self.players), device=device)

    def zero_grad(self) -> None:
        """Forget the gradients. `Optimizer.zero_grad` does it too, and takes ten times as long."""
        for p in self.everything:
            p.grad = None

    def norms(self) -> Tensor:
        """Global gradient norm of each player [players]."""
        if self.shards.pairs:
            return self.shards.norms()
        norms = []
        for parameters in self.players.values():
            grads = [p.grad for p in parameters if p.grad is not None]
            squares = torch.stack(torch._foreach_norm(grads)) if grads else torch.zeros_like(self.accepted)
            norms.append(torch.linalg.vector_norm(squares, dim=0, keepdim=True))
        return (norms[0] if len(norms) == 1 else torch.cat(norms)).float()

    def apply(self, losses: Tensor, learning_rate: float, agree: Agree = None) -> tuple[Tensor, Tensor]:
        """Take or skip each player's step: gradient norms [players], NaN where skipped, and the skips, bool.

        losses: detached, [players]. A step is skipped where the loss or the norm is not finite, or where the
        norm is over `skip_factor` times its running mean. `agree` maps the flags of this process, as float,
        to their sum over processes.
        """
        if self.shards.pairs:
            self.shards.take_gradients()
        norms = self.norms()
        bad = self.judge(norms, losses)
        flags = bad.float()
        if agree is not None:
            flags = agree(flags).clamp(max=1)
            bad = flags > 0
        self._step(norms, flags, learning_rate)
        return torch.where(bad, torch.nan, norms), bad

    def judge(self, norms: Tensor, losses: Tensor) -> Tensor:
        """Which players' steps to skip, bool [players], from norms and losses [players]."""
        check = norms + losses
        bad = (check - check) != 0  # not finite, in two operations
        return bad if self.skip_factor is None else bad | self._freak(norms, bad, self.skip_factor)

    def moments(self, name: str) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Adam's own state of a player, begun if need be: count 0-d, first and second moment of each parameter."""
        state = self.optimizers[name].state
        for p in self.players[name]:
            if not state[p]:
                state[p] = {
                    "step": torch.zeros((), device=p.device),
                    "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p),
                }  # fmt: skip
        return [(state[p]["step"], state[p]["exp_avg"], state[p]["exp_avg_sq"]) for p in self.players[name]]

    def _freak(self, norms: Tensor, not_finite: Tensor, factor: float) -> Tensor:
        running, accepted = self.running_norm, self.accepted
        freak = (accepted >= SETTLING) & (norms > factor * running) & ~not_finite
        weight = (1 / (accepted + 1)).clamp(min=MEMORY)
        # Each freak lifts the mean by a tenth, so a scale that has changed for good is accepted in the end.
        moved = torch.where(freak, 1.1 * running, torch.lerp(running, norms, weight))
        running.copy_(torch.where(not_finite, running, moved))
        accepted += (~(freak | not_finite)).float()
        return freak

    def _step(self, norms: Tensor, flags: Tensor, learning_rate: float) -> None:
        scale = (norms / self.clip).clamp(min=1.0) if self.clip is not None else None
        for i, (name, optimizer) in enumerate(self.optimizers.items()):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            if self.fused:
                optimizer.found_inf = flags[i]  # type: ignore[attr-defined]
                optimizer.grad_scale = None if scale is None else scale[i]  # type: ignore[attr-defined]
                optimizer.step()
            elif not flags[i]:  # a device sync: mps has no found_inf
                if scale is not None:
                    torch._foreach_div_([p.grad for p in self.players[name] if p.grad is not None], scale[i])
                optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        optimizers = {
            name: self.shards.gathered(name, optimizer.state_dict())
            for name, optimizer in self.optimizers.items()
        }
        return {"optimizers": optimizers, "running_norm": self.running_norm, "accepted": self.accepted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for name, optimizer in self.optimizers.items():
            settings = [
                {k: v for k, v in group.items() if k not in ("params", "lr")}
                for group in optimizer.param_groups
            ]
            optimizer.load_state_dict(self.shards.parts(name, state["optimizers"][name]))
            for group, mine in zip(optimizer.param_groups, settings, strict=True):
                group.update(mine)  # a resume may change weight decay and the like
        self.running_norm.copy_(state["running_norm"])
        self.accepted.copy_(state["accepted"])


def players_of(objective: Any) -> dict[str, list[nn.Parameter]]:
    """The objective's players; VaekitError unless each trainable parameter belongs to exactly one."""
    if hasattr(objective, "players"):
        players = {name: list(parameters) for name, parameters in objective.players().items()}
    else:
        players = {"model": [p for p in objective.parameters() if p.requires_grad]}
    owners: dict[int, str] = {}
    named = {id(p): name for name, p in objective.named_parameters()}
    for player, parameters in players.items():
        if not parameters:
            raise VaekitError(f"player {player!r} of {type(objective).__name__} has no parameters to train")
        for p in parameters:
            if id(p) in owners:
                name = named.get(id(p), "a parameter")
                raise VaekitError(
                    f"{name} belongs to the players {owners[id(p)]!r} and {player!r}; give it to one"
                )
            owners[id(p)] = player
    left = [name for name, p in objective.named_parameters() if p.requires_grad and id(p) not in owners]
    if left:
        raise VaekitError(
            f"{len(left)} trainable parameters belong to no player, the first {left[0]}; name its player"
        )
    return players


def _optimizer(parameters: list[nn.Parameter], settings: TrainSettings, fused: bool) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "SGD":
        sgd = torch.optim.SGD(
            parameters, lr=rate, momentum=settings.momentum, weight_decay=decay, fused=fused or None
        )
        if settings.momentum:
            # torch's fused SGD leaves a new momentum buffer unwritten where its first step is skipped.
            for p in parameters:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return sgd
    kind = torch.optim.Adam if settings.optimizer == "Adam" else torch.optim.AdamW
    return kind(
        parameters, lr=rate, betas=settings.betas, eps=settings.eps, weight_decay=decay, fused=fused or None
    )


def check_players(objective: nn.Module, x: Tensor, c: Tensor | None, t: Tensor) -> None:
    """VaekitError if one player's loss reaches another player's parameters, or losses and players do not
    match.

    The loop back-propagates the sum of the losses, so such a leak would train a player on a foreign loss.
    """
    players = players_of(objective)
    loss, _ = objective(x, c, t)
    losses = loss if isinstance(loss, dict) else {"model": loss}
    if set(losses) != set(players):
        raise VaekitError(
            f"{type(objective).__name__} gives losses for {sorted(losses)} but names the players "
            f"{sorted(players)}; they must be the same"
        )
    named = {id(p): name for name, p in objective.named_parameters()}
    for player, value in losses.items():
        others = [(other, p) for other, group in players.items() if other != player for p in group]
        if not others or not value.requires_grad:
            continue
        grads = torch.autograd.grad(value, [p for _, p in others], retain_graph=True, allow_unused=True)
        for (other, p), grad in zip(others, grads, strict=True):
            if grad is not None:
                raise VaekitError(
                    f"the loss of player {player!r} reaches {named.get(id(p), 'a parameter')} of "
                    f"player {other!r}; detach it there (vaekit.objectives.constant)"
                )
