"""Images of galaxies out of files: released mocks, survey cutouts with mask, variance and PSF, and plain pictures."""

from galineage.sources.images.checks import check_cutout
from galineage.sources.images.folder import PictureFolder, open_pictures
from galineage.sources.images.opening import ImageFiles, open_images, read_cutout

__all__ = ["ImageFiles", "PictureFolder", "check_cutout", "open_images", "open_pictures", "read_cutout"]
