"""One module per stage of dvc.yaml, named like it; run as `python -m tasks.STAGE [ITEM...]`."""

import os
import signal
import sys

# Read by OpenMP when torch is first imported, so it has to be set before any stage module is.
# With the default spinning, threads that wait steal the cores of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch asks for this before deterministic matrix products on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Ctrl-C while a stage still imports its libraries ends it at once, without their tracebacks;
# `run_stage` answers from then on.
if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("tasks."):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
