"""Data from their authors: a host on this machine plays all that hosts do, and
originals drawn small become exactly the arrays that were drawn.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import re
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from robustbook import cli, fetch
from robustbook.data import cifar10, gtsrb, imagenet_samples, load, mnist, store
from robustbook.data.store import DataError, DataFile
from robustbook.fetch import convert, holdings, transfer
from robustbook.fetch.transfer import Remote
from robustbook.models import pretrained

CONTENT = bytes(range(256)) * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
PARTS = ("train", "test")
PACKED = "5322b554ef5c74b931983fa75fff62a22bb854004f7895a4147ea8cb1bb47875"


class Host:
    """A web server on this machine: files by path, and what each path does wrong."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        behaviour, _, name = request.path.lstrip("/").partition("/")
        self.asked[request.path.lstrip("/")] += 1
        first = self.asked[request.path.lstrip("/")] == 1
        content = self.files.get(name)
        if behaviour == "moved":
            request.send_response(302)
            request.send_header("Location", self.url(f"right/{name}"))
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif behaviour == "gone" or content is None:
            request.send_error(404)
        elif behaviour == "busy" and first:
            request.send_error(503)
        else:
            self.send(request, content, behaviour, first)

    def send(
        self, request: BaseHTTPRequestHandler, content: bytes, how: str, first: bool
    ) -> None:
        start = 0
        if (wanted := request.headers.get("Range")) and how != "whole":
            self.ranges.append(wanted)
            start = int(re.findall(r"\d+", wanted)[0])
        if start >= len(content) > 0:
            request.send_error(416)
            return
        body = b"x" * len(content) if how == "wrong" else content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if how in ("cut", "whole") and first:
            body = body[: len(body) // 2]
            request.close_connection = True
        request.wfile.write(body)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Host()
    yield found
    found.stop()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def remote(*urls: str, digest: str | None = DIGEST) -> Remote:
    return Remote("set/file.bin", urls, len(CONTENT), digest)


def transferred(root: Path, wanted: Remote, tries: int = 2) -> bytes:
    return transfer.fetch(wanted, root, tries=tries, pause=0).read_bytes()


# One file
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["right", "moved", "busy"])
def test_a_file_comes_whole(host: Host, tmp_path: Path, how: str) -> None:
    host.files["file"] = CONTENT
    assert transferred(tmp_path, remote(host.url(f"{how}/file"))) == CONTENT
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["file.bin"]


def test_a_file_that_is_here_is_not_asked_for(host: Host, tmp_path: Path) -> None:
    host.files["file"] = CONTENT
    for _ in range(2):
        transferred(tmp_path, remote(host.url("right/file")))
    assert host.asked.total() == 1


def test_a_cut_transfer_goes_on_where_it_was(host: Host, tmp_path: Path) -> None:
    host.files["file"] = CONTENT
    told: list[tuple[int, int]] = []
    wanted = remote(host.url("cut/file"))
    transfer.fetch(
        wanted, tmp_path, tries=2, pause=0, tell=lambda *now: told.append(now)
    )
    assert (tmp_path / wanted.path).read_bytes() == CONTENT
    (start,) = (int(re.findall(r"\d+", wanted)[0]) for wanted in host.ranges)
    assert 0 < start <= len(CONTENT) // 2
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_the_next_call_goes_on_as_well(host: Host, tmp_path: Path) -> None:
    host.files["file"] = CONTENT
    with pytest.raises(DataError, match="cuts the connection"):
        transferred(tmp_path, remote(host.url("cut/file")), tries=1)
    assert transferred(tmp_path, remote(host.url("right/file"))) == CONTENT
    assert len(host.ranges) == 1


def test_a_host_that_cannot_go_on_begins_again(host: Host, tmp_path: Path) -> None:
    host.files["file"] = CONTENT
    assert transferred(tmp_path, remote(host.url("whole/file"))) == CONTENT


@pytest.mark.parametrize("left", [CONTENT, b"of another file" * 20_000])
def test_what_an_earlier_transfer_left_is_checked(
    host: Host, tmp_path: Path, left: bytes
) -> None:
    """All bytes of the file need no more; those of another file are thrown away."""
    host.files["file"] = CONTENT
    part = tmp_path / "set" / f"file.bin{transfer.PART}"
    part.parent.mkdir()
    part.write_bytes(left)
    assert transferred(tmp_path, remote(host.url("right/file"))) == CONTENT


