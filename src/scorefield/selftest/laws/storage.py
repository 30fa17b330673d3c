"""Properties of files and units: what is written comes back; each returns the error of one case."""

import dataclasses
import math
import os
import tempfile
import tomllib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import tomli_w
import torch
from torch import Tensor

from scorefield.data import read_table, write_blocks
from scorefield.diffusion import prediction
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.networks import NETS
from scorefield.inference.bound import Bound
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.units import PixelTransform
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import checkpoint
from scorefield.selftest.cases import F64
from scorefield.selftest.laws.draws import Draw, wrong
from scorefield.training.config import Config
from scorefield.training.objectives.table import OBJECTIVES

TYPES = (F64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)


# ------------------------------------------------------------------------------------------- files and units


def settings_come_back(draw: Draw) -> float:
    """Settings written to TOML are read as the same settings."""
    plain = [name for name, row in OBJECTIVES.items() if not row.energy and not row.law]
    process = draw.process()
    name = next(name for name, kind in PROCESSES.items() if kind is type(process))
    config = Config(
        steps=draw.whole(1, 2**62),
        seed=draw.whole(0, 2**62),
        process=name,
        span=tuple(vars(process).values()),
        predicts=draw.one_of(list(prediction.PREDICTIONS)),
        objective=draw.one_of(plain),
        network=draw.one_of(list(NETS)),
        learning_rate=draw.real(1e-300, 1e300),
        noise_median=draw.real(1e-3, 1e3),
        members=draw.whole(1, 9),
    )
    text = tomli_w.dumps(dataclasses.asdict(config))
    return wrong(Config.from_dict(tomllib.loads(text)) == config)


def tensor_of(draw: Draw) -> Tensor:
    """Return a tensor of any type and shape, without numbers and without dimensions too."""
    shape = tuple(draw.whole(0, 4) for _ in range(draw.whole(0, 3)))
    values = 100 * draw.normals(math.prod(shape)).reshape(shape)
    special = draw.one_of([0.0, math.inf, math.nan])
    kind = draw.one_of(TYPES)
    return (values + special if kind.is_floating_point else values.abs()).to(kind)


def same_bytes(x: Tensor, y: Tensor) -> bool:
    """Return whether two tensors are the same to the bit."""
    same = x.dtype == y.dtype and x.shape == y.shape
    return same and bool((x.flatten().view(torch.uint8) == y.flatten().view(torch.uint8)).all())


def checkpoints_come_back(draw: Draw) -> float:
    """Whatever finite tensors are saved are read, to the bit; of others nothing is kept."""
    model, state = ({f"t{k}": tensor_of(draw) for k in range(draw.whole(0, 3))} for _ in range(2))
    finite = all(bool(value.isfinite().all()) for value in [*model.values(), *state.values()])
    step, refused = draw.whole(0, 10**9), False
    with tempfile.TemporaryDirectory() as name, patch.object(os, "fsync"):  # the disk is not what is tested
        try:
            checkpoint.save(Path(name), step, model, state, "digest")
        except checkpoint.CheckpointError:
            refused = True
        found = checkpoint.latest(Path(name), "digest")
    if found is None:
        return wrong(refused and not finite)
    pairs = [(model, found.model), (state, found.state)]
    same = all(a.keys() == b.keys() and all(same_bytes(a[k], b[k]) for k in a) for a, b in pairs)
    return wrong(finite and not refused and found.step == step and same)


def tables_come_back(draw: Draw) -> float:
    """Any numbers whose squares are finite are read as they were written, by text too."""
    rows = draw.whole(2, 5)
    floats = [draw.real(-1e150, 1e150) for _ in range(rows)]
    whole = [draw.whole(-(2**53), 2**53) for _ in range(rows)]
    frame = pd.DataFrame({"a": floats, "b": whole, "c": [0.5 * k for k in range(rows)]})
    with tempfile.TemporaryDirectory() as name, patch.object(os, "fsync"):
        path = Path(name) / draw.one_of(["t.csv", "t.tsv", "t.parquet"])
        write_blocks(path, [frame], force=False)
        found = read_table(path).frame
    return wrong(found.astype(float).equals(frame.astype(float)))


