"""`open_data`: any source -> splits of one array each, and the contract that says what they hold."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vaekit.data import kinds, layout
from vaekit.data import labels as classes
from vaekit.data.contract import Contract, number, words
from vaekit.data.hashes import digest
from vaekit.data.raw import Options, Raw, check_choices, parse_size
from vaekit.data.splits import SPLITS, Assignment, Data, Split, assign, limited, take
from vaekit.data.windows import Windows
from vaekit.errors import VaekitError


def open_data(
    source: Any,
    *,
    size: int | str | tuple[int, int] | None = None,
    grey: bool = False,
    binarize: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    key: str | None = None,
    labels: Any = None,
    kind: str | None = None,
    contract: Contract | None = None,
    valid: float | int | None = None,
    scale_to: tuple[float, float] | None = None,
    mirror: bool = False,
    whole: bool = False,
) -> Data:
    """Open data by name or path, or what Python holds.

    `source`: "digits", "mnist", "fashion-mnist", "static-mnist", "sprites", "dna", "mushrooms"; a folder, zip or tar of
    images, one image, idx, .npy, .npz, .csv, .parquet; an array, tensor, (x, y), mapping of splits, DataFrame
    or torch Dataset.
    `size` N or "HxW": images are scaled to cover it and centre cropped. `grey` turns colour grey.
    `binarize` "dynamic" (afresh at each access) or "static" (once). `limit` rows a split at most.
    `seed` is the data's own, for splits and limit. `key`, `labels` name arrays or a column; `labels` may be
    an array. `kind` overrules what the values suggest. `valid` a fraction or a number of rows. `scale_to` the
    interval in which a model sees grey values, [0, 1] by default. `mirror`: training sees half of the images from
    right to left, drawn afresh at each access.
    `contract`: hold the data to it, and prepare them as it says. `whole`: do not split what names no splits.

    Raises `VaekitError`, one line, for whatever cannot be opened or breaks the contract.
    """
    if isinstance(source, Data):
        return source
    from vaekit.data.sources import load

    check_choices(binarize, kind, limit, valid, scale_to)
    options = Options(parse_size(size), grey, limit, seed, key, labels, kind, valid, whole, scale_to)
    if contract is not None:
        binarize = contract.binarize
        options = replace(options, like=contract.shape)
    raw, name = load(source, options)
    classes.attach(raw, labels, name)
    numbered, names, note = classes.number(raw, name, contract.labels if contract else ())
    if contract is not None:
        _match_columns(raw, contract, name)
    notes = [*raw.notes, *([note] if note else [])]
    if not raw.ready:
        notes += _arrange(raw, options, name)
    # Before the split, so that a message counts rows as the source does.
    surveys = {
        part: kinds.survey(found.x, _called(part, raw, name), raw.columns)
        for part, found in raw.parts.items()
    }
    opened = _split(raw, numbered, options, name)
    opened.notes = notes + opened.notes
    if mirror:
        layout.images_only(tuple(next(iter(opened.x.values())).shape[1:]), name, "mirror")
        opened.notes.append("half of the images are mirrored in training, drawn afresh at each access")
    if contract is None:
        seen = functools.reduce(operator.or_, surveys.values())
        data = _first(opened, seen, names, options, binarize)
    else:
        data = _again(opened, surveys, contract)
    return replace(data, mirror=mirror)


@dataclass
class _Opened:
    """A source on its way: rows `x`, class numbers `label` and `places` by split, and what was done to them."""

    name: str
    raw: Raw
    x: dict[str, Any]
    label: dict[str, np.ndarray | None]
    places: dict[str, np.ndarray]
    factors: dict[str, np.ndarray | None]
    split: str
    notes: list[str]


def _called(part: str, raw: Raw, name: str) -> str:
    """How a message names a part: by the source alone where the source names no splits."""
    return name if part == "all" or len(raw.parts) == 1 else f"{name} {part}"


def _split(raw: Raw, numbered: classes.Numbered, options: Options, name: str) -> _Opened:
    counts = {part: len(found.x) for part, found in raw.parts.items()}
    where: Assignment
    if raw.split is not None or options.whole:
        where, sentence = {part: (part, slice(0, None)) for part in counts}, raw.split or ""
    else:
        try:
            where, sentence = assign(counts, seed=options.seed, valid=options.valid, last=raw.last)
        except VaekitError as error:
            raise VaekitError(f"{name}: {error}") from None
    opened = _Opened(name, raw, {}, {}, {}, {}, sentence, [])
    before = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    for split, (part, index) in where.items():
        index = limited(index, counts[part], options.limit, options.seed)
        opened.x[split], label = take(raw.parts[part].x, index), numbered.get(part)
        opened.label[split] = None if label is None else label[index]
        places, factors = raw.parts[part].places, raw.parts[part].factors
        opened.factors[split] = None if factors is None else factors[index]
        opened.places[split] = (np.arange(counts[part]) + before[part] if places is None else places)[index]
    if options.limit is not None:
        opened.notes.append(f"at most {options.limit:,} rows a split, drawn by seed {options.seed}")
    return opened


def _arrange(raw: Raw, options: Options, name: str) -> list[str]:
    """Rows of every part as [N, C, H, W] or [N, F], grey and sized where asked, or to be `options.like`."""
    size, like = options.size, options.like
    said: dict[str, None] = {}
    for split, part in raw.parts.items():
        part.x, note = layout.arrange(part.x, _called(split, raw, name), like)
        said[note] = None
        free = like is None and not raw.categories and options.kind in (None, "8-bit", "binary", "levels")
        if part.x.ndim == 2 and free:
            part.x, note = layout.square_image(part.x, raw.columns, size)
            said[note] = None
    shapes = {split: tuple(part.x.shape[1:]) for split, part in raw.parts.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{split} {words(shape)}" for split, shape in shapes.items())
        raise VaekitError(f"{name}: the splits have rows of different shapes ({listed})")
    shape = next(iter(shapes.values()))
    if options.grey:
        layout.images_only(shape, name, "grey")
    if (options.grey or (like is not None and len(like) == 3 and like[0] == 1)) and shape[:-2] == (3,):
        said["turned grey"] = None
        for part in raw.parts.values():
            part.x = layout.grey(part.x)
    if size is not None:
        layout.images_only(shape, name, "size")
        if shape[1:] != size:
            said[f"resized from {shape[1]}x{shape[2]} to cover {size[0]}x{size[1]}, centre cropped"] = None
            for part in raw.parts.values():
                part.x = layout.resize(part.x, size)
    return [note for note in said if note]


def _first(
    opened: _Opened, seen: kinds.Survey, names: tuple[str, ...], options: Options, binarize: str | None
) -> Data:
    """Data whose contract is read from them."""
    raw, name, notes = opened.raw, opened.name, opened.notes
    if seen.low == seen.high:
        raise VaekitError(f"{name}: every value is {number(seen.low)}: there is nothing to learn")
    decision = kinds.decide(list(opened.x.values()), seen, options.kind or raw.kind, name)
    if raw.categories and decision.kind == "categories":
        most = max(map(len, raw.categories)) - 1
        decision = replace(decision, high=most, levels=most)
    notes += [decision.note] * bool(decision.note)
    for split, x in opened.x.items():
        opened.x[split] = kinds.convert(x, decision.dtype, decision.times)
    training = next(iter(opened.x.values()))
    windows = Windows.of(training)
    notes += [str(windows)] * (windows is not None)
    offset, divisor = kinds.affine(training, decision, options.scale_to)
    if decision.kind == "real":
        how = "column by column" if len(offset) > 1 else "by one mean and deviation"
        notes.append(f"standardised {how}, from train")
    if options.scale_to is not None:
        notes.append(f"a model sees them in [{number(options.scale_to[0])}, {number(options.scale_to[1])}]")
    if binarize is not None and decision.kind == "binary":
        notes.append(f"binary already, so binarize={binarize} has nothing to do")
        binarize = None
    elif binarize is not None:
        if decision.kind not in ("levels", "8-bit"):
            hint = "; add --grey" if decision.kind == "colour" else ""
            raise VaekitError(f"{name}: binarize is for grey values, these are {decision.kind}{hint}")
        how = "afresh at each access" if binarize == "dynamic" else "once"
        chance = f"a pixel is 1 with probability value/{int(decision.high)}"
        notes.append(f"binarised {how}: {chance}; evaluation bits by RandomState(0)")
        decision = replace(decision, kind="binary", levels=1)
    contract = Contract(
        source=name,
        shape=tuple(map(int, training.shape[1:])),
        kind=decision.kind,
        low=decision.low,
        high=decision.high,
        levels=decision.levels,
        offset=offset,
        divisor=divisor,
        dtype=decision.dtype,
        labels=names,
        columns=raw.columns,
        categories=raw.categories,
        factors=raw.factors,
        binarize=binarize,
        preparation=tuple(notes),
        split=opened.split,
    )
    return _data(contract, opened)


def _again(opened: _Opened, surveys: dict[str, kinds.Survey], contract: Contract) -> Data:
    """Data held to a contract that there is, prepared as it says."""
    seen = functools.reduce(operator.or_, surveys.values())
    times = _times(opened.x.values(), seen, contract)
    if times == 1.0:
        for part, found in surveys.items():
            contract.hold(opened.raw.parts[part].x.shape, found, _called(part, opened.raw, opened.name))
    for split, x in opened.x.items():
        opened.x[split] = kinds.convert(x, contract.dtype, times)
        if times != 1.0:
            contract.check(opened.x[split], opened.name)
    own = replace(
        contract,
        source=opened.name,
        factors=opened.raw.factors,
        preparation=tuple(opened.notes),
        split=opened.split,
    )
    return _data(own, opened)


def _times(arrays: Iterable[Any], seen: kinds.Survey, contract: Contract) -> float:
    """What takes the values to the contract's units: 1 but for greys in [0, 1] and bits under other numbers."""
    if contract.discrete and contract.kind not in ("counts", "categories"):
        unit = not seen.integer and seen.low >= 0 and seen.high <= 1
        if unit and all(kinds.on_grid(x, contract.high) for x in arrays):
            return contract.high
        if contract.kind == "binary" and contract.binarize is None and seen.high in (1, 255):
            # 0 and 1 where the contract has 0 and 255, or the other way round, are the same bits.
            return contract.high / seen.high if seen.only(seen.high) else 1.0
    return 1.0


