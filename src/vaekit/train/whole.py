"""A whole step as one compiled graph: forward, backward, the rule that skips, Adam and the average.

What compiling the model alone leaves outside costs as much as the model where steps are small: gradients are cast and
written, read for their norm, read again by the optimiser, and every one of these calls has its price in Python. Measured
on 784-400-20, batch 128, one thread, bf16 (benchmarks/step.py): 3.9 ms a step in parts, 2.1 like this.
"""

from __future__ import annotations

import os
import shutil
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaekit.data import cache
from vaekit.recipe.settings import TrainSettings
from vaekit.train.average import Average
from vaekit.train.optimise import Updates
from vaekit.train.step import Step

CACHE = "TORCHINDUCTOR_CACHE_DIR"
Row = tuple[Tensor, Tensor, Tensor]


def compiler_here() -> bool:
    """Whether there is what inductor needs to write code for a CPU."""
    return any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))


def fits(settings: TrainSettings, processes: int) -> bool:
    """Whether nothing of a step has to leave the graph: one process, one micro-batch, Adam, a torch that traces it."""
    return (
        processes == 1
        and settings.strategy != "fsdp"
        and settings.gradient_accumulation_steps == 1
        and settings.optimizer in ("Adam", "AdamW")
        and hasattr(torch._dynamo.config, "trace_autograd_ops")
    )


class Whole:
    """`whole(raw, c, t, rate, toward)` -> norms [players], NaN where skipped, skips [players], and terms [names].

    It moves the weights, the optimisers' own state and the average, as `Updates.apply` and `Average.update` do, so
    the two may take turns. Batches must be of one shape, that of the first call, which compiles.
    """

    def __init__(
        self, step: Step, updates: Updates, average: Average | None, settings: TrainSettings
    ) -> None:
        self.step, self.updates, self.average, self.settings = step, updates, average, settings
        device = updates.running_norm.device
        self.rate = torch.zeros((), device=device)  # 0-d tensors, so that a new value is no new graph
        self.toward = torch.zeros((), device=device)
        self.bf16 = torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16")
        self._compiled: dict[int, Callable[[Tensor, Tensor | None, Tensor], Row]] = {}

    def runs(self, stage: int) -> bool:
        """Whether the step of this stage has been compiled."""
        return stage in self._compiled

    def __call__(
        self, raw: Tensor, c: Tensor | None, t: Tensor, rate: float, toward: float, stage: int = 0
    ) -> Row:
        """raw [B, ...] as stored, c [B, n] or None, t 0-d, the learning rate, 1 - decay of the average, and the
        stage that the objective is in."""
        self.rate.fill_(rate)
        self.toward.fill_(toward)
        if stage in self._compiled:
            return self._compiled[stage](raw, c, t)
        # now and not earlier: a resume puts others in their place
        self.moments = {name: self.updates.moments(name) for name in self.updates.names}
        _keep_compiled()
        # Nothing changes but the numbers, and checking that costs a twentieth of a small step.
        options: dict[str, Any] = {
            "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
            "cpp.dynamic_threads": True,  # as many as there are when it runs (train.company)
            "fallback_random": True,  # torch's own draws: the noise of a step is the same, compiled or not
        }
        if raw.is_cuda:
            options["triton.cudagraphs"] = True
            for tensor in self._kept():
                torch._dynamo.mark_static_address(tensor)  # a graph may write where it always is
        compiled: Any = torch.compile(_own(self._take), fullgraph=True, options=options)
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            row = compiled(raw, c, t)
        self._compiled[stage] = compiled
        return row

    def _kept(self) -> list[Tensor]:
        """What a step moves besides the weights."""
        moments = [tensor for each in self.moments.values() for three in each for tensor in three]
        mine = [] if self.average is None else [mine for mine, _ in self.average.pairs]
        return [*moments, *mine, self.updates.running_norm, self.updates.accepted]

    def _take(self, raw: Tensor, c: Tensor | None, t: Tensor) -> Row:
        """What is traced."""
        with self.bf16:
            total, losses, values = self.step(raw, c, t)
        updates = self.updates
        everything = torch.autograd.grad(total, updates.everything, allow_unused=True)
        with torch.no_grad():
            grads = dict(zip(updates.players, _split(everything, updates.players.values()), strict=True))
            norms = torch.stack([_norm(each) for each in grads.values()])
            bad = updates.judge(norms, losses)
            for i, name in enumerate(updates.names):
                scale = None if updates.clip is None else (norms[i] / updates.clip).clamp(min=1.0)
                self._adam(name, grads[name], bad[i], scale)
            if self.average is not None:
                for mine, theirs in self.average.pairs:
                    mine.lerp_(theirs, self.toward)
            return torch.where(bad, torch.nan, norms), bad, values

    def _adam(self, name: str, grads: list[Tensor | None], bad: Tensor, scale: Tensor | None) -> None:
        """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1), where `bad` is false.

        AdamW takes the decay from the weights themselves (https://arxiv.org/abs/1711.05101, algorithm 2).
        """
        beta1, beta2 = self.settings.betas
        decay, apart = self.settings.weight_decay, self.settings.optimizer == "AdamW"
        count = self.moments[name][0][0].double() + 1  # 1 - 0.999 keeps four digits in fp32
        # stacked, so that the powers are taken once and not at every weight
        unbias = torch.stack(
            (self.rate / (1 - beta1**count), (1 - beta2**count).rsqrt(), self.rate * decay)
        ).float()
        for p, g, (n, m, v) in zip(self.updates.players[name], grads, self.moments[name], strict=True):
            if g is None:
                continue
            g = g.float() if scale is None else g.float() / scale
            old = p.detach()
            if decay and not apart:
                g = g + decay * old
            new_m, new_v = torch.lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
            new = old * (1 - unbias[2]) if decay and apart else old
            new = new - unbias[0] * new_m / (new_v.sqrt() * unbias[1] + self.settings.eps)
            p.copy_(torch.where(bad, old, new))
            m.copy_(torch.where(bad, m, new_m))
            v.copy_(torch.where(bad, v, new_v))
            n.add_((~bad).to(n.dtype))


def _keep_compiled() -> None:
    """Let graphs be kept in vaekit's cache between runs. torch's own place, which it may have entered into the
    environment by now, is a temporary folder."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE, torch_s := default_cache_dir()) == torch_s:
        os.environ[CACHE] = str(cache.root() / "compiled")


def _own(method: Any) -> Callable[[Tensor, Tensor | None, Tensor], Row]:
    """The method with a code object of its own: compiled graphs are kept by code object, and without guards the graph
    of another run in this process would be taken for ours."""
    function = method.__func__
    own = types.FunctionType(
        function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__
    )
    return types.MethodType(own, method.__self__)


def _norm(grads: list[Tensor | None]) -> Tensor:
    """The global norm, 0-d, in fp32; summed by rows first, so that it does not depend on the number of threads."""
    rows = [g.float().square().reshape(len(g) if g.dim() else 1, -1).sum(1) for g in grads if g is not None]
    return torch.stack([row.sum() for row in rows]).sum().sqrt()


def _split(everything: tuple[Tensor | None, ...], players: Any) -> list[list[Tensor | None]]:
    """Gradients in one row -> a list for each player."""
    rest = list(everything)
    return [[rest.pop(0) for _ in parameters] for parameters in players]
