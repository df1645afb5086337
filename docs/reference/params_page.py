"""The page of `params.yaml`: keys, types, defaults and limits from the models, words from both."""

import ast
import io
import tokenize
import types
import typing
from inspect import getsource
from textwrap import dedent
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.reference.markdown import paragraph, table
from flows.preflight import section_model
from tasks.params import SECTIONS

LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below",
          "multiple_of": "a multiple of", "min_length": "at least {} long",
          "max_length": "at most {} long"}  # fmt: skip


def render() -> str:
    """Return the page."""
    parts = [
        "# params.yaml",
        "Every choice of the pipeline. An unknown key, a wrong type or a value outside its range"
        " ends a stage at once, in one line. A key without a default must be there.",
    ]
    for name in SECTIONS:
        model = section_model(name)
        parts += [f"## {name}", paragraph(model.__doc__)]
        parts.append(table(("key", "type", "default", "allowed", "meaning"), rows_of(model, name)))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def rows_of(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each key of a model, and of the models inside it."""
    words, rows = comments_of(model), []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}"
        inner = inner_model(field.annotation)
        if inner is not None:
            rows += rows_of(inner, key)
            continue
        meaning = field.description or words.get(name, "")
        default = "" if field.is_required() else show_value(default_of(field))
        rows.append((f"`{key}`", show_type(field.annotation), default, show_limits(field), meaning))
    return rows


def default_of(field: FieldInfo) -> Any:
    """Return a field's default."""
    value = field.get_default(call_default_factory=True, validated_data={})
    return None if value is PydanticUndefined else value


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, if it holds one."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def show_type(annotation: Any) -> str:
    """Return a type in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return show_type(get_args(annotation)[0])
    if origin is Literal:
        return " or ".join(f"`{show_plain(value)}`" for value in get_args(annotation))
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(dict.fromkeys(show_type(part) for part in get_args(annotation)))
    if origin in {list, tuple, dict, set, frozenset}:
        parts = [show_type(part) for part in get_args(annotation) if part is not Ellipsis]
        return f"{'list' if origin is tuple else origin.__name__} of {', '.join(parts)}"
    names = {int: "integer", float: "number", str: "text", bool: "true or false",
             type(None): "null"}  # fmt: skip
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def show_limits(field: FieldInfo) -> str:
    """Return the constraints of a field in words."""
    found = []
    for rule in field.metadata:
        for name, words in LIMITS.items():
            if (limit := getattr(rule, name, None)) is not None:
                shown = words.format(limit) if "{}" in words else f"{words} {limit:g}"
                found.append(shown)
        if pattern := getattr(rule, "pattern", None):
            found.append(f"`{pattern}`")
    return ", ".join(found)


def show_value(value: Any) -> str:
    """Return a default as it would stand in YAML."""
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(show_plain, value))}]`"
    if isinstance(value, BaseModel):
        return show_value(value.model_dump())
    return f"`{show_plain(value)}`"


def show_plain(value: Any) -> str:
    """Return a value in YAML's words."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def comments_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the comment of each field: above it, or behind it on its lines."""
    text = dedent(getsource(model))
    comments: dict[int, str] = {}
    alone: set[int] = set()
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and "fmt:" not in token.string:
            words = token.string.lstrip("# ").partition("# noqa")[0].strip()
            comments[token.start[0]] = words.removeprefix("noqa").strip()
            if not lines[token.start[0] - 1][: token.start[1]].strip():
                alone.add(token.start[0])
    found = {}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above = []
        row = node.lineno - 1
        while row in alone:
            above.insert(0, comments[row])
            row -= 1
        behind = [comments[row] for row in range(node.lineno, (node.end_lineno or 0) + 1)
                  if row in comments]  # fmt: skip
        found[node.target.id] = " ".join(above + behind)
    return found
