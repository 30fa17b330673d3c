"""Tables and images: read strictly and with little memory, written whole or not at all, split and fingerprinted."""

from scorefield.data.images.arrays import arranged
from scorefield.data.images.mnist import read_mnist
from scorefield.data.images.reading import Images, as_images, is_images, read_images
from scorefield.data.images.writing import check_image_output, write_images
from scorefield.data.messages import about
from scorefield.data.tables.reading import Table, digest, point_blocks, read_points, read_table, split
from scorefield.data.tables.writing import check_output, write_blocks

__all__ = [
    "Images",
    "Table",
    "about",
    "arranged",
    "as_images",
    "check_image_output",
    "check_output",
    "digest",
    "is_images",
    "point_blocks",
    "read_images",
    "read_mnist",
    "read_points",
    "read_table",
    "split",
    "write_blocks",
    "write_images",
]
