"""Captions of pictures, planned for a machine that isn't here: ``python captioning.py [WATTS]``.

A CNN sees the picture, a transformer finds the caption word by word, Python puts it into writing.
The watts are what the NPU is assumed to draw, in place of what the catalogue has.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import models
import numpy as np

import dioe
from dioe.hardware import pool_from
from dioe.hardware.descriptor import PowerSection
from dioe.hardware.figures import FigureKind, PowerFigure

STEPS = models.LENGTH
"""Words of a caption: the decoder runs once for each."""

COSTS_MS = {"tell": 0.4, "write": 0.2}
"""What the Python steps take on the CPU, without the models that they call."""


def tell(step, features):
    """The caption word by word, the likeliest one each time."""
    words = np.zeros((1, STEPS), np.int64)
    for _ in range(STEPS):
        scores = step({"words": words, "features": features})["scores"]
        words = np.roll(words, -1, axis=1)
        words[0, -1] = scores[0].argmax()
    return {"words": words}


def write(words):
    """The caption as text."""
    return " ".join(f"word{number}" for number in words[0])


def captions():
    """The pipeline: the picture's model, a loop over words that calls the decoder, the text."""
    return dioe.Pipeline(
        {"encode": models.encoder(), "tell": tell, "decode": models.decoder(), "write": write},
        edges=[("encode.features", "tell.features"), ("tell.words", "write.words")],
        calls={"tell.step": "decode"},
    )


def where(plan):
    """Which devices each node of the pipeline is on."""
    found = {}
    for block, target in plan.schedule.assignment.items():
        found.setdefault(block.partition(".")[0].partition(" ")[0], set()).add(target)
    return ", ".join(f"{node} on {' and '.join(sorted(on))}" for node, on in found.items())


def figures(plan):
    """What a caption takes."""
    return (
        f"{plan.latency_ms:.2f} ms, {plan.throughput_per_s:.0f} captions/s, "
        f"{plan.energy_j * 1e3:.0f} mJ a caption (modelled)"
    )


def assumed(watts):
    """The pool of the catalogue with an NPU that draws so much."""
    pool = pool_from("captioning")
    tdp = PowerFigure(value=watts, kind=FigureKind.UNVERIFIED, source="assumed")
    devices = [
        replace(device, figures=device.figures.model_copy(update={"power": PowerSection(tdp=tdp)}))
        if device.id == "npu:0"
        else device
        for device in pool.devices
    ]
    return replace(pool, devices=tuple(devices))


def main(npu_watts=None):
    """Print where each policy places the nodes, and what that takes, beside the GPU alone."""
    pipeline = captions()
    pool = "captioning" if npu_watts is None else assumed(float(npu_watts))

    def planned(policy, devices="auto"):
        return dioe.plan(
            pipeline, hardware=pool, policy=policy, precision="auto", devices=devices,
            runs={"decode": STEPS}, cost_ms=COSTS_MS,
        )  # fmt: skip

    alone = planned("throughput", ["gpu:0"])
    print(f"GPU alone: {figures(alone)}")
    for policy in ("latency", "throughput", "efficiency"):
        plan = planned(policy)
        print(f"{policy}: {where(plan)}")
        print(f"  {figures(plan)}")
        faster, thriftier = (
            plan.throughput_per_s / alone.throughput_per_s,
            alone.energy_j / plan.energy_j,
        )
        print(
            f"  {faster:.2f} times as many captions a second as the GPU alone, "
            f"{thriftier:.2f} times as many a joule"
        )
        for device in plan.devices:
            if device.id == "npu:0" and device.busy_ms:
                others_j = plan.energy_j - device.energy_j
                even_w = (alone.energy_j - others_j) / device.busy_ms * 1e3
                print(
                    f"  the NPU counts with {device.busy_w:g} W; the GPU alone takes more energy "
                    f"where the NPU draws less than {even_w:.1f} W"
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
