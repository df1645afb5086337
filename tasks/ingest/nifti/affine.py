"""Where a NIfTI file's voxels lie: two forms in one header, and the unit they are written in.

NIfTI-1 (nifti1.h, methods 2 and 3): the qform is a rotation with pixdim, the sform any affine map.
Both may be set, and programs differ in which they read: where the two place voxels apart, one of
two viewers shows another picture, and nothing in the file says which is right.
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
    """(4,4) to RAS+ mm: the preferred form where it is there, else the sform, else the qform.

    Raises:
        RefusalError: `geometry` where no form is usable, `affine-conflict` where both are, differ
            by more than a voxel somewhere in the grid, and none is preferred.
    """
    unit = int(header["xyzt_units"]) & 7
    scale = MILLIMETRES.get(unit)
    if scale is None:
        raise RejectionError("geometry", f"the unit of length has the unknown code {unit}")
    forms: dict[Form, Affine] = {}
    for form, read in (("sform", header.get_sform), ("qform", header.get_qform)):
        affine = read_form(read) if int(header[f"{form}_code"]) > 0 else None
        if affine is not None and is_sane(affine := in_millimetres(affine, scale)):
            forms[form] = affine  # type: ignore[index]
    if not forms:
        told = f" (the header's unit is {UNIT_NAMES[unit]})" if unit in UNIT_NAMES else ""
        raise RejectionError("geometry", f"no usable sform or qform: voxels lie nowhere{told}")
    if prefer in forms:
        return forms[prefer]
    if len(forms) == 2:
        apart = voxels_apart(forms["sform"], forms["qform"], shape)
        if apart > MOST_VOXELS_APART:
            raise RejectionError(
                "affine-conflict", f"sform and qform place a voxel {apart:.1f} voxels apart"
            )
    return next(iter(forms.values()))


def read_form(read: Callable[[], Any]) -> Affine | None:
    """A form as nibabel reads it; None where it cannot, as with a quaternion longer than one."""
    try:
        return np.array(read(), np.float64)
    except Exception:  # a hostile header may raise anything
        return None


def in_millimetres(affine: Affine, scale: float) -> Affine:
    """The same map from a header that is written in metres or microns."""
    return np.diag([scale, scale, scale, 1.0]) @ affine


def is_sane(affine: Affine) -> bool:
    """Finite, with voxels of .01 to 100 mm and axes that span space."""
    if not np.isfinite(affine).all():
        return False
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not ((spacing > 0.01) & (spacing < 100)).all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / spacing)) > 0.1)


def voxels_apart(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """The furthest that a voxel of the grid moves between two maps, in voxels along an axis."""
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape[:3]))])
    moved = corners @ (np.linalg.inv(one) @ other).T
    return float(np.abs(moved - corners).max())