def table_of(draw: Draw) -> tuple[pd.DataFrame, dict]:
    """Return a table of several kinds of columns, and bounds."""
    n = draw.whole(3, 30)
    z, scale = draw.normals(n, 4).numpy(), 10 ** draw.real(-8.0, 8.0)
    frame = pd.DataFrame({"plain": z[:, 0] * scale + draw.real(-10.0, 10.0) * scale, "positive": np.exp(z[:, 1])})
    frame["share"] = 1 / (1 + np.exp(-z[:, 2]))
    frame["count"] = (draw.whole(1, 50) * (np.abs(z[:, 3]) * 5).round()).astype(np.int64)
    frame["fixed"] = draw.real(-10.0, 10.0)
    return frame, {"positive": (0, math.inf), "share": (0, 1)}


def units_come_back(draw: Draw) -> float:
    """A table mapped to the model's units and back is the table."""
    frame, bounds = table_of(draw)
    transform = TableTransform.fit(frame, bounds, bend=False)
    back = transform.inverse(transform.forward(frame))
    exact = all((back[name] == frame[name]).all() for name in ("count", "fixed"))
    error = max(float((back[name] / frame[name] - 1).abs().max()) for name in ("positive", "share"))
    moved = float((back["plain"] - frame["plain"]).abs().max() / frame["plain"].abs().max())
    return max(error, moved, wrong(exact and bool((back.dtypes == frame.dtypes).all())))


def slopes_are_the_maps(draw: Draw) -> float:
    """The log-Jacobian of a table's units is that of the map, by differences around one row."""
    frame, bounds = table_of(draw)
    transform = TableTransform.fit(frame.drop(columns="count"), bounds, bend=False)
    row = frame.drop(columns="count").iloc[[draw.whole(0, len(frame) - 1)]]
    parts = []
    for i in transform.varying:
        value = float(row.iat[0, i])
        room = min(value, 1 - value) if row.columns[i] == "share" else value
        step = 1e-4 * (transform.columns[i].spread if row.columns[i] == "plain" else room)
        up, down = row.copy(), row.copy()
        up.iat[0, i], down.iat[0, i] = value + step, value - step
        parts.append((transform.forward(up) - transform.forward(down))[0] / (2 * step))
    slope = torch.linalg.slogdet(torch.stack(parts)).logabsdet
    return float((slope - transform.log_jacobian(row)).abs())


def pixels_come_back(draw: Draw) -> float:
    """Images mapped to the model's units and back are the images, and k even levels are log2 k bits."""
    kind = draw.one_of(["uint8", "uint16", "int64", "float32", "bool"])
    levels = draw.whole(2, 2 if kind == "bool" else 200)
    shape = (draw.whole(2, 6), draw.whole(1, 3), draw.whole(1, 5), draw.whole(1, 5))
    pixels = (draw.normals(*shape).numpy() * 1e3).astype(np.int64) % levels
    pixels[0].flat[0], pixels[1].flat[0] = 0, levels - 1
    images = pixels.astype(kind) if kind != "float32" else (pixels / levels).astype(np.float32)
    transform = PixelTransform.fit(images)
    back = transform.inverse(transform.forward(transform.rows(images)))
    even = torch.full((3,), -transform.dim * math.log(levels), dtype=F64)
    density = ImageDensity()
    density.transform_ = transform
    bits = density.bits_per_dim(Bound(even, 0 * even)).value
    same = back.dtype == images.dtype and np.allclose(back.astype(float), images.astype(float), rtol=0, atol=1e-6)
    return max(wrong(same), float((bits - math.log2(levels)).abs().max()))
