"""Tables of numbers: read strictly and in blocks, written whole or not at all, split and fingerprinted."""

from scorefield.data.tables import Table, digest, point_blocks, read_points, read_table, split
from scorefield.data.writing import check_output, write_blocks

__all__ = ["Table", "check_output", "digest", "point_blocks", "read_points", "read_table", "split", "write_blocks"]
