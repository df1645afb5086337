"""An S3 store on this machine, by moto's server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from flows.prefect_server import find_free_port
from tests.flows.processes import start_process, wait_for

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def s3_store(folder: Path) -> Iterator[tuple[str, ...]]:
    """The address of a DVC remote in a bucket, and its options; credentials in the environment."""
    import boto3

    port = find_free_port()
    words = ("moto.server", "-H", "127.0.0.1", "-p", str(port))
    with patch.dict(os.environ, KEYS), start_process(folder, *words):
        store = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")

        def created() -> bool:
            try:
                store.create_bucket(Bucket="auglift")
            except Exception:
                return False
            return True

        assert wait_for(created, 120)
        yield ("s3://auglift/store", f"endpointurl=http://127.0.0.1:{port}")