@pytest.mark.parametrize("how", ["gone", "wrong"])
def test_a_mirror_helps(host: Host, tmp_path: Path, how: str) -> None:
    host.files["file"] = CONTENT
    wanted = remote(host.url(f"{how}/file"), host.url("right/file"))
    assert transferred(tmp_path, wanted) == CONTENT
    assert host.asked[f"{how}/file"] == 1


def test_a_file_with_another_digest_is_never_there(host: Host, tmp_path: Path) -> None:
    host.files["file"] = CONTENT
    with pytest.raises(DataError, match=r"^file\.bin: 127.* with another digest$"):
        transferred(tmp_path, remote(host.url("wrong/file")))
    assert list((tmp_path / "set").iterdir()) == []


def test_what_every_host_said_is_told(host: Host, tmp_path: Path) -> None:
    host.files["file"] = CONTENT
    wanted = remote(host.url("gone/file"), host.url("wrong/file"))
    with pytest.raises(
        DataError, match=r"answers 404 .*Not Found; .*another digest"
    ) as caught:
        transferred(tmp_path, wanted)
    assert "\n" not in str(caught.value)


def test_no_network_is_told_as_such(host: Host, tmp_path: Path) -> None:
    host.stop()
    with pytest.raises(transfer.Unreachable, match="cannot be reached"):
        transferred(tmp_path, remote(host.url("right/file")))


# Sets
# --------------------------------------------------------------------------------------


