"""Values against annotations, strictly, and the words in which a problem is told."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from vaekit.errors import nearest

M = TypeVar("M", bound=BaseModel)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class Setting:
    """One key: what it may be, and what it is when left out."""

    annotation: Any
    default: Any = None
    required: bool = False

    def adapter(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self.annotation, config=ConfigDict(arbitrary_types_allowed=True))
        except Exception:
            # a model brings its own config, and an annotation that pydantic cannot read checks nothing
            return TypeAdapter(Any)

    def read(self, value: Any) -> Any:
        """`value` as TOML gives it, as the annotation has it. Raises ValueError.

        Strict, by JSON's rules: no text for numbers, but lists for tuples. "none" is None where it can be.
        """
        adapter = self.adapter()
        try:
            return adapter.validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError:
            if value == "none" and type(None) in get_args(self.annotation):
                return None
            raise

    def plain(self, value: Any) -> Any:
        """The inverse of `read`: what TOML can hold."""
        return "none" if value is None else self.adapter().dump_python(value, mode="json")


def settings_of(model: type[BaseModel]) -> dict[str, Setting]:
    """The keys of a section."""
    return {
        name: Setting(_annotation(info), info.get_default(call_default_factory=True), info.is_required())
        for name, info in model.model_fields.items()
    }


def _annotation(info: FieldInfo) -> Any:
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def read_all(
    settings: Mapping[str, Setting],
    given: Mapping[str, Any],
    where: str,
    problems: list[str],
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The given values, checked; everything wrong is added to `problems` in words.

    `elsewhere` maps keys of other sections to their full names, for those who looked in the wrong one.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in settings:
            moved = (elsewhere or {}).get(name)
            hint = f" (did you mean {moved!r}?)" if moved else nearest(name, settings)
            problems.append(f"unknown key {where}.{name}{hint}")
            continue
        try:
            values[name] = settings[name].read(value)
        except ValueError:
            expected = describe(settings[name].annotation)
            hint = nearest(value, _texts(settings[name].annotation)) if isinstance(value, str) else ""
            hint = hint if "did you mean" in hint else ""
            problems.append(f"{where}.{name} is {shown(value)}; expected {expected}{hint}")
    for name, setting in settings.items():
        if setting.required and name not in given:
            problems.append(f"{where}.{name} is missing; expected {describe(setting.annotation)}")
    return values


def read_section(
    model: type[M], given: Any, where: str, problems: list[str], elsewhere: Mapping[str, str] | None = None
) -> M:
    """A section as its model; with problems, one with its defaults."""
    if not isinstance(given, Mapping):
        problems.append(f"{where} is {shown(given)}; expected a section, [{where}]")
        return model.model_construct()
    before = len(problems)
    values = read_all(settings_of(model), given, where, problems, elsewhere)
    if len(problems) == before:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            problems += [f"{where}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
    return model.model_construct()


def plain_section(section: BaseModel) -> dict[str, Any]:
    """A section as TOML holds it; what is None by default and by value is left out."""
    return {
        name: setting.plain(value)
        for name, setting in settings_of(type(section)).items()
        if (value := getattr(section, name)) is not None or setting.default is not None
    }


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, not endless."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def listed(words: Iterable[str]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    *most, last = list(words)
    return f"{', '.join(most)} or {last}" if most else last


def describe(annotation: Any) -> str:
    """What a value may be, in words: 'a whole number of at least 1 or 'auto''."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *_bounds(arguments[1:])])
    if origin is Literal:
        return listed(repr(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return listed(describe(a) for a in arguments)
    if origin is tuple:
        inner = [get_args(a)[0] if get_origin(a) is Annotated else a for a in arguments if a is not ...]
        many = _PLURALS.get(inner[0], "values")
        if ... in arguments:
            return f"a list of {many}"
        bounds = (
            " ".join(_bounds(get_args(arguments[0])[1:])) if get_origin(arguments[0]) is Annotated else ""
        )
        return f"a list of {len(inner)} {many} {bounds}".rstrip()
    if origin in (list, Mapping, dict):
        return "a list" if origin is list else "a table"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(metadata: Iterable[Any]) -> list[str]:
    words: list[str] = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            words += _bounds(item.metadata)
        elif isinstance(item, annotated_types.Ge):
            words.append(f"of at least {item.ge}")
        elif isinstance(item, annotated_types.Gt):
            words.append(f"above {item.gt}")
        elif isinstance(item, annotated_types.Le):
            words.append(f"of at most {item.le}")
        elif isinstance(item, annotated_types.Lt):
            words.append(f"below {_short(item.lt)}")
    return words


def _short(bound: Any) -> str:
    return "2^63" if bound == 2**63 else str(bound)


def _texts(annotation: Any) -> list[str]:
    """The texts that a value may be."""
    if get_origin(annotation) is Literal:
        return [a for a in get_args(annotation) if isinstance(a, str)]
    return [text for a in get_args(annotation) if a is not ... for text in _texts(a)]
