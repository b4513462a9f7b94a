"""``dioe demo``: the main job on a real model and a real picture, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dioe.cli import costs, options
from dioe.cli.bench import Seconds, show
from dioe.cli.files import PICTURE, check_output
from dioe.cli.terminal import console, progress

Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="Write the page with boxes.", metavar="PNG"),
]


def demo(
    picture: Picture = None,
    tuning_budget: options.Budget = 20.0,
    seconds: Seconds = 10.0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Find the text on a scanned page with the PP-OCR detector, on the fastest target here.

    Fetches the detector (rapidocr-onnxruntime) and the page (scikit-image) from PyPI once.
    """
    from dioe.cli import demo_model
    from dioe.tuning import Job, Settings
    from dioe.tuning import bench as run_bench

    if picture is not None:
        check_output(picture, PICTURE, [])
    costs.history()
    with progress("demo", quiet=as_json) as say:
        say("fetching the model and the page")
        model = demo_model.demo_model()
        page = demo_model.demo_page()
        feeds = {demo_model.INPUT: page.feed}
        result = run_bench(
            model, sample_inputs=feeds, tuning_budget_s=tuning_budget, time_s=seconds, progress=say
        )
        job = Job(model, hardware=None, settings=Settings(), sample_inputs=feeds)
        with job.session([result.chosen]) as session:
            outputs = session.run(feeds)
    (probability,) = outputs.values()
    boxes = demo_model.find_boxes(np.asarray(probability))
    if picture is not None:
        demo_model.draw_boxes(page, boxes, picture)
    if as_json:
        options.print_json({**result.to_dict(), "boxes": [list(box) for box in boxes]})
        return
    out = console()
    out.print("The PP-OCR text detector on a scanned page (640 x 640 pixels)")
    show(result, out)
    out.print(f"{len(boxes)} pieces of text found on the page", markup=False)
    if picture is not None:
        out.print(f"page with boxes written to {picture}", markup=False)
