"""The readings of a run by name, and how each is told to a person in lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vaekit.data.contract import KINDS
from vaekit.errors import VaekitError, nearest

Found = Mapping[str, Any]


def wanted(text: str) -> list[str]:
    """`"nats,latents"` -> their names, each once. Raises VaekitError for a name that is no reading."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise VaekitError(f"--what names no reading; give one or more of {', '.join(READINGS)}")
    for name in names:
        if name not in READINGS:
            raise VaekitError(f"no reading is called {name!r}{nearest(name, READINGS)}")
    return names


def nats(evaluation: Found) -> str:
    """What `Run.evaluate` found."""
    what = f"{evaluation['split']} split, {evaluation['images']:,} rows, {evaluation['units']}"
    lines = [what]
    for name in ("elbo", "rate", "distortion"):
        value = evaluation[name]
        error = evaluation.get(f"{name}_standard_error")
        shown = "-" if value is None else f"{value:.2f}" + (f" +- {error:.2f}" if error is not None else "")
        lines.append(f"{name:<14} {shown}")
    for bound in evaluation["nll"] or []:
        size, value, error = bound["effective_sample_size"], bound["value"], bound["standard_error"]
        shown = "-" if value is None else f"{value:.2f}" + (f" +- {error:.2f}" if error is not None else "")
        sizes = ", ".join(
            f"{name} {size[name]:.1f}" for name in ("median", "p01") if size.get(name) is not None
        )
        lines.append(f"{'nll, k ' + str(bound['k']):<14} {shown}   effective sample size {sizes}")
    if evaluation.get("ais"):
        lines += _annealed(evaluation["ais"])
    if evaluation.get("bits_per_dimension") is not None:
        lines.append(f"{'bits/dim':<14} {evaluation['bits_per_dimension']:.3f}")
    lines.append(f"{'active units':<14} {evaluation['active_units']} of {evaluation['latent']}")
    if evaluation.get("decoder"):
        lines.append(
            f"{'decoder':<14} {evaluation['decoder']}, {evaluation['likelihood']}: {_measure(evaluation)}"
        )
    if evaluation.get("encoder", "").startswith("refitted"):
        lines.append(f"{'encoder':<14} {evaluation['encoder']}")
    if evaluation.get("reason"):
        lines.append(f"note: {evaluation['reason']}")
    lines += [f"warning: {text}" for text in evaluation.get("warnings", ())]
    title = evaluation.get("data_name")
    seen = evaluation.get("trained_on") or {}
    if seen.get("rows"):
        times = "" if seen["epochs"] is None else f", {seen['rows_seen']:,} seen in {seen['epochs']:,} epochs"
        lines.append(f"{'trained on':<14} {seen['rows']:,} rows{times}")
    lines.append(f"{'data':<14} {title + ', ' if title else ''}sha256 {evaluation['data_hash']}")
    return "\n".join(lines)


def latents(found: Found) -> str:
    """What `Run.latents` found."""
    lines = [f"latents of the {found['split']} split, {found['rows']:,} rows"]
    told = found["dimensions"]
    if told is None:
        return "\n".join([*lines, "note: a latent of no dimensions has no codes"])
    lines.append(_line("active units", f"{told['active_units']} of {found['latent']}"))
    apart = told["surgery"]
    parted = False
    if apart is not None:
        lines.append(_line("rate", f"{apart['rate']:.2f} nats, {apart['n']:,} rows"))
        lines.append(
            _line(
                "  information",
                f"{apart['mutual_information']:.2f} of codes about rows, at most {apart['at_most']:.2f}",
            )
        )
        for name, key in (("  codes, prior", "marginal_kl"), ("  correlation", "total_correlation")):
            if apart[key] is not None:
                lines.append(_line(name, f"{apart[key]:.2f}"))
        parted = apart["at_most"] - apart["mutual_information"] < PARTED
    mmd = found["prior"]["mmd"]
    lines.append(_line("mmd² to prior", f"{mmd['value']:.4f} (floor {mmd['floor']:.4f}, p {mmd['p']:.3f})"))
    hole = found["holes"]
    lines.append(_line("holes", f"{hole['prior']['holes']:.1%} (equal clouds {hole['alike']['holes']:.1%})"))
    lines.append(_line("mean sq. error", f"{found['error']['mean_squared']:.4g}"))
    probes = found["probes"]
    if probes is not None:
        lines.append(
            _line(
                "labels by codes",
                f"k-NN {probes['knn_accuracy']:.1%}, linear {probes['linear_accuracy']:.1%} "
                f"(commonest {probes['commonest']:.1%})",
            )
        )
    if parted:
        lines.append(
            f"note: codes part almost all of {apart['n']:,} rows, so that their distance from the prior and "
            "their correlation are those of so many lumps, and too large for the data's law"
        )
    return "\n".join([*lines, *_dimensions(told, found["prior"])])


