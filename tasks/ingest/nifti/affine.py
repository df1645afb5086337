"""Choose the affine of a NIfTI file from its two forms, and convert its unit to millimetres.

NIfTI-1 (nifti1.h, methods 2 and 3): the qform is a rotation with pixdim, the sform any affine map.
A header may set both, and programs differ in the form they read. Where the two forms place voxels
apart, two viewers show different images, and nothing in the file says which is right.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError

Form = Literal["sform", "qform"]
Affine = NDArray[np.float64]

MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by xyzt_units & 7; unknown counts as mm
UNIT_NAMES = {1: "metres", 3: "microns"}
MOST_VOXELS_APART = 1.0


def choose_affine(header: Any, shape: tuple[int, ...], prefer: Form | None) -> Affine:
    """Return the affine (4,4) to RAS+ mm: the preferred form, else the sform, else the qform.

    Raises:
        RejectionError: `geometry` where no form is usable, `affine-conflict` where both are, differ
            by more than a voxel somewhere in the grid, and none is preferred.
    """
    unit = int(header["xyzt_units"]) & 7
    scale = MILLIMETRES.get(unit)
    if scale is None:
        raise RejectionError("geometry", f"the unit of length has the unknown code {unit}")
    forms: dict[Form, Affine] = {}
    for form, read in (("sform", header.get_sform), ("qform", header.get_qform)):
        affine = read_form(read) if int(header[f"{form}_code"]) > 0 else None
        if affine is not None and is_usable(affine := to_millimetres(affine, scale)):
            forms[form] = affine  # type: ignore[index]
    if not forms:
        unit_note = f" (the header's unit is {UNIT_NAMES[unit]})" if unit in UNIT_NAMES else ""
        raise RejectionError("geometry", f"no usable sform or qform: voxels lie nowhere{unit_note}")
    if prefer in forms:
        return forms[prefer]
    if len(forms) == 2:
        distance = voxels_apart(forms["sform"], forms["qform"], shape)
        if distance > MOST_VOXELS_APART:
            raise RejectionError(
                "affine-conflict", f"sform and qform place a voxel {distance:.1f} voxels apart"
            )
    return next(iter(forms.values()))


def read_form(read: Callable[[], Any]) -> Affine | None:
    """Read a form with nibabel; None where nibabel cannot, as with a quaternion longer than one."""
    try:
        return np.array(read(), np.float64)
    except Exception:  # a hostile header may raise anything
        return None


def to_millimetres(affine: Affine, scale: float) -> Affine:
    """Scale an affine that is written in metres or microns."""
    return np.diag([scale, scale, scale, 1.0]) @ affine


def is_usable(affine: Affine) -> bool:
    """Check that an affine is finite, has voxels of .01 to 100 mm and axes that span space."""
    if not np.isfinite(affine).all():
        return False
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not ((spacing > 0.01) & (spacing < 100)).all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / spacing)) > 0.1)


def voxels_apart(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """Compute how far two affines place a voxel apart at most, in voxels along an axis."""
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape[:3]))])
    moved = corners @ (np.linalg.inv(one) @ other).T
    return float(np.abs(moved - corners).max())
