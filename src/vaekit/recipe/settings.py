"""What a training run may be told: the `[train]` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=1)]
ANYHOW = ("threads", "pictures", "picture_every", "checkpoint_every")  # what changes no weight


class TrainSettings(BaseModel):
    """Settings of one training run; `"auto"` (and a `None` under epochs or steps) is filled once by
    `resolve`.

    Sizes are counted per process and micro-step, so one optimiser step sees
    `batch_size * gradient_accumulation_steps * processes` images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # how long
    epochs: Natural | None = None
    steps: Natural | None = None  # a target: without epochs, the fewest whole epochs that reach it
    patience: Natural | None = None  # validations without improvement before the run stops
    keep: Literal["best", "last"] = "best"  # which weights the run ships: of the best validation, or the last
    validate_every: Natural = 1  # epochs
    checkpoint_every: Natural | None = None  # steps, besides the end of every epoch

    # from where: the weights of another run of the same parts, and which parts keep theirs as they are
    start: str | None = None  # a run folder, or its model.safetensors
    frozen: tuple[Literal["prior", "posterior", "likelihood"], ...] = ()

    # batches
    batch_size: Natural | Literal["auto"] = "auto"
    gradient_accumulation_steps: Natural = 1
    drop_last: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    # optimiser
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Positive = 1e-8
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # SGD only
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.02  # fraction of all steps
    learning_rate_floor: Annotated[float, Field(ge=0, le=1)] = 0.0  # fraction of the learning rate at the end

    # safety
    clip: Positive | None = None  # largest global gradient norm
    skip_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None  # times the running norm
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of the averaged weights

    # machine
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Natural | Literal["auto"] = "auto"
    deterministic: bool = False
    devices: Natural = 1
    nodes: Natural = 1
    # several processes: whole weights in each (ddp, what auto takes), or a part of them, of gradients and moments (fsdp)
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    pictures: bool = True
    picture_every: Natural | None = None  # epochs, besides the powers of two
