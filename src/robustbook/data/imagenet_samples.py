"""Photographs from ImageNet, one a class, for a network that was trained on ImageNet;
read from files, never shown.

The choice of pictures favours SqueezeNet, so that its accuracy on them means nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataFile, DataSource, digest_of

TITLE = "ImageNet photographs (59)"
LICENCE = (
    "ImageNet: non-commercial research and education; rights stay with the "
    "photographers; not shown here"
)
SIDE, SHORTER_SIDE = 227, 256
LISTED = """
n01440764_tench 0 98f7e89b26142f7bdb61f3a627dee89729b0bb07a29e9e7f3be9d394c00c6f01
n01484850_great_white_shark 2 2154d212dbb63a67f1436967223d846f687121cdd9ed1a37d6ca8f0821d385bc
n01614925_bald_eagle 22 603acc0ab92fdd66bfdc8ed51534e7a8830e9e1c3d0310228742214c29760388
n01641577_bullfrog 30 0f7055de76565e6f08ae8050b9ef56a7de6e65846e6aa67c47859134db40a72b
n01644900_tailed_frog 32 42e1a264ba9fd7e9fc3a59a5ac5fb370df937ae682101ff88453dcb600a6d542
n01829413_hornbill 93 9f3ab6f1113febc1018bc6faccaebf75ffb994e3b33acfb7166670025b8e75f6
n01843065_jacamar 95 1b60885e88cdad0644181396781bd011b28f7312ca88bbab8fc411873958fce5
n01855032_red-breasted_merganser 98 533d1f875fdba1555a4342167661c5bb828221fc01f8f23dbd29d81a71fd351e
n02027492_red-backed_sandpiper 140 f72fa8150c444eda7eae83b87197a274216a858aa442ac81bc47b6a107104875
n02088632_bluetick 164 c9c3db4ba4e5f54db899c249563d703f4531a447d8e44086bdcb81e68f1e9f32
n02092339_Weimaraner 178 83482c4f7f2b3365d983aed8f3cf093dcf5a1f87f82b8770808bbb8124a0a0cf
n02098286_West_Highland_white_terrier 203 fd00f32aaab240155d71a33f3564aee73c59002cf34b23c72a0d89d14756037c
n02102040_English_springer 217 c3386e4f5277915b684195a6badcabf913f5e91c1a5f6bdea71aae40b5e335e6
n02102318_cocker_spaniel 219 866f84562a31fe5ce9e301693a7576173c0f9d53bcb523f4570d90a7a3f3449e
n02105056_groenendael 224 9d33d86268e529bc53f3cb4d14b67eb34f55f004171c9891d72a5a21fbf0e3a1
n02105251_briard 226 b9f0cc1d8550ee7f36825177dae8cceab8b46e54a6df787f057f2c7398d4600c
n02107683_Bernese_mountain_dog 239 e0c15bf7cf8be121ecae2a99db3393e00783b70b3a21cedefdadd59e76911742
n02127052_lynx 287 e78e94f4c1162d0443f447b15eab7f8c1b1187b93835e111a4896e2ae0783cc2
n02165456_ladybug 301 ab4a6ea422cf56a10fd17fb50d2e881211b90d98d277a581f3007fb481ce9f16
n02437616_llama 355 223d865cfdd68df60206595ec32f16836e1f22f1172ef9a0ef9e61b09b1254f5
n02483708_siamang 369 0a3dc8061f8ab697694fb92a082330efd356e7eeaee59bf22588e90db91408af
n02500267_indri 384 29f1065dabe5aaa8187e4df72c29b93f245ada2658ca7724ea3ae38e38cc73d8
n02504013_Indian_elephant 385 45a9e64124fdbfa03a6dde8b6a5cde75e1430488bf7228f5237af3db3534db53
n02536864_coho 391 41823f3a416ef9279fd4ebd11bca3be2a85e91eb8da9313ee56286181b67496a
n02777292_balance_beam 416 e7f3a43f46a719f267c8d23abcd4c4ff7aa8ec4ed020a7179a6222a421523a85
n02799071_baseball 429 06dc912bdea8612e77e0586dd47f78b8aaf3a70aedab9158ab2be9e419a7f367
n02814533_beach_wagon 436 b6da3b6560d4b2b0077e75602197023dde811b652f25428a8010daba59da668b
n02860847_bobsled 450 286e0dd054e869213f6867fec650e2dc9dbe40251c58a6e3150cae4a6fdaf320
n02951358_canoe 472 5c844a4d0b034580db6ea4eb9e38e6f9d159f46fafc3747553823e2b5cea8e3e
n02979186_cassette_player 482 bb07a7446aaa75074d9385732ef74200adc45bee9c2ac37efcc1fb3527151e8b
n03000684_chain_saw 491 125af2501e73182e17bdbc454e1bd0dc3a2e9e160b03304a26d14d3dcedda52b
n03016953_chiffonier 493 11ca2244c3d1084a8eaec0cc003f184a2ca6dba3c866c3eb1b25df7be59cbc36
n03028079_church 497 c7eec56d41bc7c329637a58be78e373bb07301a196eaf0cc598a85d80d906c7d
n03272010_electric_guitar 546 74e09118fe5dc5c78ae306dec8c6a92c7b9ccd7b7d714df68ba6a7d31a870a8e
n03325584_feather_boa 552 a4f1096dd661ae0cef636f0aabfba5437827fe4e32df430489b1dffb2ad95ab2
n03355925_flagpole 557 6bdc3bd4d091661989c3d9aa9de6665bd75844cbc1eb1bc1178703d8cba676c2
n03394916_French_horn 566 accea5733f3e25b098b8fe03a3821da91d6f534957efb05966137cfb0cfb9a0c
n03417042_garbage_truck 569 2459956712ee2b56ff8cb45ebe26a2729f876258ce78a11898246cba9e5faf78
n03425413_gas_pump 571 c3e721abc5e37ed461af4fa4351ec408d33d66e70acc516a2606a1e2640557ba
n03445777_golf_ball 574 0fafcd6e415060fc1ed96bcc2289b9539fb91d7fc4c24385b1819837995d04c0
n03633091_ladle 618 8d6c0034e44517f3a22abd426eece20f4b49dca91dca41ff6bd095af51edd0f4
n03670208_limousine 627 2f505232e00e508359aa8d20fc69a062789ac0b6b387b0cb08f5218d0f88ad4d
n03857828_oscilloscope 688 ca08e89c5725931ee3739724bc1e48d795463e9ff068f6d9b0b6c6de400317b3
n03874599_padlock 695 2552bc28832a153e9834323bdb11870a6a8f6f06ab6634cd40f1d559fd8cb9db
n03895866_passenger_car 705 7c5cd863a0bd754f09da0bc6f1a88c086a991d58da9b83f5b134c18b778e0800
n03933933_pier 718 bb3b12d9efe95872b1057e2e847671bc45c2fbf93ce9f888955ec6fdb6db845f
n03976657_pole 733 955df21bbc1fa768371b7c193d689bc5ffe087d6350660209b270c3cdf18e9b0
n04044716_radio_telescope 755 a4606169745fe242e74be25f6775c97e0d8569ebaeee637f0adb78d8a65ad6c9
n04070727_refrigerator 760 8d6716a12f870ae114c6e4fc0e5162ec349fb1272900612549033f89c3409f74
n04238763_slide_rule 798 7ac4493a42fcc5cdcf120ca5fae075dc0da5f8880b01d32ee4b102b419c79442
n04252225_snowplow 803 c7b07e7c4f80dfef67d8932ce15449dc8187757ea30a7eb212ce882c36bfbbb4
n04266014_space_shuttle 812 616b5039e9656a5147c66550c6b83587f97a895db807df5c9368d45968a66d65
n04332243_strainer 828 4b1a91223be54117eeeda7073997727d6611009df5ac6008828a8cb04366026a
n04532670_viaduct 888 7f3fc31025fa4b83e804a305f25051c9d7fcfc3ee3a09d5112e5be0226e36a5b
n07584110_consomme 925 639236758a56d2e012be0ec6263b36e967c5fbb57ed9f347a0eb8d52016003b2
n07711569_mashed_potato 935 43d5a1c2f94a37d0ec1ddb5c9da9fd5688dc2b6b5330a339e76daefeb32812aa
n07717556_butternut_squash 942 2775c8987a2d28f0159423036ce6bc92143747578a0cf78a9b025e706ad607d4
n07745940_strawberry 949 a788baf1c9cc8ccbf4c404a88c47ef1e78162fa79172a53206720ec9a3b45081
n07831146_carbonara 959 57afa01fbba693e6641e3769b5d90aede93dc9765417d6f0252470336b7ec143
"""
"""Name, number of the class and SHA-256 of each photograph."""
_ROWS = [line.split() for line in LISTED.split("\n") if line]
PHOTOGRAPHS = tuple(
    DataFile(f"imagenet_samples/images/{name}.JPEG", digest)
    for name, _, digest in _ROWS
)
LABELS = tuple(int(number) for _, number, _ in _ROWS)
CLASSES = 1000


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    """All photographs at 227 x 227: shorter side resized to 256 (bicubic), then the
    middle cut out.
    """
    return ImageSet(
        name="photographs",
        title=TITLE,
        split=split,
        images=torch.stack(
            [torch.from_numpy(_picture(path)).permute(2, 0, 1) for path in paths]
        ),
        labels=torch.tensor(LABELS),
        class_names=tuple(str(number) for number in range(CLASSES)),
        digest=digest_of(PHOTOGRAPHS),
        licence=LICENCE,
        shareable=False,
    )


def _picture(path: Path) -> np.ndarray:
    """Pixels (227, 227, 3) in [0, 1]."""
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = SHORTER_SIDE / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    return (
        np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32)
        / 255
    )


SOURCE = DataSource(
    name="photographs",
    title=TITLE,
    class_names=tuple(str(number) for number in range(CLASSES)),
    licence=LICENCE,
    shareable=False,
    splits=("test",),
    files={"test": PHOTOGRAPHS},
    read=_read,
)

SOURCES = {"photographs": (SOURCE,)}
