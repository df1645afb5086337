"""Similarity of pairs of images, and searches for the most similar image of a set.

`ssim` and `ms_ssim` are the published measures. `ncc_search` finds the best correlated images,
`ssim_search` those of the highest SSIM (by `approximate_ssim` and `shifted_ssim`), and
`tumor_patch_search` the most similar tumours; `image_transforms` prepares images for the searches.
The modules may import each other and
`tasks.measures.blas_threads`.
"""
