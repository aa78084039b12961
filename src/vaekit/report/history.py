"""Training in a report: the curves, and the film of how the latent space unfolds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit import walks
from vaekit.report import charts, page, sheets
from vaekit.report.gather import Gathered
from vaekit.report.page import Markup, number
from vaekit.run import inputs

PANELS = {"": ("total", "distortion", "rate"), "_point": ("distortion",), "_none": ("total",)}
SIDE = 64  # pixels of an image in a frame
Frame = dict[str, np.ndarray]


def curves(page_: page.Page, found: Gathered) -> None:
    """The two terms and their sum over training."""
    words = found.words
    panels = []
    for key in PANELS[found.kind]:
        series = [s for side in ("train", "valid") if (s := _series(found, side, key)) is not None]
        if not series:
            continue
        title = words(f"curves.{key}" if found.model.latent else "curves.log_px")
        shown = _range(series)
        drawn = charts.lines(
            series, title=title, axes=(words("curves.epoch"), ""), y=shown, size=(320, 230), most=420
        )
        start = max(float(np.max(s.y)) for s in series)
        starts = words("curves.starts", value=number(start, 1)) if shown else None
        panels.append(page.figure(drawn, title=title, caption=starts))
    if not panels:
        return
    see = page.text(words(f"curves.see{found.kind}"))
    page_.section("curves", words("curves.heading"), see, page.beside(*panels, least="16rem"))


def _series(found: Gathered, side: str, key: str) -> charts.Series | None:
    at = []
    for line in found.history:
        value = line.get(f"{side}_{key}")
        if key == "total":
            elbo = line.get(f"{side}_elbo")
            value = None if elbo is None else -elbo
        if value is not None and np.isfinite(value):
            at.append((line["epoch"], value))
    if not at:
        return None
    x, y = np.array(at, float).T
    return charts.Series(found.words(f"curves.{side}"), x, y)


def _range(series: Sequence[charts.Series]) -> tuple[float, float] | None:
    """Where a first stretch would flatten the rest, the range of what comes after it."""
    values = np.concatenate([s.y for s in series])
    late = np.concatenate([s.y[max(1, len(s.y) // 10) :] if len(s.y) > 4 else s.y for s in series])
    low, high = float(values.min()), float(late.max())
    if values.max() - low > 2.5 * max(high - low, 1e-9) and len(late) < len(values):
        return low - 0.06 * (high - low) - 1e-9, high + 0.12 * (high - low) + 1e-9
    return None


def film(page_: page.Page, found: Gathered) -> None:
    """The same rows and the same z at the epochs that were kept, and as the kept model has them."""
    frames = read_frames(found)
    if not frames:
        return
    words, contract = found.words, found.contract
    last = _now(found, frames[-1][1])
    shown: list[tuple[str, Frame]] = [(words("film.epoch", epoch=epoch), frame) for epoch, frame in frames]
    if last is not None and _best(found) not in (None, frames[-1][0]):
        shown.append((words("film.kept", epoch=_best(found)), last))
    maps = _maps([frame for _, frame in shown]) if found.model.latent else None
    names, cells = [str(label) for label in contract.labels], []
    for i, (name, frame) in enumerate(shown):
        parts: list[Markup] = []
        if maps is not None:
            points, x, y = maps[i]
            known = np.isfinite(points).all(1)
            if known.any():
                label = frame["label"][known] if "label" in frame else None
                parts.append(charts.scatter(
                    points[known], title=words("film.map", name=name), label=label, rows=frame["row"][known],
                    names=names or None, small=True, x=x, y=y, unlabelled=words("map.unlabelled"),
                    tip=words("tip.row", split=words(f"split.{frames[0][1]['split']}"), number="{}"),
                ))  # fmt: skip
        if contract.is_image:
            for key in ("reconstruction", "decoded"):
                if key in frame:
                    image = sheets.sheet(frame[key].astype(np.float32) / 255, 5, 40)
                    drawn = page.picture(image, words(f"film.{key}", name=name))
                    parts.append(page.figure(drawn, caption=words(f"film.{key}_caption")))
        if parts:
            cells.append(page.element("div", page.element("b", name), *parts))
    if not cells:
        return
    none = "" if found.model.latent else "_none"
    blocks = [page.text(words(f"film.see{none}"))]
    if contract.is_image and found.model.latent:
        image = sheets.sheet(frames[0][1]["original"].astype(np.float32) / 255, 10, 40)
        originals = page.picture(image, words("film.originals"))
        blocks.append(page.figure(originals, title=words("film.originals"), most=420))
    if maps is not None and 0 < len(names) <= charts.KINDS:
        blocks.append(charts.legend(names))
    page_.section("film", words(f"film.heading{none}"), *blocks, page.film(*cells))


def read_frames(found: Gathered) -> list[tuple[int, Frame]]:
    """(epoch, arrays) of the frames in the run that fit the model as it is; those of epochs never reached are left out
    (a run that was resumed from before them)."""
    folder = found.run.folder
    if folder is None or not folder.frames.is_dir():
        return []
    reached = max((line["epoch"] for line in found.history), default=0)
    frames = []
    for path in sorted(folder.frames.glob("epoch-*.npz")):
        epoch = int(re.sub(r"\D", "", path.stem) or 0)
        frame = _read(path)
        if 0 < epoch <= reached and frame is not None and frame["z"].shape[-1] == found.model.latent:
            frames.append((epoch, frame))
    return sorted(frames, key=lambda one: one[0])


def _read(path: Path) -> Frame | None:
    """None for a file that is no frame."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frame = dict(arrays)
    except (OSError, ValueError):
        return None
    return frame if {"z", "decoded", "original"} <= set(frame) else None


