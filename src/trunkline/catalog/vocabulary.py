"""The words a connector file may use, read off the manifest's classes, and what to say about any other."""

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from trunkline.catalog.manifest import Endpoint, Manifest
from trunkline.catalog.strict_yaml import Loc

GIVEN = {Manifest: frozenset({"id"}), Endpoint: frozenset({"name"})}
"""Words that the file's name and the endpoint's key give already."""


def words(model: type[BaseModel]) -> list[str]:
    """List the words of one part, in the order of its class."""
    return [name for name in model.model_fields if name not in GIVEN.get(model, ())]


def parts() -> dict[str, list[str]]:
    """List every part of the vocabulary with its words, by class name."""
    found: dict[str, list[str]] = {}
    waiting: list[Any] = [Manifest]
    while waiting:
        model = waiting.pop(0)
        if model.__name__ in found:
            continue
        found[model.__name__] = words(model)
        for name in words(model):
            waiting += [inner for inner in _inside(model.model_fields[name].annotation) if _is_model(inner)]
    return found


def unknown_words(value: Any, annotation: Any = Manifest, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Find the words that are not in the vocabulary, each with the nearest one that is."""
    model = next((inner for inner in _inside(annotation) if _is_model(inner)), None)
    kind = get_origin(_plain(annotation))
    if kind is dict and isinstance(value, Mapping):
        for key, item in value.items():
            yield from unknown_words(item, get_args(_plain(annotation))[1], (*loc, key))
    elif kind is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_words(item, get_args(_plain(annotation))[0], (*loc, index))
    elif model is not None and kind is None and isinstance(value, Mapping):
        yield from _unknown_in(value, model, loc)


def _unknown_in(value: Mapping[str, Any], model: type[BaseModel], loc: Loc) -> Iterator[tuple[Loc, str]]:
    for key, item in value.items():
        if key in GIVEN.get(model, ()):
            by = "the name of the file" if model is Manifest else "its key"
            yield (*loc, key), f"is given by {by}; remove this line"
        elif key not in model.model_fields:
            yield (*loc, key), f"unknown word{did_you_mean(key, words(model))}"
        else:
            yield from unknown_words(item, model.model_fields[key].annotation, (*loc, key))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the nearest known word, or list them all when they are few."""
    choices = [str(choice) for choice in known]
    near = difflib.get_close_matches(word[:64], choices, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known here: {', '.join(choices)}" if 0 < len(choices) <= 20 else ""


def _plain(annotation: Any) -> Any:
    """Strip `| None` and `Annotated`."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) in {Union, types.UnionType}:
        rest = [inner for inner in get_args(annotation) if inner is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _inside(annotation: Any) -> list[Any]:
    """List the classes an annotation names, through unions, lists and dictionaries."""
    plain = _plain(annotation)
    inner = get_args(plain)
    return [found for item in inner for found in _inside(item)] if inner else [plain]


def _is_model(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)
