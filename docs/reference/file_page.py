"""The page of the files between stages, from their schemas."""

import importlib
import inspect
from typing import Any

import pandera.pandas as pa

from docs.reference.markdown import paragraph, table
from docs.reference.params_page import show_type

MODULES = ("manifest", "rejected", "slices", "samples", "teacher", "predictions")
RECORDS = ("metrics", "lift", "lift_rows", "review")
INTRODUCTION = """# Files between stages

Stages pass files, nothing else; `dvc.yaml` says which stage writes and reads which. Tables are
Parquet and are checked when they are written and read. Arrays are `images.npy` (N,C,H,W) float16 in
[-1, 1] and `masks.npy` (N,H,W) uint8 of 0 and 1, one row of the table beside them for each slice.
Networks are safetensors, never pickles."""


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for name in (*MODULES, *RECORDS):
        module = importlib.import_module(f"tasks.schemas.{name}")
        parts.append(f"## {paragraph(module.__doc__).partition(': ')[0].rstrip('.')}")
        parts.append(sentence(paragraph(module.__doc__).partition(": ")[2]))
        for model in own_classes(module):
            if issubclass(model, pa.DataFrameModel):
                parts += [f"### {model.__name__}", paragraph(model.__doc__), columns(model)]
            elif fields := getattr(model, "model_fields", None):
                rows = [(f"`{key}`", show_type(each.annotation)) for key, each in fields.items()]
                parts += [f"### {model.__name__}", paragraph(model.__doc__)]
                parts.append(table(("key", "type"), rows))
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def own_classes(module: Any) -> list[type]:
    """Return the classes that a module defines, in their order."""
    classes = [each for _, each in inspect.getmembers(module, inspect.isclass)
               if each.__module__ == module.__name__]  # fmt: skip
    return sorted(classes, key=lambda each: inspect.getsourcelines(each)[1])


def columns(model: type[pa.DataFrameModel]) -> str:
    """Return the table of a schema's columns."""
    rows = []
    for name, column in model.to_schema().columns.items():
        allowed = "; ".join(show_check(check) for check in column.checks)
        notes = ["may be null"] * bool(column.nullable) + ["may be missing"] * (not column.required)
        rows.append(
            (
                f"`{name}`",
                str(column.dtype or "any").removesuffix("[pyarrow]"),
                allowed,
                ", ".join(notes),
            )
        )
    return table(("column", "type", "allowed", ""), rows)


def show_check(check: Any) -> str:
    """Return a check in words."""
    values = check.statistics or {}
    if allowed := values.get("allowed_values"):
        return ", ".join(f"`{each}`" for each in allowed)
    return " ".join([check.name or "", *(str(each) for each in values.values())]).replace("_", " ")
