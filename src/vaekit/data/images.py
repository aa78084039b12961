"""A folder, zip or tar of images -> one memory-mapped uint8 array [N, C, H, W], decoded once."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from vaekit import devices
from vaekit.data import cache, progress
from vaekit.data.decode import DoesNotFitError, Packed, Plan, header, pack, reason
from vaekit.data.helpers import Helpers, ordered
from vaekit.data.members import Members, members, natural, stamp
from vaekit.data.raw import Options, Part, Raw
from vaekit.data.splits import SPLITS, WORDS, assign, limited
from vaekit.data.stored import Mapped
from vaekit.errors import VaekitError

_FORMAT = 2  # of a cache entry; a change here makes all entries be decoded anew
_SIDES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
_SAMPLE = 256  # headers read to guess that all images are alike; decoding holds the guess to it
_THREADED_BYTES = 16 << 10  # of smaller files most of the time is Python's, and a second thread adds nothing
_HELPED = 6000  # so many small files repay the start of processes, a fifth of a second


def classify(names: Sequence[str]) -> tuple[list[str], list[str | None]]:
    """(split or "all", class or None) of each path. Folders named train, valid, val or test are splits,
    wherever they stand; the first folder left that tells images apart is the class."""
    splits, folders = [], []
    for name in names:
        parents = name.split("/")[:-1]
        at = next((i for i, p in enumerate(parents) if p.lower() in WORDS), None)
        splits.append("all" if at is None else WORDS[parents.pop(at).lower()])
        folders.append(parents)
    while folders and all(f and f[0] == folders[0][0] for f in folders):
        folders = [f[1:] for f in folders]  # a folder around everything says nothing
    labels = [f[0] if f else None for f in folders]
    if len(set(splits)) > 1 and "all" in splits:
        # Images beside the split folders belong to none of them.
        splits = ["" if s == "all" else s for s in splits]
    known = {label for label, s in zip(labels, splits, strict=True) if s}
    return splits, labels if len(known) > 1 and None not in known else [None] * len(labels)


def open_images(path: Path, options: Options) -> Raw:
    """Open from the cache, or decode into it."""
    now, like = stamp(path), options.like
    target = _entry(path, options, now)
    raw = _read(target)
    if like is not None and len(like) == 3:
        if raw is not None and next(iter(raw.parts.values())).x.shape[1:] == like:
            return replace(raw, files=path)  # a run's own images, decoded as it took them
        options = replace(options, size=(like[1], like[2]))
        target = _entry(path, options, now, like[0])
        raw = _read(target)
    if raw is None:
        if target.exists():
            cache.discard(target)
        _decode(path, options, target)
        raw = _read(target)
        if raw is None:
            raise VaekitError(f"the image cache {target} cannot be read back; remove it or set VAEKIT_CACHE")
    return replace(raw, files=path)


def file_names(path: Path) -> list[str]:
    """The image files of a folder, zip or tar as `Split.places` counts them: relative, in natural order."""
    return members(path).names


def _entry(path: Path, options: Options, now: str, channels: int | None = None) -> Path:
    settings: list[Any] = [_FORMAT, options.size, options.grey, channels]
    if options.limit is not None:
        settings += [options.limit, options.seed, options.valid, options.whole]
    return cache.folder(cache.fingerprint(str(path.resolve()), settings), now)


def _read(entry: Path) -> Raw | None:
    """The entry as parts of one memory map, or None where it is missing or damaged."""
    try:
        facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
        shape, names, parts = tuple(facts["shape"]), facts["labels"], facts["parts"]
        if (entry / "pixels").stat().st_size != int(np.prod(shape)):
            return None
        # Copy-on-write: torch asks for writeable memory, and nothing written would reach the file.
        x = Mapped.of(np.memmap(entry / "pixels", np.uint8, "c", shape=shape))
        label = np.load(entry / "labels.npy", allow_pickle=False) if names else None
        places = np.load(entry / "places.npy", allow_pickle=False)
    except (OSError, ValueError, KeyError):
        return None
    found, start = {}, 0
    for part, count in parts.items():
        rows = slice(start, start + count)
        found[part] = Part(x[rows], None if label is None else label[rows], places[rows])
        start += count
    return Raw(found, tuple(names) or None, notes=facts["notes"], split=facts["split"], ready=True)


def _decode(path: Path, options: Options, target: Path) -> None:
    source = members(path)
    if not source.names:
        there = ", ".join(f"{n} {ext}" for ext, n in source.others.most_common(3))
        found = f"it holds {there}" if there else "it is empty"
        raise VaekitError(
            f"{path.name}: no images in it ({found}); expected PNG, JPEG, PGM, BMP, TIFF, WebP or GIF"
        )
    splits, labels = classify(source.names)
    parts = {s: [i for i, at in enumerate(splits) if at == s] for s in (*SPLITS, "all") if s in set(splits)}
    notes, split = [], None
    outside = splits.count("")
    if outside:
        notes.append(f"{_count(outside)} outside the split folders left out")
    if source.others:
        listed = ", ".join(f"{n} {ext}" for ext, n in source.others.most_common(3))
        notes.append(f"left out what are no images ({listed})")
    if options.limit is not None:
        parts, split = _thin(parts, options)
    names = sorted({label for label in labels if label is not None}, key=natural)
    number = {name: i for i, name in enumerate(names)}
    order = [i for rows in parts.values() for i in rows]
    if not options.whole and len(order) < 3:
        raise VaekitError(
            f"{path.name}: {_count(len(order))}; at least 3 are needed to train and to hold some out"
        )
    with cache.writing(target) as folder:
        try:
            plan, why = _plan(source, order, options, sample=True)
            kept, remarks = _write(source, order, plan, folder / "pixels", path.name)
        except DoesNotFitError:
            plan, why = _plan(source, order, options, sample=False)
            plan = replace(plan, exact=False, force_grey=plan.channels == 1)  # fits whatever comes
            kept, remarks = _write(source, order, plan, folder / "pixels", path.name)
        notes += [why] * bool(why) + remarks
        good = set(kept)
        np.save(folder / "labels.npy", np.array([number.get(labels[i] or "", -1) for i in kept], np.int64))
        np.save(folder / "places.npy", np.array(kept, np.int64))
        facts = {
            "shape": [len(kept), plan.channels, plan.height, plan.width],
            "labels": names,
            "parts": {name: sum(i in good for i in rows) for name, rows in parts.items()},
            "notes": notes,
            "split": split,
        }
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _thin(parts: dict[str, list[int]], options: Options) -> tuple[dict[str, list[int]], str | None]:
    """Split and limit before anything is decoded, as the opener would do with rows."""
    if options.whole:
        whole = slice(0, None)
        chosen = {p: limited(whole, len(r), options.limit, options.seed) for p, r in parts.items()}
        return {p: [parts[p][i] for i in np.arange(len(parts[p]))[at]] for p, at in chosen.items()}, None
    counts = {part: len(rows) for part, rows in parts.items()}
    where, sentence = assign(counts, seed=options.seed, valid=options.valid, last=False)
    result = {}
    for name, (part, index) in where.items():
        index = limited(index, counts[part], options.limit, options.seed)
        result[name] = [parts[part][i] for i in np.arange(counts[part])[index]]
    return result, sentence


def _plan(source: Members, order: list[int], options: Options, *, sample: bool) -> tuple[Plan, str]:
    """Mode and size for all, and what to say of it. A sample of headers first: images are mostly alike."""
    step = max(1, len(order) // _SAMPLE) if sample else 1
    wanted = options.like[0] if options.like is not None and len(options.like) == 3 else None
    channels = 1 if options.grey else wanted if wanted in (1, 3) else None
    force_grey = channels == 1
    if options.size is not None and channels is not None:
        return Plan(channels, *options.size, False, force_grey), _said(options.size)
    sizes, grey = [], True
    for i in order[::step]:
        try:
            width, height, is_grey = header(source.read(i))
        except Exception:
            continue
        sizes.append((height, width))
        grey = grey and is_grey
    channels = channels or (1 if grey else 3)
    if options.size is not None:
        return Plan(channels, *options.size, False, force_grey), _said(options.size)
    if not sizes:
        sizes = [(_SIDES[0], _SIDES[0])]
    short = min(sizes[0])
    if len(set(sizes)) == 1 and short <= _SIDES[-1]:
        return Plan(channels, *sizes[0], True, force_grey), ""
    if sample and step > 1 and len(set(sizes)) > 1:
        return _plan(source, order, options, sample=False)  # the median wants all of them
    middle = median_low(min(size) for size in sizes)
    side = max((s for s in _SIDES if s <= middle), default=_SIDES[0])
    low, high = min(map(min, sizes)), max(map(min, sizes))
    found = f"{low}" if low == high else f"{low} to {high}"
    why = f"short sides are {found} pixels: {_said((side, side))} (choose with --size)"
    return Plan(channels, side, side, False, force_grey), why


def _count(n: int) -> str:
    return f"{n:,} image{'s' * (n != 1)}"


def _said(size: tuple[int, int]) -> str:
    return f"resized to cover {size[0]}x{size[1]}, centre cropped"


def _write(
    source: Members, order: list[int], plan: Plan, file: Path, name: str
) -> tuple[list[int], list[str]]:
    """Decode in order into `file`; the members kept, and remarks. A few bad images are left out and named."""
    row = plan.channels * plan.height * plan.width
    step = int(np.clip((8 << 20) // row, 1, 256))
    groups = [order[i : i + step] for i in range(0, len(order), step)]
    allowed = max(min(3, len(order) // 4), len(order) // 100)
    kept: list[int] = []
    bad: list[tuple[str, str]] = []
    notes: Counter[str] = Counter()
    heavy = len(order) * (source.mean_bytes + row) > 64 << 20
    with (
        file.open("wb") as out,
        progress.bar(f"reading {name}", len(order), "images", show=heavy) as advance,
        _decoding(source, len(order)) as (threads, decode),
    ):
        work = functools.partial(_pack, source, plan=plan, decode=decode)
        for group, (rows, good, errors, said) in ordered(threads, work, groups):
            out.write(rows)  # plain writes: a full disk is an error here, and a crash under a memory map
            kept += good
            bad += [(source.names[i], why) for i, why in errors]
            notes += said
            if len(bad) > max(allowed, 20):
                break
            advance(len(group))
        out.flush()
        os.fsync(out.fileno())
    if len(bad) > allowed or not kept:
        shown = "; ".join(f"{n}: {why}" for n, why in bad[:3])
        raise VaekitError(
            f"{name}: {len(bad)} of {len(order):,} images cannot be read ({shown}); mend or remove them"
        )
    remarks = [f"{_count(count)} {what}" for what, count in notes.items()]
    if bad:
        listed = ", ".join(n for n, _ in bad[:5]) + (" and more" if len(bad) > 5 else "")
        remarks.append(f"skipped {len(bad)} of {len(order):,} images that cannot be read: {listed}")
    return kept, remarks


def _pack(
    source: Members, group: list[int], plan: Plan, decode: Callable[[list[bytes], Plan], Packed]
) -> Packed:
    """Read and decode a group, as `decode` does, but told by member instead of by position."""
    there: list[int] = []
    files: list[bytes] = []
    unread: list[tuple[int, str]] = []
    for i in group:
        try:
            files.append(source.read(i))
            there.append(i)
        except Exception as error:
            unread.append((i, reason(error)))
    rows, good, bad, notes = decode(files, plan)
    return rows, [there[at] for at in good], unread + [(there[at], why) for at, why in bad], notes


@contextlib.contextmanager
def _decoding(source: Members, count: int) -> Iterator[tuple[int, Callable[[list[bytes], Plan], Packed]]]:
    """(threads, what they decode with): of small files most of the time is Python's, so threads do not help there and
    processes do, once there are enough to repay their start."""
    cores = min(8, devices.cores())
    if cores == 1 or (source.mean_bytes < _THREADED_BYTES and count < _HELPED):
        yield 1, pack
    elif source.mean_bytes >= _THREADED_BYTES:
        yield cores, pack
    else:
        with Helpers(cores) as helpers:
            yield cores, helpers.pack
