"""Measures of images and of image sets, one per module: arrays in, numbers out.

`similarity` compares pairs of images, `features` compares sets by network features, `anatomy`
measures body, tumour, spectrum and site. `rank_auroc` compares two samples, `patient_subsampling`
draws patients and computes intervals, `blas_threads` limits the threads of matrix products. The
package may import `models`, `tasks.common.slice_set` and `tasks.stage.errors`, and no stage.
"""
