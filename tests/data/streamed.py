"""What the tests of streaming share."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorefield.data import write_blocks


def save(frame, folder, kind):
    """Write a table whose columns are x1, x2, ... in one of the ways that a file can hold it."""
    path, array = folder / f"table.{kind}", frame.to_numpy()
    if kind.endswith("parquet"):
        size = 5 if kind == "groups.parquet" else len(frame)
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=size)
    elif kind in {"columns.npy", "npy"}:
        np.save(path, np.asfortranarray(array) if kind == "columns.npy" else array)
    elif kind.endswith("npz"):
        kept = np.asfortranarray(array) if kind == "columns.npz" else array
        (np.savez_compressed if kind == "compressed.npz" else np.savez)(path, X=kept)
    else:
        write_blocks(path, [frame], force=True)
    return path
