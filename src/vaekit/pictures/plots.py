"""Maps and curves, drawn by matplotlib's Agg canvas directly: pyplot would hold global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.errors import VaekitError, nearest
from vaekit.pictures.tiles import array

if TYPE_CHECKING:
    from PIL.Image import Image

INK, FAINT, RULE = "#2d2d2d", "#6e6e6e", "#e6e6e6"
TRAIN, VALID = "#9aa5b1", "#c2410c"
DPI = 144
STRIP = 4  # how many times as long as wide a cloud of codes may be before its axes are scaled apart
PARTS = (("total", "reconstruction + KL"), ("distortion", "reconstruction"), ("rate", "KL"))


def latent_map(
    codes: Any,
    labels: Any = None,
    names: Sequence[str] | None = None,
    axis_labels: tuple[str, str] = ("$z_0$", "$z_1$"),
    title: str | None = None,
    colours: str | None = None,
) -> Image:
    """Codes [N, 2] as points, coloured by label [N].

    Whole-number labels of at most 20 kinds get a colour each, a legend and their name at their centre;
    other numbers, or more kinds, a colour bar. A label below zero or not finite is drawn grey.
    `colours` names a colormap of matplotlib, e.g. "viridis": any labels then get it and its bar.
    Both axes have one scale, unless one way the points reach more than four times as far as the other: a nearly
    collapsed cloud would be a strip.
    """
    points = array(codes)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise VaekitError(f"latent_map: codes of shape {list(points.shape)}; expected [N, 2], N at least 1")
    if colours is not None:
        check_colours(colours)
        if labels is None:
            raise VaekitError(f"there are no labels for the colours {colours!r} to show; leave colours out")
    figure = _figure(7.2, 6.0)
    axes = figure.add_subplot()
    size = float(np.clip(30_000 / len(points), 5, 28))
    # A fixed shuffle: drawn class by class, the last class would cover the others.
    order = np.random.default_rng(0).permutation(len(points))
    style = {"s": size, "linewidths": 0, "alpha": 0.8, "rasterized": True}
    if labels is None:
        axes.scatter(*points[order].T, color="#4c78a8", **style)
    else:
        values = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
        if values.shape != (len(points),):
            raise VaekitError(
                f"latent_map: {list(values.shape)} labels for {len(points)} codes; give one each"
            )
        _coloured(figure, axes, points[order], values[order], names, style, colours)
    finite = points[np.isfinite(points).all(1)]
    if len(finite) < 2 or np.ptp(finite, axis=0).max() <= STRIP * np.ptp(finite, axis=0).min():
        axes.set_aspect("equal", adjustable="datalim")
    _dress(axes, xlabel=axis_labels[0], ylabel=axis_labels[1], title=title)
    return _image(figure)


def curves(history: Sequence[Mapping[str, Any]]) -> Image:
    """The run's history: reconstruction, KL and their sum apart, training and validation, nats per example.

    `history` holds a mapping a line as in `metrics.jsonl`: `epoch` (or `step`) and any of `train_` / `valid_`
    with `elbo`, `distortion`, `rate`, `loss`. Panels without numbers are left out. A first stretch that would
    flatten the rest runs out of the panel, which then says where it started; the best validation is marked.
    """
    panels = [(title, lines) for key, title in PARTS if (lines := _lines(history, key))]
    if len(panels) == 2 and panels[0][0].startswith("reconstruction +"):
        panels = panels[1:]  # an autoencoder: the sum is the reconstruction
    if not panels:
        panels = [("loss", lines)] if (lines := _lines(history, "loss")) else []
    if not panels:
        raise VaekitError("curves: no train_ or valid_ numbers in the history; train an epoch first")
    unit = "epoch" if any("epoch" in line for line in history) else "step"
    figure = _figure(4.1 * len(panels) + 0.3, 3.7)
    for place, (title, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, colour, width in (("train", TRAIN, 2.2), ("valid", VALID, 1.6)):
            if name in lines:
                x, y = lines[name]
                axes.plot(x, y, color=colour, linewidth=width, label=name, marker="o" if len(x) == 1 else "")
        _dress(axes, xlabel=unit, ylabel="nats" if place == 1 else None, title=title)
        _limits(axes, lines)
        if place == 1:
            if "valid" in lines and len(lines["valid"][0]) > 1:
                x, y = lines["valid"]
                # what training judged by is the loss, which need not be the sum drawn here (beta, IWAE)
                loss = _lines(history, "loss").get("valid", (x, y))[1]
                best = int(np.argmin(loss if len(loss) == len(y) else y))
                axes.plot(
                    x[best], y[best], "o", color=VALID, markersize=5, label=f"best epoch, {y[best]:.2f}"
                )
            axes.legend(frameon=False, fontsize=10, labelcolor=INK, loc="upper right", handlelength=1.4)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.locator_params(axis="x", integer=True, nbins=6)
    return _image(figure)


def trail(
    points: Any, names: Sequence[str], axis_labels: tuple[str, str] = ("", ""), title: str | None = None
) -> Image:
    """Points [N, 2] joined in their order, each with its name."""
    places = array(points)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) != len(names) or not len(places):
        raise VaekitError(
            f"trail: points of shape {list(places.shape)} and {len(names)} names; expected [N, 2] and N names"
        )
    figure = _figure(7.2, 4.6)
    axes = figure.add_subplot()
    axes.plot(*places.T, color=TRAIN, linewidth=1.6)
    axes.plot(*places.T, "o", color=VALID, markersize=6)
    for place, name in zip(places, names, strict=True):
        axes.annotate(_short(str(name)), place, (6, 5), textcoords="offset points", fontsize=10, color=INK)
    axes.margins(x=0.1, y=0.12)
    axes.grid(color=RULE, linewidth=0.8)
    _dress(axes, xlabel=axis_labels[0], ylabel=axis_labels[1], title=title)
    return _image(figure)


def _lines(history: Sequence[Mapping[str, Any]], key: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`{"train": (x, y), "valid": (x, y)}` of one quantity, finite values only."""
    lines = {}
    for name in ("train", "valid"):
        points = []
        for line in history:
            value = line.get(f"{name}_{key}")
            if key == "total":
                elbo = line.get(f"{name}_elbo")
                value = -elbo if elbo is not None else None
            x = line.get("epoch", line.get("step"))
            if value is not None and x is not None and np.isfinite(value):
                points.append((x, float(value)))
        if points:
            x, y = np.array(points, dtype=float).T
            lines[name] = (x, y)
    return lines


