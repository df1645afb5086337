"""Correct the bias field by SimpleITK's N4 (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908)."""

from dataclasses import replace

import numpy as np

from tasks.ingest.core.volume import Volume

SHRUNK_MM = 4.0  # the field is smooth: it is estimated on voxels of about this size
ITERATIONS = [50, 50, 30]


def correct_bias(volume: Volume) -> Volume:
    """Divide by the smooth field that N4 finds inside an Otsu mask.

    Returns:
        (I,J,K) float32 with the mean over the mask unchanged; a constant volume is returned
            unchanged.
    """
    import SimpleITK as sitk  # noqa: N813  (its own documentation writes it so)

    data = volume.data.astype(np.float32)
    if data.min() == data.max():
        return replace(volume, data=data)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums over threads round differently
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(volume.spacing_mm)
    inside = sitk.OtsuThreshold(image, 0, 1, 200)
    factors = [
        max(1, min(round(SHRUNK_MM / spacing), length // 4))
        for spacing, length in zip(volume.spacing_mm, volume.data.shape, strict=True)
    ]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(ITERATIONS)
    corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(inside, factors))
    field = np.exp(sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T)
    mask = sitk.GetArrayFromImage(inside).T > 0
    corrected = data / field
    corrected *= data[mask].mean() / corrected[mask].mean()
    return replace(volume, data=corrected.astype(np.float32))
