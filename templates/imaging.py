"""What is computed for every run of images in HDF5 or NeXus files (setting `source`: hdf5).

Put the path of your images below (frame, y, x). Check this file with `runtable read-context`, and
fill the rows of earlier runs with `runtable reprocess all`.
"""

import numpy as np
from damnit_ctx import Cell, Group, Skip, Variable

IMAGES = "entry/data/data"
SATURATED = 65535  # a pixel of this value or more has lost what it should have counted
FRAMES_AT_ONCE = 32


def stack(run):
    """The images, not read yet, or a skipped variable where the run has none."""
    if IMAGES not in run:
        raise Skip(f"{IMAGES} is not in this run")
    return run[IMAGES]


def blocks(images):
    """A few images at a time, so that any number of them fits into memory."""
    for start in range(0, len(images), FRAMES_AT_ONCE):
        yield images[start : start + FRAMES_AT_ONCE].astype(float)


@Variable(title="Frames", tags="images")
def frames(run):
    return len(stack(run))


@Variable(title="Mean image", tags="images")
def mean_image(run, frames: "var#frames"):
    if frames == 0:
        raise Skip("no frames")
    return sum(block.sum(axis=0) for block in blocks(stack(run))) / frames


@Variable(title="Brightness", tags="images")
def brightness(run):
    """The mean of each frame. Without a summary, the table shows the curve itself."""
    means = [block.mean(axis=(1, 2)) for block in blocks(stack(run))]
    return np.concatenate(means) if means else None


@Variable(title="Saturated pixels", tags="images")
def saturated(run):
    """How many pixels are saturated in any frame."""
    images = stack(run)
    found = np.zeros(images.shape[1:], bool)
    for block in blocks(images):
        found |= (block >= SATURATED).any(axis=0)
    count = int(found.sum())
    return Cell(count, background="#ffd0d0" if count else None)


@Variable(title="Background", tags="images", transient=True)
def background(run, image: "var#mean_image"):
    """A level that most pixels have; other variables use it, the table does not show it."""
    return float(np.median(image))


# A group is written once and used for every region of the image: columns "Spot/Intensity", …
@Group(title="Region", tags="regions")
class Region:
    y: tuple = (0, None)  # first pixel and the one after the last
    x: tuple = (0, None)

    def part(self, array):
        return array[slice(*self.y), slice(*self.x)]

    @Variable(title="Intensity")
    def intensity(self, run, image: "var#mean_image", level: "var#background"):
        """What is above the background, summed up."""
        return float((self.part(image) - level).clip(0).sum())

    @Variable(title="Centre")
    def centre(self, run, image: "var#mean_image", level: "var#background"):
        """The centre of mass (y, x) in pixels of the whole image."""
        weight = (self.part(image) - level).clip(0)
        if not weight.any():
            raise Skip("nothing above the background")
        rows, columns = (self.part(pixels) for pixels in np.indices(image.shape))
        y = float((rows * weight).sum() / weight.sum())
        x = float((columns * weight).sum() / weight.sum())
        return Cell([y, x], summary_value=f"{y:.1f}, {x:.1f}")


spot = Region(title="Spot")
upper_left = Region(title="Upper left", y=(0, 100), x=(0, 100))