def held(raw: Raw, contract: Contract, what: str, times: float | None = None) -> tuple[np.ndarray, float]:
    """A piece of a source, of one part, as rows [N, *shape] in the contract's units; and what they were multiplied by.

    Give that back as `times` for the next piece: values of one piece alone could suggest another unit.
    """
    _match_columns(raw, contract, what)
    if not raw.ready:
        _arrange(raw, Options(like=contract.shape), what)
    (part,) = raw.parts.values()
    seen = kinds.survey(part.x, what, raw.columns)
    if times is None:
        times = _times([part.x], seen, contract)
    if times == 1.0 or not kinds.on_grid(part.x, times):
        contract.hold(part.x.shape, seen, what)
    x = kinds.convert(part.x, contract.dtype, times)
    if times != 1.0:
        contract.check(x, what)
    return np.asarray(x), times


def _data(contract: Contract, opened: _Opened) -> Data:
    """Splits in order, static bits drawn, rows counted and hashed."""
    splits, files = {}, opened.raw.files
    for name in (*SPLITS, "all"):
        if name in opened.x:
            bits = contract.kind == "binary" and contract.binarize is None
            split = Split(
                opened.x[name], opened.label[name], name, bits, opened.places[name], opened.factors[name]
            )
            splits[name] = split.frozen(contract) if contract.binarize == "static" else split
    bits = contract.kind == "binary" and contract.binarize != "dynamic"
    total = hashlib.sha256()
    for name, split in splits.items():
        total.update(f"{name} {digest(split.x, bits=bits)}\n".encode())
    contract = replace(contract, rows={n: len(s) for n, s in splits.items()}, hash=total.hexdigest())
    if len(splits) == 1:
        (only,) = splits.values()
        return Data(contract, only, files=files)
    if "train" not in splits:
        # New data that name only other splits: the first of them stands where training rows would.
        first, second = splits.values()
        return Data(contract, first, second, files=files)
    return Data(contract, splits["train"], splits.get("valid"), splits.get("test"), files)


def _match_columns(raw: Raw, contract: Contract, name: str) -> None:
    """Put a table's columns in the contract's order, and its words under the contract's numbers."""
    if not contract.columns or not raw.columns:
        return
    missing = [c for c in contract.columns if c not in raw.columns]
    if missing:
        raise VaekitError(
            f"{name} lacks the columns {', '.join(map(repr, missing[:5]))} that {contract.source} has"
        )
    order = [raw.columns.index(c) for c in contract.columns]
    if bool(raw.categories) != bool(contract.categories):
        kind = "words" if contract.categories else "numbers"
        raise VaekitError(f"{name}: the columns must hold {kind}, as those of {contract.source} do")
    for part in raw.parts.values():
        part.x = np.asarray(part.x)[:, order]
        for i, (column, known) in enumerate(zip(order, contract.categories, strict=False)):
            found = raw.categories[column]
            unknown = [w for w in found if w not in known]
            if unknown:
                where = f"column {contract.columns[i]!r}"
                raise VaekitError(f"{name}: {where} has {unknown[0]!r}, not known to {contract.source}")
            part.x[:, i] = np.array([known.index(w) for w in found])[part.x[:, i]]
    raw.columns, raw.categories = contract.columns, contract.categories
