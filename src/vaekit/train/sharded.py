"""Weights shared out among processes (FSDP2): each holds a part of every weight and steps that part alone.

The optimiser, the average and the rule that skips see the parts as plain tensors, so they are what they are in one
process; only norms and checkpoints put the parts together. What a checkpoint holds is whole, whichever way it was
trained. The method: Zhao et al. 2023, https://arxiv.org/abs/2304.11277.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

# numbers in a layer that is gathered by itself, when it is called; below it the wait for the network costs more than the
# memory is worth
LARGE = 1_000_000


def share_out(module: nn.Module, mesh: DeviceMesh, device: torch.device, large: int = LARGE) -> None:
    """Put a module on the device and keep of each parameter the part of this process; a call gathers them for its time.

    Large layers of a Sequential, which are only ever called, are gathered one by one, everything else at once.
    Parameters of no dimensions cannot be divided and stay whole.
    """
    from torch.distributed.fsdp import fully_shard

    for p in module.parameters():
        p.data = p.data.contiguous()  # channels-last weights cannot be cut into parts
    whole = {p for p in module.parameters() if p.dim() == 0}
    for p in whole:
        p.data = p.data.to(device)
    options: dict[str, Any] = {"mesh": mesh, **({"ignored_params": whole} if whole else {})}
    layers = [layer for body in module.modules() if isinstance(body, nn.Sequential) for layer in body]
    for layer in reversed(list(dict.fromkeys(layers))):  # the inner ones first
        if sum(p.numel() for p in layer.parameters()) >= large:
            fully_shard(layer, **options)
    fully_shard(module, **options)


def close(module: nn.Module) -> None:
    """Give back what a call without a backward pass has left gathered."""
    reshard: Any = getattr(module, "reshard", None)
    if reshard is not None:
        reshard()


def own(tensor: Tensor) -> Tensor:
    """The part of a parameter that this process holds, as a plain tensor on the same memory; a plain one is itself."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Any, like: Any = None) -> Tensor:
    """The whole of a parameter, or of a tensor beside one (`like`), from the parts; all processes must call it."""
    like = tensor if like is None else like
    if not isinstance(like, DTensor):
        return tensor.detach()
    if not isinstance(tensor, DTensor):
        tensor = DTensor.from_local(
            tensor, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
    return tensor.detach().full_tensor()


def part(whole: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor, the part that this process holds of the parameter `like`."""
    if not isinstance(like, DTensor):
        return whole
    parts, mine = whole.chunk(like.device_mesh.size()), like.device_mesh.get_local_rank()
    return parts[mine] if mine < len(parts) else whole[:0]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """`module.state_dict()` of whole tensors; of shared-out weights all processes must call it."""
    close(module)
    return {name: gathered(value) for name, value in module.state_dict().items()}


@torch.no_grad()
def load(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over whole tensors, of which shared-out weights keep their part."""
    close(module)
    mine = module.state_dict()
    if not any(isinstance(value, DTensor) for value in mine.values()):
        module.load_state_dict(state)
        return
    for name, value in mine.items():
        own(value).copy_(part(state[name], value))


class Shards:
    """The players' parameters as the plain tensors that this process steps."""

    def __init__(self, players: dict[str, list[nn.Parameter]]) -> None:
        self.theirs = players
        self.players = {
            name: [nn.Parameter(own(p)) if isinstance(p, DTensor) else p for p in parameters]
            for name, parameters in players.items()
        }
        self.pairs = [
            pair
            for name in players
            for pair in zip(players[name], self.players[name], strict=True)
            if pair[0] is not pair[1]
        ]
        self.whole = [p for parameters in players.values() for p in parameters if not isinstance(p, DTensor)]

    def take_gradients(self) -> None:
        """Bring the gradients, averaged over processes, to where the optimisers look for them."""
        for theirs, mine in self.pairs:
            mine.grad = None if theirs.grad is None else own(theirs.grad)
            theirs.grad = None
        grads = [p.grad for p in self.whole if p.grad is not None]
        if grads:
            mean = torch.stack(grads)  # of no dimensions, all of them
            dist.all_reduce(mean)
            torch._foreach_copy_(grads, list((mean / dist.get_world_size()).unbind()))

    def norms(self) -> Tensor:
        """Global gradient norm of each player [players], over the parts of all processes."""
        parts, wholes = [], []
        for theirs, mine in zip(self.theirs.values(), self.players.values(), strict=True):
            pairs = list(zip(theirs, mine, strict=True))
            parts.append(_squares(m.grad for t, m in pairs if t is not m))
            wholes.append(_squares(m.grad for t, m in pairs if t is m))
        device = self.players[next(iter(self.players))][0].device
        total = torch.stack([part.to(device) for part in parts])
        dist.all_reduce(total)
        return (total + torch.stack([whole.to(device) for whole in wholes])).sqrt()

    def gathered(self, name: str, state: dict[str, Any]) -> dict[str, Any]:
        """An optimiser's state dict with whole tensors; all processes must call it."""
        return self._each(name, state, gathered)

    def parts(self, name: str, state: dict[str, Any]) -> dict[str, Any]:
        """Of an optimiser's state dict with whole tensors, the part of this process."""
        return self._each(name, state, part)

    def _each(self, name: str, state: dict[str, Any], change: Any) -> dict[str, Any]:
        entries = {
            index: {
                key: change(value, self.theirs[name][index])
                if isinstance(value, Tensor) and value.dim()
                else value
                for key, value in entry.items()
            }
            for index, entry in state["state"].items()
        }
        return {**state, "state": entries}


def _squares(grads: Iterable[Tensor | None]) -> Tensor:
    """The sum of squares, 0-d."""
    known = [g for g in grads if g is not None]
    return torch.stack(torch._foreach_norm(known)).square().sum().float() if known else torch.zeros(())