def _limits(axes: Any, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Show what happens after the first tenth; where the start lies far above it, say from where it comes."""
    values = np.concatenate([y for _, y in lines.values()])
    late = np.concatenate([y[max(1, len(y) // 10) :] if len(y) > 4 else y for _, y in lines.values()])
    low, high, start = values.min(), late.max(), values.max()
    if start - low > 2.5 * max(high - low, 1e-9) and len(late) < len(values):
        axes.set_ylim(low - 0.06 * (high - low) - 1e-9, high + 0.12 * (high - low) + 1e-9)
        axes.set_title(f"starts at {start:.4g}", loc="right", fontsize=9, color=FAINT)


def _coloured(
    figure: Any, axes: Any, points: np.ndarray, values: np.ndarray, names: Sequence[str] | None, style: dict,
    colours: str | None,
) -> None:  # fmt: skip
    """Scatter by category with legend and centres, or by number with a colour bar."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    whole = np.issubdtype(values.dtype, np.integer)
    known = values >= 0 if whole else np.isfinite(values)
    axes.scatter(*points[~known].T, color="#c8c8c8", **style)
    points, values = points[known], values[known]
    kinds = np.unique(values)
    if colours is not None or not whole or len(kinds) > 20:
        drawn = axes.scatter(*points.T, c=values, cmap=colours or "viridis", **style)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)
        if whole and len(kinds) <= 20:
            bar.set_ticks(kinds, labels=[_short(_name(names, k)) for k in kinds])
        bar.set_label("label", color=INK, fontsize=11)
        bar.ax.tick_params(colors=FAINT, labelsize=9, length=0)
        return
    shades = colormaps["tab10" if len(kinds) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    place = np.searchsorted(kinds, values)
    axes.scatter(*points.T, c=np.array(shades)[place], **style)
    texts = [_name(names, k) for k in kinds]
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=7, color=shades[i], label=_short(text))
        for i, text in enumerate(texts)
    ]
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10,
        labelcolor=INK, handletextpad=0.2, borderaxespad=0.2,
    )  # fmt: skip
    for i, text in enumerate(texts):
        centre = np.median(points[place == i], axis=0)
        axes.text(
            *centre, _short(text, 14), ha="center", va="center", fontsize=13, fontweight="bold",
            color=shades[i],
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )  # fmt: skip


def _name(names: Sequence[str] | None, kind: int) -> str:
    return str(names[kind]) if names is not None and 0 <= kind < len(names) else str(kind)


def check_colours(name: str) -> None:
    """Raise VaekitError for a name that matplotlib has no colormap of."""
    from matplotlib import colormaps

    if name not in colormaps:
        close = nearest(name, colormaps)
        hint = " (such as viridis, plasma or tab10)" if close.startswith(" (known") else close
        raise VaekitError(f"matplotlib has no colormap {name!r}{hint}")


def _short(text: str, most: int = 24) -> str:
    """Names are the user's: cut to length, and no dollar sign starts a formula."""
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _dress(
    axes: Any, *, xlabel: str | None = None, ylabel: str | None = None, title: str | None = None
) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8b8b8")
    axes.tick_params(colors=FAINT, labelsize=9, length=3, color="#b8b8b8")
    axes.set_axisbelow(True)
    if xlabel:
        axes.set_xlabel(xlabel, color=INK, fontsize=11)
    if ylabel:
        axes.set_ylabel(ylabel, color=INK, fontsize=11)
    if title:
        axes.set_title(title, color=INK, fontsize=12, loc="left")


def _image(figure: Any) -> Image:
    import PIL.Image

    figure.canvas.draw()
    return PIL.Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