def _now(found: Gathered, frame: Frame) -> Frame | None:
    """The frame of the model that was kept: the same rows, the same z. None where the data have gone."""
    run, contract = found.run, found.contract
    if found.held is None or "code" not in frame:
        return None
    split = run.rows(run.data().splits.get(str(frame["split"]), found.held.rows))
    if len(split) <= max(int(frame["row"].max()), int(frame["picked"].max())):
        return None
    means = []
    with run.looking(found.seed):
        z = torch.from_numpy(frame["z"]).to(run.device)
        decoded = run.decoded(z, run.conditions(len(z), turns=True))
        for x, c in run.batches(inputs.subset(split, frame["row"])):
            means.append(run.model.encode(x, c).mean.float().cpu())
    made: Frame = {"row": frame["row"], "code": torch.cat(means).numpy()}
    if "label" in frame:
        made["label"] = frame["label"]
    if contract.is_image:
        again = run.reconstruct(inputs.subset(split, frame["picked"]), seed=found.seed)[1]
        for key, items in (("reconstruction", again), ("decoded", decoded)):
            made[key] = (255 * sheets.shrunk(sheets.tiles_of(contract, items), SIDE)).round().astype(np.uint8)
    return made


def _best(found: Gathered) -> int | None:
    """The epoch whose weights were kept."""
    judged = [line for line in found.history if line.get("valid_loss") is not None]
    if not judged:
        return None
    kept = (
        min(judged, key=lambda line: line["valid_loss"])
        if found.run.recipe.train.keep == "best"
        else judged[-1]
    )
    return int(kept["epoch"])


def _maps(frames: Sequence[Frame]) -> list[tuple[np.ndarray, Any, Any]]:
    """Points [N, 2] of each frame with ranges that all share: as they are, or in the plane of the last frame's PCA."""
    codes = [frame["code"].astype(np.float32) for frame in frames]
    D = codes[-1].shape[1]
    if D == 1:
        height = np.random.default_rng(0).random(len(codes[-1]))
        points = [np.column_stack([c[:, 0], height[: len(c)]]) for c in codes]
    elif D == 2:
        points = codes
    else:
        kept = torch.from_numpy(codes[-1])
        plane = kept[kept.isfinite().all(1)]
        points = [walks.project(torch.from_numpy(c), plane)[0].numpy() for c in codes]
    finite = np.concatenate([p[np.isfinite(p).all(1)] for p in points])
    if not len(finite):
        return [(p, None, None) for p in points]
    # the outermost half a per cent may leave the maps: early codes fly far
    low, high = np.quantile(finite, [0.0025, 0.9975], axis=0)
    pad = 0.06 * np.maximum(high - low, 1e-6)
    x, y = ((float(a), float(b)) for a, b in zip(low - pad, high + pad, strict=True))
    inside = [((p >= [x[0], y[0]]) & (p <= [x[1], y[1]])).all(1, keepdims=True) for p in points]
    return [(np.where(seen, p, np.nan), x, y) for p, seen in zip(points, inside, strict=True)]
