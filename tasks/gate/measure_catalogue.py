"""The catalogue of set-level measures: how each is computed, limited and described."""

from tasks.gate import measure_functions
from tasks.gate.measure import LimitRule
from tasks.gate.measure_functions import PRDC_NEIGHBOURS, distance_to_validation
from tasks.gate.set_measures import MeasureGroup, Missing
from tasks.measures.anatomy.power_spectrum import spectrum_distance
from tasks.measures.features import kid
from tasks.measures.features.feature_extraction import NAME
from tasks.measures.features.frechet import frechet_distance
from tasks.measures.similarity import ms_ssim
from tasks.params.gate import Gate

EQUAL = "equal n of each label, by patient; reference: validation patients"
FRECHET = f"FD({NAME})"


def catalogue(config: Gate, hashes: dict[str, str], *, side: int) -> list[MeasureGroup]:
    """Return all groups of measures, in the order of `metrics.json`.

    Args:
        config: the limits and the number of steps of the segmenter.
        hashes: SHA-256 of the weights behind each Fréchet distance.
        side: height or width of the slices in pixels, whichever is smaller.
    """
    k = PRDC_NEIGHBOURS
    limits = config.limits
    weights = {name: f"weights {digest[:12]}" for name, digest in hashes.items()}
    network = f"ImageNet features, {weights[FRECHET]}; {EQUAL}"
    groups = [
        MeasureGroup(
            distance_to_validation(lambda slices: slices.features, frechet_distance),
            {FRECHET: (LimitRule("high", limits.frechet), f"Fréchet distance on {network}")},
            "train",
        ),
        MeasureGroup(
            measure_functions.extrapolated_frechet(lambda slices: slices.features),
            {
                f"FD∞({NAME})": (
                    None,
                    "Fréchet distance of endless samples: intercept over 1/n at all, 3/4 and half"
                    " of the patients (Chong 2020); what is left real against real comes from"
                    f" fewer slices than features; {network}",
                )
            },
            "train",
            has_ratio=False,
            subsample_stride=2,
        ),
        MeasureGroup(
            distance_to_validation(lambda slices: slices.features, kid.kernel_distance),
            {f"KID({NAME})": (None, f"unbiased MMD², cubic kernel, {network}")},
            "train",
        ),
        MeasureGroup(
            measure_functions.neighbour_figures,
            {
                "precision": (
                    None,
                    f"share of slices within {k} feature neighbours; {EQUAL}",
                ),
                "recall": (
                    None,
                    f"share of real slices within {k} feature neighbours; {EQUAL}",
                ),
                "density": (
                    None,
                    f"real {k}-neighbour balls around a slice over {k}, may exceed 1; {EQUAL}",
                ),
                "coverage": (
                    None,
                    f"share of real slices with a synthetic one among their {k} feature"
                    f" neighbours; {EQUAL}",
                ),
            },
            "train",
        ),
        MeasureGroup(
            measure_functions.diversity,
            {
                "diversity": (
                    LimitRule("low", limits.diversity),
                    "mean 1 - correlation of blurred pairs of one label; real: of two patients",
                )
            },
            "val",
        ),
        mean_measure(
            "nearest_ssim",
            lambda slices: slices.table["nearest_train_ssim"].to_numpy(),
            LimitRule("both", limits.nearest_ssim),
            "SSIM (Wang's settings, within the body) with the nearest training slice under flips"
            " and shifts; real: validation slices",
        ),
        mean_measure(
            "orientation",
            lambda slices: slices.table["upright"].to_numpy(),
            LimitRule("low", limits.orientation),
            "share of slices nearer to a training slice as they are than upside-down",
        ),
        MeasureGroup(
            distance_to_validation(lambda slices: slices.spectra, spectrum_distance),
            {
                "spectrum": (
                    LimitRule("high", limits.spectrum),
                    f"root mean square difference of log radial power; {EQUAL}",
                )
            },
            "train",
        ),
        MeasureGroup(
            distance_to_validation(
                lambda slices: slices.histograms, measure_functions.histogram_distance
            ),
            {
                "intensity": (
                    LimitRule("high", limits.intensity),
                    f"Wasserstein distance of intensities within the body; {EQUAL}",
                )
            },
            "train",
        ),
        *tumour_and_site_measures(config),
    ]
    if side >= ms_ssim.LEAST_TAPS:
        method = f"mean 1 - MS-SSIM ({ms_ssim.choose_settings(side)}) of pairs of one label"
        rule = LimitRule("low", limits.ms_ssim_diversity)
        entry = {"ms_ssim_diversity": (rule, f"{method}; real: of two patients")}
        groups.insert(
            5, MeasureGroup(measure_functions.ms_ssim_diversity, entry, "val", subsample_stride=2)
        )
    for name in hashes:
        if name != FRECHET:
            method = f"Fréchet distance, {weights[name]}; {EQUAL}"
            figure = distance_to_validation(
                measure_functions.external_features(name), frechet_distance
            )
            groups.append(MeasureGroup(figure, {name: (None, method)}, "train"))
    return groups