def samples(found: Found) -> str:
    """What `Run.samples` found."""
    items = found["items"]
    seen = f"{found['features']['dimensions']} features, {found['features']['kind']}"
    lines = [
        f"{items['n']:,} samples ({items['are']}) against the {found['split']} split, by {seen}",
        f"{'':<16}{'frechet':>17}{'kernel':>18}{'precision':>11}{'recall':>8}{'density':>9}{'coverage':>10}"
        + f"{'fid':>9}" * (found["inception"] is not None),
    ]
    for name in ("samples", "reconstructions", "floor"):
        if name in items:
            each = items[name]
            kernel = f"{each['kernel']['value']:.4f} +- {each['kernel']['spread']:.4f}"
            distance = f"{each['frechet']:.3f}"
            if "frechet_spread" in each:
                distance += f" +- {each['frechet_spread']:.3f}"
            lines.append(
                f"{SETS.get(name, name):<16}{distance:>17}{kernel:>18}{each['precision']:>11.3f}"
                f"{each['recall']:>8.3f}{each['density']:>9.3f}{each['coverage']:>10.3f}"
                + (f"{each['fid']:>9.2f}" if "fid" in each else "")
            )
    return "\n".join(lines)


def copies(found: Found) -> str:
    """What `Run.copies` found."""
    lines = [
        found["verdict"],
        f"{found['samples']:,} samples ({found['items']}) and {found['rows']:,} rows of the {found['split']} split, "
        f"the nearest of {found['train_rows']:,} training rows to each",
        _line("exact", f"samples {found['exact']['samples']:,}, held out {found['exact']['held_out']:,}"),
    ]
    for name, space in found["spaces"].items():
        gone, ratio = space["distance"], space["ratio"]
        lines += [
            _line(name, f"median distance {_both(gone, 'median')}, nearer in {gone['auc']:.1%} of pairs"),
            _line("", f"median ratio    {_both(ratio, 'median')}, smaller in {ratio['auc']:.1%}"),
            _line("", f"close to one row {space['close']:.2%} (held out 1 %)"),
        ]
        if space["three_sample"] is not None:
            lines.append(_line("", f"three-sample C_T {space['three_sample']:+.1f} (copies below -3)"))
    return "\n".join(lines)


