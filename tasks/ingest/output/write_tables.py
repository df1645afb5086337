"""Write the manifest and the rejected files as tables with fixed columns and types.

An empty table has the same columns and types.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

MANIFEST = pa.schema(
    [
        ("subject", pa.string()),
        ("session", pa.string()),
        ("modality", pa.string()),
        ("evidence", pa.string()),
        ("image", pa.string()),
        ("mask", pa.string()),
        ("mask_status", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("spacing_mm", pa.list_(pa.float64())),
        ("orientation", pa.string()),
        ("source_format", pa.string()),
        ("source_sha256", pa.string()),
        ("site", pa.string()),
        ("synthetic", pa.bool_()),
        ("patient_known", pa.bool_()),
        ("label", pa.int64()),
        ("brain", pa.string()),
    ]
)
REJECTED = pa.schema([(name, pa.string()) for name in ("token", "code", "reason", "remedy")])


def manifest_line(row: dict[str, Any]) -> str:
    """Return a row of the manifest as JSON text; the texts sort by subject and image."""
    return json.dumps({"subject": row["subject"], "image": row["image"]} | row)


def rejected_line(row: dict[str, str]) -> str:
    """Return a row of the rejected files as JSON text; the texts sort by code and token."""
    return json.dumps({"code": row["code"], "token": row["token"]} | row)


def write_manifest(path: Path, lines: list[str]) -> None:
    """Write `manifest.parquet`, sorted by subject and image."""
    write_rows(path, lines, MANIFEST)


def write_rejected(path: Path, lines: list[str]) -> None:
    """Write `rejected.parquet`, sorted by code and token."""
    write_rows(path, lines, REJECTED)


def write_rows(path: Path, lines: list[str], schema: pa.Schema) -> None:
    """Write rows with the schema's types, which an empty table keeps.

    The rows pass through JSON: a row as text takes a third of the memory, and Arrow's conversion of
    Python lists imports pandas, which takes a tenth of the time of a small batch.
    """
    table = pa.Table.from_batches([], schema)
    if lines:
        content = "\n".join(sorted(lines)).encode()
        table = pa.json.read_json(
            BytesIO(content),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="error"
            ),
        ).select(schema.names)
    pq.write_table(table, path)