def tumour_and_site_measures(config: Gate) -> list[MeasureGroup]:
    """Return the measures of tumour shape, of agreement of image and mask, and of site coverage."""
    limits = config.limits
    columns: dict[str, tuple[tuple[str, ...], float | None, str]] = {
        "tumor_size": (("share",), limits.tumor_size, "tumour area as a share of the body"),
        "tumor_position": (
            ("row", "column"), limits.tumor_position, "tumour centres, mean of row and column"
        ),
        "tumor_solidity": (
            ("solidity",), limits.tumor_solidity, "tumour area over that of its convex hull"
        ),
        "tumor_eccentricity": (
            ("eccentricity",), limits.tumor_eccentricity, "eccentricity of the tumour's ellipse"
        ),
    }  # fmt: skip
    return [
        *(
            MeasureGroup(
                distance_to_validation(
                    measure_functions.column_of(*names), measure_functions.wasserstein
                ),
                {
                    key: (
                        LimitRule("high", limit),
                        f"Wasserstein distance of {description}; {EQUAL}",
                    )
                },
                "train",
                missing=measure_functions.missing_tumour_figures(*names),
            )
            for key, (names, limit, description) in columns.items()
        ),
        mean_measure(
            "mask_label",
            measure_functions.mask_matches_label,
            LimitRule("low", limits.mask_label),
            "share of slices whose mask is empty or not as the label says",
            measure_functions.missing_masks,
        ),
        mean_measure(
            "mask_contrast",
            measure_functions.mask_contrast,
            LimitRule("low", limits.mask_contrast),
            "mean |2 AUROC - 1| of the intensities in the mask against a ring around it",
            measure_functions.missing_tumour_figures("contrast"),
        ),
        MeasureGroup(
            measure_functions.segmenter_agreement,
            {
                "mask_agreement": (
                    LimitRule("low", limits.mask_agreement),
                    f"Dice of the masks with what a U-Net finds, after {config.segmenter_steps}"
                    " steps on training slices; real: validation slices' own masks",
                )
            },
            "val",
            missing=measure_functions.missing_segmenter,
        ),
        MeasureGroup(
            measure_functions.site_coverage,
            {
                "site_coverage": (
                    LimitRule("low", limits.site_coverage, beyond_chance=True),
                    "smallest share of a site over its share among the training slices, as a"
                    " classifier of these sees it, its errors on validation slices taken out",
                )
            },
            "train",
            missing=measure_functions.missing_sites,
        ),
    ]


def mean_measure(
    name: str,
    column: measure_functions.Column,
    rule: LimitRule,
    method: str,
    missing: Missing = lambda _: None,
) -> MeasureGroup:
    """Return a measure that compares means over synthetic slices and over validation slices."""
    return MeasureGroup(
        measure_functions.mean_figure(column), {name: (rule, method)}, "val", missing=missing
    )
