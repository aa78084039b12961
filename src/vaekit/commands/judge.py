"""`evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vaekit.commands.app import Allow, Count, Seed, Set, app
from vaekit.commands.results import numbers, opened_run
from vaekit.errors import VaekitError


@app.command
def evaluate(
    run: Path, data: str | None = None, /, *, what: str = "nats",
    split: Literal["train", "valid", "test", "all"] = "test", k: str = "1,10,100,1000",
    binarize: Literal["dynamic", "static"] | None = None, limit: int | None = None, label: str | None = None,
    ais: Count | None = None, ais_steps: Count | None = None,
    ais_from: Literal["posterior", "prior"] | None = None,
    refit_encoder: Annotated[bool, Parameter(negative=())] = False, set_: Set = None, inception: Path | None = None,
    json: bool = False, seed: Seed = 0, device: Literal["auto", "cpu", "cuda", "mps"] = "cpu", allow: Allow = None,
) -> None:  # fmt: skip
    """How good a run is: nats (ELBO, rate, distortion, NLL at several k with standard error), codes, samples, copies.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    data
        A path or name; without it the run's own data.
    what
        Readings, with commas: nats; latents (codes against the prior, what they tell); samples (how near they come to
        held-out rows, beside what training rows do); copies (whether samples repeat training rows);
        disentanglement (dimensions against the factors that sprites are made from; minutes).
    split
        Which split of the data, or all of them.
    k
        Of nats: numbers of draws, with commas; 5000 is what papers report.
    binarize
        Of nats: judge on bits, for a run trained on grey values under a Bernoulli.
    limit
        Of nats: at most so many rows.
    label
        Of nats, for a label-conditional run: the label of rows that have none.
    ais
        Of nats: anneal log p(x) of so many rows (100 tell much; minutes), to know how far the NLL lies over the truth.
    ais_steps
        Of --ais: temperatures, 250 without it; more are tighter and take longer.
    ais_from
        Of --ais: what annealing starts from, the posterior without it. The prior serves a run without a stochastic
        encoder, and is less tight.
    refit_encoder
        Of nats: with the encoder trained further on the training rows (DReG, 8 draws, 3,000 steps), decoder and prior
        frozen: the same model under a tighter bound. It is kept in RUN/refitted, so the next call finds it there.
    set_
        Override a setting of that training: --set train.epochs=20 --set objective.draws=16.
    inception
        Of samples: a file of Inception's weights (pt_inception-2015-12-05-6726825d.pth of pytorch-fid, or the same as
        safetensors), for the FID. Nothing in it is run.
    json
        Print one JSON object instead of a table; of several readings, with a key for each.
    seed
        The seed of the draws.
    device
        Where to compute; auto takes CUDA, then MPS, then the CPU.
    """
    import json as j

    from vaekit.run.checking import check
    from vaekit.run.telling import wanted

    names = wanted(what)
    for option, given in (
        ("--binarize", binarize), ("--limit", limit), ("--label", label), ("--refit-encoder", refit_encoder or None),
        ("--ais", ais),
    ):  # fmt: skip
        if given is not None and "nats" not in names:
            raise VaekitError(f"{option} is for nats, and --what {what} has none: leave it out, or add nats")
    path = {name: value for name, value in (("steps", ais_steps), ("start", ais_from)) if value is not None}
    if path and ais is None:
        option = "--ais-steps" if ais_steps is not None else "--ais-from"
        raise VaekitError(f"{option} is of --ais: say of how many rows, --ais 100, or leave it out")
    if inception is not None and "samples" not in names:
        raise VaekitError(f"--inception is for samples, and --what {what} has none: add samples")
    if set_ and not refit_encoder:
        raise VaekitError("--set changes how --refit-encoder trains; add that, or leave --set out")
    opened = opened_run(run, allow)
    nats = {
        "k": numbers(k, "--k"), "binarize": binarize, "limit": limit, "label": label,
        "ais": None if ais is None else {"images": ais, **path},
    }  # fmt: skip
    check(opened, names, data, split, device, nats=nats, inception=inception, refit=refit_encoder)
    judged = opened.refit_encoder(set=set_ or (), progress=True) if refit_encoder else opened
    found = {}
    for name in names:
        if name == "nats":
            found[name] = judged.evaluate(data, split=split, seed=seed, device=device, progress=True, **nats)
        else:
            reading = getattr(opened, name)
            more = {"inception": inception} if name == "samples" else {}
            found[name] = reading(data, split=split, seed=seed, device=device, progress=True, **more)
    if json:
        print(j.dumps(found if len(names) > 1 else found[names[0]], indent=2))
    else:
        print("\n\n".join(opened.table_of(result, name) for name, result in found.items()))
