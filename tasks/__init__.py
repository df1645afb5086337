"""One module per stage of dvc.yaml, named like it; run as `python -m tasks.STAGE [ITEM...]`."""

import os

# Read by OpenMP when torch is first imported, so it has to be set before any stage module is.
# With the default spinning, threads that wait steal the cores of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch asks for this before deterministic matrix products on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
