# Runs made of rows that are written by hand: the folder that a run leaves, without running one.
from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from captum_infomask import DatasetRun, InfoMask, grid
from captum_infomask._run_length import encode
from captum_infomask.dataset_run.listing import Listing
from captum_infomask.dataset_run.manifest import FORMAT, template_hash, write_manifest
from captum_infomask.dataset_run.planning import TEMPLATE
from captum_infomask.dataset_run.result_rows import schema
from captum_infomask.dataset_run.shards import write_shard

SIDE = 8
CATEGORIES = ("ant", "bee", "cat")


def template(view="crop"):
    """An InfoMap of four quarters of a picture of 8 x 8 pixels."""
    x = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    infomask = InfoMask(lambda x: 2 + x.mean((2, 3)))
    return infomask.score_regions(x, target=0, view=view, regions=grid(x, 2, 2))


def good(key, target, total, scores=(0.5, 1.0, -1.0, 0.0), **others):
    """A picture's row; its mask keeps the left half unless ``mask`` says otherwise."""
    mask = others.pop("mask", np.arange(SIDE) < SIDE // 2)
    pixels = torch.from_numpy(np.broadcast_to(mask, (SIDE, SIDE)).copy())
    return {
        "key": key,
        "sha256": "00",
        "target": target,
        "predicted": target,
        "total": total,
        "scores": list(scores),
        "mask": encode(pixels),
        "boxes": [],
        "seconds": 0.5,
        "engine": "incremental",
    } | others


def bad(key, error="Expected the image to be a picture file; it is not one."):
    return {"key": key, "sha256": None, "seconds": 0.0, "error": error}


def write_run(folder, rows, *, pictures=None, categories=CATEGORIES, infomap=None, **settings):
    """Write a run's folder, one shard of all rows, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    infomap = template() if infomap is None else infomap
    manifest = {
        "format": FORMAT,
        "started": "2026-01-02T03:04:05+01:00",
        "pictures": len(rows) if pictures is None else pictures,
        "run": "11",
        "ended": None,
        "model_sha256": "22",
        "map_sha256": template_hash(infomap),
        "settings": {"model": "tiny", "target": "label", "unit": "bits", "seed": 0}
        | {"shard_size": max(len(rows), 1)}
        | settings,
        "preprocess": "none",
        "categories": list(categories),
        "versions": {"python": "3.13.0"},
        "machine": {"device": "abacus"},
        "data": str(folder / "no-such-data"),
    }
    write_manifest(folder, manifest)
    infomap.save(folder / TEMPLATE)
    keys = [row["key"] for row in rows]
    missing = [f"missing {k}" for k in range(manifest["pictures"] - len(rows))]
    Listing([*keys, *missing], (), (), [manifest["pictures"]]).save(folder, "11")
    if rows:
        write_shard(folder, 0, pa.Table.from_pylist(rows, schema=schema(torch.float32)), "11")
    return DatasetRun(folder)


def many_classes(folder, classes=1000, each=2):
    """A run with a few pictures in every class, more in the first ones."""
    rng = np.random.default_rng(0)
    count = [each + (k < 20) for k in range(classes)]
    targets = np.repeat(np.arange(classes), count).tolist()
    totals = np.log2(classes) - rng.gamma(1, 2, len(targets))
    rows = [
        good(f"{k:05d}.png", t, b) for k, (t, b) in enumerate(zip(targets, totals, strict=True))
    ]
    return write_run(folder, rows, categories=[f"class number {k}" for k in range(classes)])
