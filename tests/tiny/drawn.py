"""Made-up comparisons to draw and to report on, with directories of small images."""

import zlib
from dataclasses import replace

import numpy as np
from PIL import Image

from noise_search.comparison.comparison import Comparison
from tiny.made_up import NFE, gaussian_pools, random_search, rescaled, shifted

COUNTS = (2, 4, 8)
SETTINGS = {
    "model": {"name": "shapes-flow", "pipeline": "FluxPipeline", "options": {"num_inference_steps": NFE}},
    "verifier": {"name": "clip", "verifiers": [{"name": "clip", "version": "1", "kind": "score"}]},
    "judges": [{"name": "oracle", "version": "1", "kind": "score"}],
    "environment": {"torch": "2.9.1", "python": "3.11.7"},
    "algorithms": {"random": "RandomSearch()"},
    "steps": NFE,
}


def comparison(
    own=0.9, judge=30.0, directory=None, prompts=20, seeds=2, name="better", correlation=0.5, noise=0.0, **more
):
    """Random search and one algorithm, whose winners have so much more than the mean candidate, more at each budget.

    `noise` is the standard deviation over searches, of the judge 40 times as much.

    The best of 8 random candidates has about 0.43 more by its own score, and 14 by the judge, at a correlation of 0.5.
    """
    pools = gaussian_pools(prompts, seeds, max(COUNTS), correlation, np.random.default_rng(7))
    records = random_search(pools, COUNTS)
    rng = np.random.default_rng(11)
    for rank, count in enumerate(COUNTS, start=1):
        share = rank / len(COUNTS)

        def move(_, share=share):
            return own * share + noise * rng.normal(), judge * share + 40 * noise * rng.normal()

        records += shifted(pools, name, count * NFE, move)
    records = [with_embedding(one) for one in records]
    if directory is not None:
        records = [with_image(one, directory) for one in records]
    return Comparison(tuple(records), tuple(pools), {**SETTINGS, **more}, directory)


def lifted(found, own=0.0, judge=0.0):
    """The comparison with so much more in all scores, of candidates and winners, and in the judge's."""
    return replace(
        found,
        records=tuple(rescaled(rescaled(one, 1, own), 1, judge, "judges") for one in found.records),
        pools=tuple(rescaled(rescaled(one, 1, own), 1, judge, "judges") for one in found.pools),
    )


def uneven(directory=None, missing=3):
    """A comparison whose other algorithm lacks the last prompts at the largest budget."""
    found = comparison(directory=directory, prompts=10)
    gone = set(found.prompts[-missing:])
    return replace(
        found,
        records=tuple(
            one
            for one in found.records
            if not (one.algorithm == "better" and one.budget == max(COUNTS) * NFE and one.prompt in gone)
        ),
    )


def with_embedding(record):
    angle = (number(record) % 90) * np.pi / 180
    return replace(record, embedding=(float(np.cos(angle)), float(np.sin(angle))))


def with_image(record, directory, size=(16, 12)):
    """The record with a file of one colour, another for each record."""
    name = f"{number(record):08x}.png"
    colour = tuple((number(record) >> shift) % 256 for shift in (0, 8, 16))
    Image.new("RGB", size, colour).save(directory / name)
    return replace(record, image=name)


def number(record) -> int:
    """A number that is the record's own, the same in every process."""
    return zlib.crc32(repr(record.cell).encode())
