"""Which results are stale: fingerprints compared, with the reasons in words.

Works on JSON alone, so that whoever keeps old fingerprints need not load a context file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ctxlib.syntax import digest

Parts = Mapping[str, str]

_CHANGED = {
    "source": "its source changed",
    "function": "function {} changed",
    "class": "class {} changed",
    "constant": "constant {} changed",
    "field": "field {} of its group changed",
    "module": "helper module {} changed",
    "variable": "{!r}, which it needs, changed",
}
_VALUES = {
    "setting": "its setting {}",
    "version": "its version",
    "parameter": "parameter {}",
}
_ORDER = ("unknown", "problem", "source", "version", *_CHANGED, *_VALUES)


def complete(
    variables: Iterable[Mapping[str, Any]], params: Mapping[str, Any], names: Collection[str]
) -> dict[str, dict[str, str]]:
    """Give the whole fingerprints of the variables `names`.

    `variables` are all of a context as `Node.describe` gives them, `params` the values that
    parameters have. To the parts of its own come one for each variable that it needs, which stands
    for that one's whole fingerprint, and one for each parameter.
    """
    described = {each["name"]: each for each in variables}
    made: dict[str, dict[str, str]] = {}
    waiting = list(names)
    while waiting:
        name = waiting[-1]
        variable = described[name]
        missing = [needed for needed in variable["dependencies"] if needed not in made]
        if missing and name not in made:
            waiting += missing
            continue
        waiting.pop()
        if name not in made:
            made[name] = _complete(variable, params, made)
    return {name: made[name] for name in names}


def _complete(
    variable: Mapping[str, Any], params: Mapping[str, Any], made: Mapping[str, Parts]
) -> dict[str, str]:
    parts = dict(variable["fingerprint"])
    for name in variable["dependencies"]:
        parts[f"variable:{name}"] = digest(f"{k}={v}" for k, v in sorted(made[name].items()))
    for name in variable["parameters"]:
        if name in params:
            parts[f"parameter:{name}"] = json.dumps(params[name])
    return parts


def reasons(old: Parts, new: Parts) -> list[str]:
    """Say why a result with the fingerprint `old` is not what it would be now; empty if it is.

    A part that is in one of them alone says nothing if others explain that it came or went: a
    changed function may use another constant.
    """
    if "unknown" in new:
        return [f"what its result depends on cannot be told: {new['unknown']}"]
    keys = sorted(old.keys() | new.keys(), key=_place)
    both = [key for key in keys if key in old and key in new and old[key] != new[key]]
    words = [_words(key, old, new) for key in both]
    code = any(_kind(key) in _CHANGED for key in both)
    for key in keys:
        if (key in old) != (key in new) and not (code and _kind(key) in _CHANGED):
            words.append(_words(key, old, new))
    return words


def _kind(key: str) -> str:
    return key.partition(":")[0]


def _place(key: str) -> tuple[int, str]:
    kind = _kind(key)
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), key)


def _words(key: str, old: Parts, new: Parts) -> str:
    kind, _, name = key.partition(":")
    if kind == "problem":
        return "there is a problem with it now" if key in new else "the problem with it is mended"
    if kind in _VALUES:
        before, now = (_value(parts.get(key)) for parts in (old, new))
        return f"{_VALUES[kind].format(name)} was {before}, is {now}"
    if kind not in _CHANGED:
        return f"{key} changed"
    words = _CHANGED[kind].format(name)
    if key in old and key in new:
        return words
    return words.removesuffix("changed") + ("is new" if key in new else "is gone")


def _value(text: str | None) -> str:
    return "not set" if text is None else repr(json.loads(text))
