"""Find the masks that belong to an image of a patient: by name, session, frame, and contrast."""

from collections.abc import Collection, Sequence

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.filenames.name_parts import parent_folder, standard_space
from tasks.ingest.user_tables.files_csv import OWNER_EVIDENCE


def masks_for_image(
    image: ScanRecord, masks: Sequence[ScanRecord], images: Sequence[ScanRecord] = ()
) -> list[int]:
    """Return the indices of an image's masks: drawn on it by name, else by session and frame.

    `images` are all images of the patient: a mask in a folder with images belongs to these alone.
    """
    folders = {parent_folder(other.name) for other in images if other.format == "nifti"}
    candidates = [
        index
        for index, mask in enumerate(masks)
        if (mask.session is None or image.session is None or mask.session == image.session)
        and in_same_frame(image, mask)
        and (mask.format == "image2d") == (image.format == "image2d")  # 2D has no geometry
        and in_same_space(image, mask)
        and not lies_beside_others(image, mask, folders)
    ]
    by_name = [index for index in candidates if image.stem and masks[index].stem == image.stem]
    return by_name or [i for i in candidates if not is_drawn_on_another(image, masks[i])]


def in_same_frame(image: ScanRecord, mask: ScanRecord) -> bool:
    """Check whether the frames of reference agree or one of the two has none."""
    frames = {image.frame_of_reference, mask.frame_of_reference} - {""}
    return len(frames) < 2


def in_same_space(image: ScanRecord, mask: ScanRecord) -> bool:
    """Check whether both names give the same standard space, or none, or `files.csv` pairs them."""
    if image.format != "nifti" or mask.format != "nifti" or mask.evidence == OWNER_EVIDENCE:
        return True
    return standard_space(image.name) == standard_space(mask.name)


def lies_beside_others(image: ScanRecord, mask: ScanRecord, folders: Collection[str]) -> bool:
    """Check whether a mask lies in a folder of other images, which may be another visit."""
    if image.format != "nifti" or mask.format != "nifti":
        return False
    folder = parent_folder(mask.name)
    return folder in folders and folder != parent_folder(image.name)


def is_drawn_on_another(image: ScanRecord, mask: ScanRecord) -> bool:
    """Check whether a mask's name gives another contrast than the image's."""
    return mask.format == "nifti" and mask.modality not in ("other", image.modality)