def disentanglement(found: Found) -> str:
    """What `Run.disentanglement` found."""
    names, points = list(found["factors"]), found["points"]
    rows = f"{found['split']} split, {found['rows']:,} rows" + (", the whole grid" * found["grid"])
    lines = [
        f"{rows}; {points['train']:,} points to fit on, {points['test']:,} to judge, {found['bins']} bins"
    ]

    def line(name: str, value: float, each: list[float] | None = None) -> None:
        rest = (
            ""
            if each is None
            else "   " + ", ".join(f"{n} {v:.2f}" for n, v in zip(names, each, strict=True))
        )
        lines.append(f"{name:<20} {value:.3f}{rest}")

    dci = found["dci"]
    line("MIG", found["mig"]["score"], found["mig"]["gaps"])
    line("SAP", found["sap"]["score"], found["sap"]["gaps"])
    line("DCI disentanglement", dci["disentanglement"])
    line("DCI completeness", dci["completeness"])
    line("DCI informativeness", dci["informativeness"], dci["accuracy"])
    line("FactorVAE", found["factorvae"]["score"])
    line("beta-VAE", found["betavae"]["score"])
    line("modularity", found["modularity"]["score"])
    lines.append(f"{'active dimensions':<20} {len(found['factorvae']['active'])} of {found['latent']}")
    if found["constant"]:
        lines.append(f"note: {', '.join(found['constant'])} left out, which does not vary in these rows")
    lines.append(f"{'data':<20} {found['source']}, sha256 {found['data_hash']}")
    return "\n".join(lines)


# A reading is a method of `Run` of its name (`nats` is `Run.evaluate`) that gives an object JSON can hold.
READINGS: dict[str, Callable[[Found], str]] = {
    "nats": nats,
    "latents": latents,
    "samples": samples,
    "copies": copies,
    "disentanglement": disentanglement,
}
SETS = {"floor": "training rows"}
PARTED = 0.5  # nats below the logarithm of the number of rows: most of a code's weight is on its own row
MOST = 16  # dimensions that are told, those of the largest activity


def _annealed(ais: Found) -> list[str]:
    """Annealed log p(x), beside the bound on the same rows, and how far off it may be."""

    def shown(number: Found) -> str:
        error = number["standard_error"]
        return f"{number['value']:.2f}" + (f" +- {error:.2f}" if error is not None else "")

    size = ais["effective_sample_size"]["median"]
    how = f"{ais['images']} rows, {ais['chains']} chains of {ais['steps']:,} steps from the {ais['start']}"
    lines = [f"{'nll, ais':<14} {shown(ais['nll'])}   {how}; effective sample size median {size:.1f}"]
    if "gap" in ais:
        lines.append(
            f"{'nll, k ' + str(ais['bound']['k']):<14} {shown(ais['bound'])}   on the same rows, in fp32"
        )
        lines.append(f"{'gap':<14} {shown(ais['gap'])}   the bound over ais, row by row")
    error = ais["simulated"]
    off = f"{shown(error['gap'])}   at most, by bounds from both sides on {error['images']} simulated rows"
    return [*lines, f"{'ais is off by':<14} {off}"]


def _measure(evaluation: Found) -> str:
    """`probability of bits, binarised on access`, in words."""
    bits = {"dynamic": "greys binarised once for this split", "static": "greys binarised once for all"}
    of = bits.get(evaluation["binarized"], f"{KINDS[evaluation['kind']][0]} as they are")
    return f"{evaluation['measure']} of {of}"


def _dimensions(told: Found, prior: Found) -> list[str]:
    """A line a dimension: what it costs, what it tells, and how far it is from the prior."""
    activity = told["activity"]
    order = sorted(range(len(activity)), key=lambda d: -activity[d])
    apart = told["surgery"] or {}
    columns = {
        "kl": told["kl"],
        "information": apart.get("mutual_information_per_dimension"),
        "activity": activity,
        "ks": prior["kolmogorov_smirnov"],
    }
    known = {name: values for name, values in columns.items() if values is not None}
    lines = [f"{'dimension':<14} " + "".join(f"{name:>13}" for name in known)]
    lines += [f"{d:<14} " + "".join(f"{values[d]:>13.3f}" for values in known.values()) for d in order[:MOST]]
    rest = len(order) - MOST
    return [*lines, f"and {rest} more of less activity"] if rest > 0 else lines


def _both(found: Found, which: str) -> str:
    return f"{found['samples'][which]:.3g} (held out {found['held_out'][which]:.3g})"


def _line(name: str, text: str) -> str:
    return f"{name:<15} {text}"
