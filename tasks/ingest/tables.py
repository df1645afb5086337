"""The manifest and the rejects as tables with fixed columns and types, also when empty."""

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


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write `manifest.parquet`, sorted by subject and image."""
    rows = sorted(rows, key=lambda row: (row["subject"], row["image"]))
    write(path, rows, MANIFEST)


def write_rejected(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write `rejected.parquet`, sorted by code and token."""
    rows = sorted(rows, key=lambda row: (row["code"], row["token"]))
    write(path, rows, REJECTED)


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows with the schema's types, which an empty table keeps.

    By way of JSON: Arrow's conversion of Python lists imports pandas, a tenth of a small batch.
    """
    table = pa.Table.from_batches([], schema)
    if rows:
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        table = pa.json.read_json(
            BytesIO(lines),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="error"
            ),
        ).select(schema.names)
    pq.write_table(table, path)
