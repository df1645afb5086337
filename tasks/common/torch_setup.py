"""Set up torch for a stage: device, thread count, deterministic kernels."""

import os
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "auto"]


def setup_torch(threads: int) -> torch.device:
    """Fix the thread count, ask for deterministic kernels, and choose a GPU when there is one.

    Bytes are equal per machine type and thread count only: sums over threads round differently.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Deterministic mode would also fill every new buffer, which takes a twentieth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # float32 means float32: by default convolutions on GPUs round their inputs to TF32's 10 bits.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # torchrun numbers a machine's processes; each has a GPU of its own.
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def seeded_generator(*seeds: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by several numbers, so that (seed, fold, epoch) never collide."""
    import numpy as np

    state = np.random.SeedSequence([seed % 2**32 for seed in seeds]).generate_state(2)
    seed = int(state[0]) << 32 | int(state[1])
    return torch.Generator(device=device).manual_seed(seed % 2**63)


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether products run in bfloat16: by the params, or where the hardware has it."""
    return precision == "bf16" or (precision == "auto" and supports_bf16(device.type))


def supports_bf16(device: str) -> bool:
    """Return whether the hardware multiplies bfloat16; emulation is slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