def small_mnist(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Twenty images in MNIST's format on the host, pinned as if they were official."""
    rng = np.random.default_rng(0)
    packed, remotes, pins = [], [], {}
    for split, files in mnist.FILES.items():
        pinned = []
        for file, header, shape in zip(
            files, (16, 8), ((20, 28, 28), (20,)), strict=True
        ):
            values = rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
            content = gzip.compress(b"\0" * header + values)
            digest, name = hashlib.sha256(content).hexdigest(), Path(file.path).name
            host.files[name] = content
            packed.append(content)
            pinned.append(DataFile(file.path, digest))
            urls = (host.url(f"gone/{name}"), host.url(f"right/{name}"))
            remotes.append(Remote(file.path, urls, len(content), f"sha256:{digest}"))
        pins[split] = tuple(pinned)
    monkeypatch.setitem(mnist.SOURCES, "mnist", (replace(mnist.SOURCE, files=pins),))
    held = replace(holdings.HOLDINGS["mnist"], remotes=tuple(remotes))
    monkeypatch.setitem(holdings.HOLDINGS, "mnist", held)
    return packed


def test_a_set_is_fetched_checked_and_loaded(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = small_mnist(host, monkeypatch)
    (step,) = fetch.plan(["mnist"])
    assert (step.state, step.size) == ("missing", sum(map(len, packed)))
    told = Counter[str]()
    fetch.get(["mnist"], tell=lambda name, *_: told.update([name]), pause=0)
    assert {Path(name).name for name in told} == set(host.files)
    assert len(load("mnist", "test")) == 20
    assert fetch.verify("mnist") == 4
    asked = host.asked.total()
    assert fetch.plan(["mnist"])[0].size == 0
    fetch.get(["mnist"])
    assert host.asked.total() == asked


def test_a_damaged_file_is_fetched_again_and_others_are_not(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist(host, monkeypatch)
    fetch.get(["mnist"], pause=0)
    path = root / mnist.FILES["test"][0].path
    path.write_bytes(b"damaged")
    host.asked.clear()
    fetch.get(["mnist"], pause=0)
    assert {name.partition("/")[2] for name in host.asked} == {path.name}
    assert len(load("mnist", "test")) == 20


def test_files_that_went_away_are_named_and_the_others_kept(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist(host, monkeypatch)
    lost = [Path(mnist.FILES[split][1].path).name for split in ("train", "test")]
    for name in lost:
        del host.files[name]
    with pytest.raises(
        DataError, match=rf"2 of 4 files cannot be had: {lost[0]}.*{lost[1]}"
    ):
        fetch.get(["mnist"], tries=1, pause=0)
    assert len(list((root / "MNIST" / "raw").iterdir())) == 2


def test_without_a_network_one_line_says_so(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist(host, monkeypatch)
    host.stop()
    with pytest.raises(DataError, match=r"^MNIST: no network\? .*cannot be reached"):
        fetch.get(["mnist"], tries=1, pause=0)


def test_another_call_at_work_is_not_disturbed(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    small_mnist(host, monkeypatch)
    root.mkdir()
    with (
        FileLock(root / holdings.LOCK),
        pytest.raises(DataError, match="another `robustbook data get`"),
    ):
        fetch.get(["mnist"])


def test_a_disk_that_cannot_hold_it_is_told_before(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist(host, monkeypatch)
    usage = holdings.shutil.disk_usage(root.parent)._replace(free=10)
    monkeypatch.setattr(holdings.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="0 MB left"):
        fetch.get(["mnist"])
    assert not host.asked


def test_a_root_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot hold the data"):
        fetch.get(["mnist"])


def test_unknown_names_get_a_suggestion() -> None:
    for ask in (fetch.verify, lambda name: fetch.plan([name])):
        with pytest.raises(DataError, match="did you mean 'resnet20'"):
            ask("resnet21")


def test_the_command_shows_what_it_will_fetch_and_fetches(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist(host, monkeypatch)
    run = CliRunner().invoke
    shown = run(cli.app, ["data", "get", "mnist", "digits", "--show"])
    assert "CC BY-SA 3.0" in shown.output
    assert "to fetch: 0.0 MB" in shown.output
    assert not host.asked
    done = run(cli.app, ["data", "get", "mnist", "digits"])
    assert done.exit_code == 0, done.output
    assert f"mnist is in {root}" in done.output.replace("\n", "")
    assert "digits is part of the installation" in done.output
    assert "mnist is sound: 4 files" in run(cli.app, ["data", "verify", "mnist"]).output
    for wrong in ([], ["mnist", "--all"]):
        assert run(cli.app, ["data", "get", *wrong]).exit_code


# What is pinned
# --------------------------------------------------------------------------------------


def test_everything_that_is_read_from_files_can_be_fetched() -> None:
    needed = {entry.name for entry in fetch.inventory() if entry.state != "embedded"}
    assert needed <= holdings.HOLDINGS.keys()
    for name in needed:
        held = holdings.HOLDINGS[name]
        assert held.remotes or held.needs
        if held.make is None:
            fetched = {item.path: item.digest for item in held.remotes}
            _, _, files = holdings._about(name)
            assert fetched == {file.path: f"sha256:{file.digest}" for file in files}


def test_originals_of_several_sets_are_counted_once() -> None:
    both = [item.path for item in fetch.originals(["gtsrb", "gtsrb-43"])]
    assert both == [item.path for item in fetch.originals(["gtsrb"])]
    made = [item.path for item in fetch.originals(["cifar10-jpeg"])]
    assert made == [holdings._JPEG.path, holdings._CIFAR10.path]
    assert fetch.originals(["digits"]) == []


def test_only_what_is_pinned_after_its_conversion_has_no_digest() -> None:
    for held in holdings.HOLDINGS.values():
        for item in held.remotes:
            assert item.urls
            assert all(re.match(r"https?://[a-z]", url) for url in item.urls)
            assert item.size > 0
            if item.digest is None:
                assert held.make in (holdings._patches, holdings._jpeg_copies)
            else:
                assert re.fullmatch(r"sha256:\w{64}|md5:\w{32}", item.digest)


def test_addresses_in_repositories_name_a_commit() -> None:
    for held in holdings.HOLDINGS.values():
        for url in (url for item in held.remotes for url in item.urls):
            if "github" in url:
                assert re.search(r"/[0-9a-f]{40}[/.]", url)


def test_our_files_are_those_of_the_digests_in_the_list() -> None:
    ours = {
        file.digest
        for name in store.names()
        for source in store.sources_of(name)
        for file in source.all_files
    }
    assert store.CONVERTED.keys() & ours >= {gtsrb.FILE.digest}
    for file in (
        holdings._TWO_CLASSES,
        holdings._ALL_CLASSES,
        holdings._PATCHES,
        *(file for _, file in holdings._LOSSLESS.values()),
        *(files[0] for files in cifar10.JPEG_FILES.values()),
    ):
        assert store.converted(file).digest == store.CONVERTED[file.digest]


@pytest.mark.data("gtsrb", "mini-mias", "cifar10-jpeg")
def test_converted_files_have_the_arrays_of_ours(data_root: Path) -> None:
    """The pinned digest of what is made of originals, from the arrays that we have."""
    for file in (holdings._TWO_CLASSES, holdings._PATCHES, holdings._ALL_CLASSES):
        if (data_root / file.path).is_file():
            with np.load(data_root / file.path) as arrays:
                content = convert.packed({name: arrays[name] for name in arrays.files})
            assert hashlib.sha256(content).hexdigest() == store.converted(file).digest


def test_a_converted_file_stands_for_the_copy(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read where the copy is missing, and the set has one digest either way."""
    rng = np.random.default_rng(0)
    arrays = {
        **{
            f"x_{part}": rng.integers(0, 256, (10, 32, 32, 3), np.uint8)
            for part in PARTS
        },
        **{f"y_{part}": np.repeat([2, 25], 5).astype(np.uint8) for part in PARTS},
        "track_train": np.arange(10, dtype=np.int16),
    }
    content = convert.packed(arrays)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(store.CONVERTED, gtsrb.FILE.digest, digest)
    with pytest.raises(DataError, match="`robustbook data get gtsrb`"):
        load("gtsrb", "test")
    place = root / store.converted(gtsrb.FILE).path
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    found = load("gtsrb", "test")
    assert found.labels.tolist() == [0] * 5 + [1] * 5
    assert found.digest == store.digest_of((gtsrb.FILE,))
    place.write_bytes(content[:-1] + b"x")
    with pytest.raises(DataError, match="damaged: converted/gtsrb"):
        load("gtsrb", "test")


# Conversions
# --------------------------------------------------------------------------------------


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def ppm(image: np.ndarray) -> bytes:
    height, width = image.shape[:2]
    kind = b"P6" if image.ndim == 3 else b"P5"
    return b"%s\n%d %d\n255\n%s" % (kind, width, height, image.tobytes())


def test_packed_arrays_are_the_same_bytes_everywhere() -> None:
    arrays = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.array(["é", ""])}
    content = convert.packed(arrays)
    assert hashlib.sha256(content).hexdigest() == PACKED
    with np.load(io.BytesIO(content)) as found:
        assert {name: found[name].tolist() for name in found.files} == {
            name: values.tolist() for name, values in arrays.items()
        }


def bilinear(image: np.ndarray, side: int) -> np.ndarray:
    """Bilinear resizing pixel by pixel, in exact numbers."""
    height, width = image.shape[:2]
    out = np.zeros((side, side, 3))
    for row in range(side):
        for column in range(side):
            y = np.clip((row + 0.5) * height / side - 0.5, 0, height - 1)
            x = np.clip((column + 0.5) * width / side - 0.5, 0, width - 1)
            top, left = int(y), int(x)
            low, right = min(top + 1, height - 1), min(left + 1, width - 1)
            v, u = y - top, x - left
            out[row, column] = (1 - v) * (
                (1 - u) * image[top, left] + u * image[top, right]
            ) + v * ((1 - u) * image[low, left] + u * image[low, right])
    return out


@pytest.mark.parametrize("shape", [(15, 17), (30, 35), (48, 20), (64, 64), (90, 33)])
def test_signs_are_resized_bilinearly(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = convert.resized(image)
    assert found.dtype == np.uint8
    assert np.abs(found - bilinear(image, 32)).max() <= 1.01


@pytest.mark.parametrize(
    ("shape", "digest"),
    [
        ((19, 22), "feb9790c1d976598cd8f065aa879db91b33482d6f2111d165d8330a0714a37be"),
        ((30, 35), "20476aebd23e13355314f9963d10d955194c7fa2268b0d653337ca1d6ad4b080"),
        ((64, 64), "87da4e164e538dccbed84414a1079f6b0ee97fdb0b0db7b5935d440a49b2ec03"),
    ],
)
def test_resizing_has_the_last_bits_of_opencv(
    shape: tuple[int, int], digest: str
) -> None:
    """Digests of what OpenCV 4.5.5 and 5.0.0 gave for these images; it was compared
    with `resized` on 4,000 random images of 15 to 259 pixels a side.
    """
    rows, columns, colours = np.mgrid[: shape[0], : shape[1], :3]
    image = ((rows * 37 + columns * 91 + colours * 53 + rows * columns) % 256).astype(
        np.uint8
    )
    assert hashlib.sha256(convert.resized(image).tobytes()).hexdigest() == digest


def drawn_signs(
    folder: Path,
) -> tuple[list[Path], dict[tuple[int, int, int], np.ndarray]]:
    """Official archives with two classes of two tracks of three frames, and five test
    images, drawn at 32 x 32, which resizing leaves alone.
    """
    rng = np.random.default_rng(0)
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    images, files = {}, {}
    for number in (2, 25, 7):
        lines = []
        for track in (1, 0):
            for frame in (2, 0, 1):
                name = f"{track:05d}_{frame:05d}.ppm"
                images[number, track, frame] = rng.integers(
                    0, 256, (32, 32, 3), np.uint8
                )
                inside = f"GTSRB/Final_Training/Images/{number:05d}"
                files[f"{inside}/{name}"] = ppm(images[number, track, frame])
                lines.append(f"{name};32;32;{track};{frame};30;31;{number}\n")
        files[f"{inside}/GT-{number:05d}.csv"] = (head + "".join(lines)).encode()
    shown = {k: rng.integers(0, 256, (32, 32, 3), np.uint8) for k in range(5)}
    truth = head + "".join(
        f"{k:05d}.ppm;32;32;1;2;3;4;{number}\n"
        for k, number in enumerate((25, 7, 2, 25, 2))
    )
    for k, image in shown.items():
        images[-1, 0, k] = image
    archives = [
        zipped(folder / "training.zip", files),
        zipped(
            folder / "test.zip",
            {f"GTSRB/Final_Test/Images/{k:05d}.ppm": ppm(i) for k, i in shown.items()},
        ),
        zipped(folder / "truth.zip", {"GT-final_test.csv": truth.encode()}),
    ]
    return archives, images


def test_signs_come_by_class_track_and_frame(tmp_path: Path) -> None:
    archives, images = drawn_signs(tmp_path)
    found = convert.traffic_signs(*archives, classes=(2, 25))
    order = [(c, t, f) for c in (2, 25) for t in (0, 1) for f in (0, 1, 2)]
    assert found["y_train"].tolist() == [number for number, *_ in order]
    assert found["track_train"].tolist() == [track for _, track, _ in order]
    assert found["frame_train"].tolist() == [frame for *_, frame in order]
    assert np.array_equal(found["x_train"], np.stack([images[key] for key in order]))
    assert found["index_test"].tolist() == [2, 4, 0, 3]
    assert found["y_test"].tolist() == [2, 2, 25, 25]
    assert np.array_equal(
        found["x_test"], np.stack([images[-1, 0, k] for k in (2, 4, 0, 3)])
    )
    assert found["roi_train"].tolist()[1] == [0, 1, 30, 31]
    assert found["size_test"].tolist() == [[32, 32]] * 4
    assert {name: str(values.dtype) for name, values in found.items()} == {
        **{"x_train": "uint8", "y_train": "uint8", "track_train": "int16"},
        **{"frame_train": "int16", "size_train": "int16", "roi_train": "int16"},
        **{"x_test": "uint8", "y_test": "uint8", "index_test": "int32"},
        **{"size_test": "int16", "roi_test": "int16"},
    }


def test_signs_of_some_frames_and_every_second_test_image(tmp_path: Path) -> None:
    archives, _ = drawn_signs(tmp_path)
    found = convert.traffic_signs(
        *archives, classes=range(43), frames=(1,), every=2, boxes=False
    )
    assert found["y_train"].tolist() == [2, 2, 7, 7, 25, 25]
    assert found["frame_train"].tolist() == [1] * 6
    assert found["index_test"].tolist() == [0, 2, 4]
    assert found["y_test"].tolist() == [25, 2, 2]
    assert "roi_train" not in found


def test_archives_of_signs_that_lack_something_are_refused(tmp_path: Path) -> None:
    (training, test, truth), _ = drawn_signs(tmp_path)
    empty = zipped(tmp_path / "empty.zip", {"a": b""})
    for wrong, said in (
        ((empty, test, truth), "no images of these classes"),
        ((training, empty, truth), "has no image"),
        ((training, test, empty), r"has no GT-final_test\.csv"),
    ):
        with pytest.raises(DataError, match=said):
            convert.traffic_signs(*wrong, classes=(2, 25))


TABLE = b"""              MINI
mdb001 G CIRC B 20 12 9
mdb002 G NORM
mdb003 F CALC M *NOTE 3*
mdb003 D ARCH M 1 30 4
mdb004 D NORM
"""
PLACES = ((0, 0), (24, 3), (5, 7), (8, 1))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_patches_lie_around_lesions_and_at_the_places(tmp_path: Path, pack) -> None:
    """A lesion at x 20 and 12 from the bottom of 32 lies at row 20; one at the corner
    is moved inside.
    """
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32), np.uint8) for _ in range(4)]
    files = {f"x/mdb00{k + 1}.pgm": ppm(image) for k, image in enumerate(images)}
    archive = pack(tmp_path / "archive", {"x/Info.txt": TABLE, **files})
    found = convert.mammogram_patches(archive, PLACES, side=8, extent=32)
    assert found["corner"].tolist() == [[16, 16], [0, 0], *map(list, PLACES)]
    assert found["image"].tolist() == [0, 2, 1, 1, 3, 3]
    assert found["cls"].tolist() == ["CIRC", "ARCH", *["NORM"] * 4]
    assert found["severity"].tolist() == ["B", "M", "", "", "", ""]
    for patch, image, (x, y) in zip(
        found["patches"], found["image"], found["corner"], strict=True
    ):
        assert np.array_equal(patch, images[image][y : y + 8, x : x + 8])


def test_mammograms_that_lack_something_are_refused(tmp_path: Path) -> None:
    for files, said in (
        ({"Info.txt": TABLE}, "0 images"),
        ({"Info.txt": TABLE, "mdb001.pgm": ppm(np.zeros((32, 32), np.uint8))}, "lacks"),
        ({"mdb001.pgm": b"P5 no"}, "cannot be read"),
    ):
        archive = zipped(tmp_path / "archive.zip", files)
        with pytest.raises(DataError, match=said):
            convert.mammogram_patches(archive, PLACES, side=8, extent=32)
    (tmp_path / "archive").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be unpacked"):
        convert.mammogram_patches(tmp_path / "archive", PLACES)


def batch(path: Path, labels: list[int]) -> np.ndarray:
    """An official batch with these labels; its pixels (N, 3072)."""
    pixels = np.random.default_rng(len(labels)).integers(
        0, 256, (len(labels), 3072), np.uint8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": pixels, "labels": labels}, 2))
    return pixels


def test_first_images_of_a_batch(tmp_path: Path) -> None:
    pixels = batch(tmp_path / "batch", [3, 1, 2])
    found = convert.first_images(tmp_path / "batch", 2)
    assert found["labels"].tolist() == [3, 1]
    assert found["labels"].dtype == np.uint8
    assert np.array_equal(
        found["images"].transpose(0, 3, 1, 2).reshape(2, -1), pixels[:2]
    )


def test_jpeg_copies_stand_in_official_order(tmp_path: Path) -> None:
    labels = [1, 0, 1]
    batch(tmp_path / "batch", labels)
    names = cifar10.CLASS_NAMES
    copies = {
        "R-1/train/airplane/0000.jpg": b"plane",
        "R-1/train/automobile/0000.jpg": b"car",
        "R-1/train/automobile/0001.jpg": b"second car",
        **{f"R-1/test/{name}/0000.jpg": name.encode() for name in names},
    }
    archive = zipped(tmp_path / "copies.zip", copies)
    train, test = convert.jpeg_copies(archive, [tmp_path / "batch"])
    assert train["jpeg"].tobytes() == b"carplanesecond car"
    assert train["offset"].tolist() == [0, 3, 8, 18]
    assert train["labels"].tolist() == labels
    assert test["jpeg"].tobytes() == "".join(names).encode()
    assert test["rank_in_class"].tolist() == [0] * 10
    batch(tmp_path / "batch", [9])
    with pytest.raises(DataError, match=r"no 'train/truck/0000\.jpg'"):
        convert.jpeg_copies(archive, [tmp_path / "batch"])


def test_official_batches_come_out_of_their_archive(
    host: Host, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the host's archive to images that are loaded; the archive is gone then."""
    files, pins = {}, {}
    for split, official in cifar10.OFFICIAL_FILES.items():
        pins[split] = []
        for file in official:
            batch(tmp_path / "batch", [1, 2])
            files[file.path] = (tmp_path / "batch").read_bytes()
            digest = hashlib.md5(files[file.path]).hexdigest()
            pins[split].append(DataFile(file.path, digest, "md5"))
    content = tarred(tmp_path / "c.tar.gz", files).read_bytes()
    host.files["c.tar.gz"] = content
    pinned = {split: tuple(found) for split, found in pins.items()}
    official = replace(cifar10.OFFICIAL, files=pinned)
    monkeypatch.setattr(cifar10, "OFFICIAL", official)
    monkeypatch.setitem(cifar10.SOURCES, "cifar10", (official, cifar10.JPEG))
    item = replace(
        holdings._CIFAR10,
        urls=(host.url("right/c.tar.gz"),),
        digest=f"md5:{hashlib.md5(content).hexdigest()}",
    )
    held = replace(holdings.HOLDINGS["cifar10"], remotes=(item,))
    monkeypatch.setitem(holdings.HOLDINGS, "cifar10", held)
    fetch.get(["cifar10"], pause=0)
    assert len(load("cifar10", "train")) == 10
    assert load("cifar10", "test").title == "CIFAR-10"
    assert not (root / holdings.ORIGINALS).exists()


def test_originals_that_give_other_arrays_are_not_used(
    host: Host, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive of mammograms has no digest of its own: its patches have."""
    found = [(0, 0)] * 2
    monkeypatch.setattr(holdings, "NORMAL", found)
    files = {
        "Info.txt": b"mdb001 G NORM\n",
        "mdb001.pgm": ppm(np.zeros((200, 200), "u1")),
    }
    host.files["m"] = tarred(tmp_path / "m.tar.gz", files).read_bytes()
    item = replace(holdings._MAMMOGRAMS, urls=(host.url("right/m"),))
    held = replace(holdings.HOLDINGS["mini-mias"], remotes=(item,))
    monkeypatch.setitem(holdings.HOLDINGS, "mini-mias", held)
    with pytest.raises(
        DataError, match=r"is not what is pinned .* nothing of it is used"
    ):
        fetch.get(["mini-mias"], pause=0)
    assert not (root / "converted").exists()
    with pytest.raises(DataError, match="not in the data root"):
        load("mini-mias", "all")


# SqueezeNet's own format
# --------------------------------------------------------------------------------------


def compressed(
    layers: list[tuple[list[int], list[int], np.ndarray, np.ndarray]],
) -> bytes:
    """A network's file from codes, gaps, values and bias of each layer."""
    content = np.array([len(codes) for codes, *_ in layers], "<u4").tobytes()
    for codes, gaps, values, bias in layers:
        padded = [*gaps, *[0] * (len(gaps) % 2)]
        pairs = [
            low + 16 * high for low, high in zip(padded[::2], padded[1::2], strict=True)
        ]
        content += values.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
        content += bytes(codes) + bytes(pairs)
    return content


def test_a_compressed_network_is_decoded_by_hand() -> None:
    values = np.arange(256) / 4
    values[0] = 0
    content = compressed(
        [
            ([4, 8, 12], [0, 2, 1], values, np.array([1.5, -1])),
            ([1], [3], values, np.array([7.0])),
        ]
    )
    shapes = {"a.weight": (2, 4), "a.bias": (2,), "b.weight": (1, 4), "b.bias": (1,)}
    found = pretrained.decode(content, shapes)
    assert found["a.weight"].tolist() == [[1, 0, 0, 2], [0, 3, 0, 0]]
    assert found["a.bias"].tolist() == [1.5, -1]
    assert found["b.weight"].tolist() == [[0, 0, 0, 0.25]]
    assert found["b.bias"].tolist() == [7]
    for wrong in (content[:-1], content + b"x", content[:40]):
        with pytest.raises(DataError, match="network's file"):
            pretrained.decode(wrong, shapes)


def test_photographs_have_their_classes() -> None:
    """Names begin with WordNet's number, in whose order ImageNet's classes stand."""
    assert list(imagenet_samples.LABELS) == sorted(set(imagenet_samples.LABELS))
    names = [Path(file.path).name for file in imagenet_samples.PHOTOGRAPHS]
    assert names == sorted(names)
    assert (names[0], imagenet_samples.LABELS[0]) == ("n01440764_tench.JPEG", 0)
    place = names.index("n03000684_chain_saw.JPEG")
    assert imagenet_samples.LABELS[place] == 491
