"""`fit-prior`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vaekit.commands.app import Allow, Count, Out, Seed, app
from vaekit.commands.results import opened_run, trust
from vaekit.errors import VaekitError


@app.command
def fit_prior(
    run: Path, data: str | None = None, /, *, kind: Literal["gaussian", "mixture", "flow"] | None = None,
    components: Count | None = None, restore: Annotated[bool, Parameter(negative=())] = False, output: Out = None,
    seed: Seed | None = None, allow: Allow = None,
) -> None:  # fmt: skip
    """Fit a density to the codes of a trained run, plain autoencoders too, and make it the run's prior.

    Samples, pictures, reports and the NLL then use it. The run as it was trained is kept in RUN/as-trained. Prints what
    held-out codes and samples have gained, and draws samples before and after in RUN/pictures/prior.png.

    Parameters
    ----------
    run
        A run folder.
    data
        Where the run's own data are, if they have moved.
    kind
        gaussian: one Gaussian of any covariance. mixture: several (without --kind). flow: affine couplings.
    components
        Gaussians of a mixture, in a label-conditional run for each label; without it as many as held-out codes want.
    restore
        Bring back the prior that the run was trained with.
    output
        A new run folder; RUN is then left as it is.
    seed
        The seed of the draws and of the fit; without it 0.
    """
    from vaekit.run.fitted import facts, table
    from vaekit.train.prior import restore_prior

    if restore:
        options = {"DATA": data, "--kind": kind, "--components": components, "-o": output, "--seed": seed}
        if given := [name for name, value in options.items() if value is not None]:
            raise VaekitError(f"--restore brings back what was there; leave {', '.join(given)} out")
        trust(allow)
        print(restore_prior(run, allow=allow or ()).path)
        return
    made = opened_run(run, allow).fit_prior(
        kind or "mixture", data=data, components=components, output=output, seed=seed or 0, progress=True
    )
    print(table(facts(made.folder)))
    print(f"{'run':<14} {made.path}")
