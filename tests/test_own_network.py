"""A network of one's own: built by the function that was named and nothing else,
filled with weights that fit, and every fault is one line that names it.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustbook import files
from robustbook.errors import UnknownNameError, UserError
from robustbook.models import own
from robustbook.models.own import NetworkError, Origin, load_own_network, parse

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SOURCE = """
import torch
from torch import nn
from beside import CLASSES

with open("imported", "a") as note:
    note.write("x")

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))

def other():
    raise RuntimeError("not this one")

def needing(classes):
    return build()

def words():
    return "no network"

number = 3
"""


def plain(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of networks and its neighbour, as if typed from there."""
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("CLASSES = 5\n")
    monkeypatch.setenv(files.FROM, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("beside", None)


# What a name says ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("torchvision:resnet18", Origin("torchvision", "", "resnet18")),
        ("timm:vit_tiny", Origin("timm", "", "vit_tiny")),
        ("book:cnn", Origin("book", "", "cnn")),
        ("a/b.py:build", Origin("file", "a/b.py", "build")),
        ("C:\\nets\\b.py:build", Origin("file", "C:\\nets\\b.py", "build")),
        ("my.models:build", Origin("module", "my.models", "build")),
    ],
)
def test_a_name_says_where_the_network_is(text: str, origin: Origin) -> None:
    assert parse(text) == origin


@pytest.mark.parametrize(
    "text",
    ["resnet18", "mine.py", "mine.py:", ":build", "torchvision:", "a b:c", "mine.py:1"],
)
def test_a_name_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(NetworkError, match="model must be torchvision:NAME"):
        parse(text)


def test_to_say_where_a_network_is_imports_nothing(here: Path) -> None:
    assert parse("mine.py:build").path == here / "mine.py"
    assert not (here / "imported").exists()


# Building -----------------------------------------------------------------------------


def test_the_named_function_alone_is_called(here: Path) -> None:
    found = load_own_network("mine.py:build", IMAGES)
    assert (here / "imported").read_text() == "x"
    assert found.classes == 5
    assert torch.equal(found.network(IMAGES), plain()(IMAGES))
    assert str(here) not in sys.path


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mine.py:bild", "did you mean 'build'"),
        ("mine.py:other", "RuntimeError: not this one"),
        ("mine.py:needing", "TypeError"),
        ("mine.py:words", "must return an nn.Module, got str"),
        ("mine.py:number", "number of mine.py is no function"),
        ("none.py:build", "there is no file 'none.py'"),
        ("no.such:build", "ModuleNotFoundError"),
        ("torchvision:resnet19", "did you mean 'resnet1"),
        ("book:cnn", "built by the study"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_line(here: Path, name, line) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_own_network(name, IMAGES)
    assert "\n" not in str(caught.value)


def test_a_file_that_stops_python_stops_nothing(here: Path) -> None:
    (here / "mine.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(NetworkError, match=r"mine\.py failed with SystemExit: 3"):
        load_own_network("mine.py:build", IMAGES)


def test_timm_is_asked_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NetworkError, match="pip install timm"):
        load_own_network("timm:tiny", IMAGES)
    fake = SimpleNamespace(
        list_models=lambda: ["tiny"], create_model=lambda name, **_: plain()
    )
    monkeypatch.setattr(own.importlib.util, "find_spec", lambda name: fake)
    monkeypatch.setitem(sys.modules, "timm", fake)
    found = load_own_network("timm:tiny", IMAGES)
    mean, std = (torch.tensor(each)[:, None, None] for each in own.IMAGENET)
    expected = plain()((IMAGES - mean) / std)
    assert torch.allclose(found.network(IMAGES), expected, atol=1e-5)
    assert "its weights are random" in found.remarks[0]
    with pytest.raises(UnknownNameError, match="did you mean 'tiny'"):
        load_own_network("timm:tinny", IMAGES)


# Weights ------------------------------------------------------------------------------


def stored(path: Path, weights: object) -> str:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return str(path)


def other_weights(prefix: str = "", **changes: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).state_dict()
    return {f"{prefix}{key}": each for key, each in (state | changes).items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "backbone."]
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_weights_are_loaded_without_the_prefixes_of_wrappers(
    tmp_path: Path, prefix: str, name: str
) -> None:
    path = stored(tmp_path / name, other_weights(prefix))
    found = load_own_network(plain(), IMAGES, weights=path)
    state = found.network.state_dict()
    assert torch.equal(state["0.1.weight"], other_weights()["1.weight"])


def test_weights_beside_other_things_are_found(tmp_path: Path) -> None:
    content = {"state_dict": other_weights("module."), "best_prec1": 91.7}
    path = stored(tmp_path / "model.th", content)
    found = load_own_network(plain(), IMAGES, weights=path)
    assert torch.equal(found.network[-1][1].weight, other_weights()["1.weight"])


def test_keys_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    weights = other_weights(**{"1.weight": torch.zeros(5, 9), "9.bias": torch.zeros(1)})
    del weights["1.bias"]
    path = stored(tmp_path / "w.safetensors", weights)
    with pytest.raises(NetworkError) as caught:
        load_own_network(plain(), IMAGES, weights=path)
    said = str(caught.value)
    assert "missing: 1.bias" in said
    assert "not in the model: 9.bias" in said
    assert "of another shape: 1.weight (5, 9) for (5, 192)" in said


class Planted:
    """What unpickling would execute."""

    def __reduce__(self):
        return (Path("/tmp/robustbook-was-here").touch, ())


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("w.pt", lambda path: torch.save(plain(), path), "more than weights"),
        ("w.pt", lambda path: path.write_bytes(pickle.dumps(Planted())), "w.pt"),
        ("w.pt", lambda path: torch.save({"epoch": 3}, path), "no weights by name"),
        ("w.pth", lambda path: path.write_bytes(b"torn"), "cannot be read"),
        ("w.safetensors", lambda path: path.write_bytes(b"torn"), "cannot be read"),
        ("w.onnx", lambda path: path.write_bytes(b"x"), "must be .safetensors"),
        ("none.pt", lambda path: None, "there is no file"),
        (
            "w.pt",
            lambda path: torch.save(
                other_weights(**{"1.bias": torch.full((5,), torch.nan)}), path
            ),
            "1.bias of 'w.pt' holds NaN",
        ),
    ],
)
def test_a_file_of_weights_is_read_and_never_executed(tmp_path, name, content, line):
    path = tmp_path / name
    content(path)
    with pytest.raises(NetworkError, match=line) as caught:
        load_own_network(plain(), IMAGES, weights=str(path))
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/robustbook-was-here").exists()


def test_the_digest_is_that_of_the_weights() -> None:
    one, same, other = plain(), plain(), plain()
    with torch.no_grad():
        other[1].bias[0] += 1e-6
    assert own.weights_digest(one) == own.weights_digest(same)
    assert own.weights_digest(one) != own.weights_digest(other)


# Normalisation, outputs, wrappers -----------------------------------------------------


def test_images_are_normalised_channel_by_channel() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    found = load_own_network(plain(), IMAGES, mean=mean, std=std).network(IMAGES)
    columns = (torch.tensor(each)[:, None, None] for each in (mean, std))
    first, second = columns
    assert torch.allclose(found, plain()((IMAGES - first) / second), atol=1e-5)
    one = load_own_network(plain(), IMAGES, mean=(0.5,), std=(0.5,)).network(IMAGES)
    assert torch.allclose(one, plain()((IMAGES - 0.5) / 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"mean": (0.5, 0.5)}, "mean must be 1 or 3 numbers, got 2"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be above 0"),
        ({"device": "warp"}, "there is no 'warp' here"),
        ({"output": "logits"}, "it gives one tensor"),
    ],
)
def test_what_does_not_fit_the_network_is_said(options, line) -> None:
    with pytest.raises(NetworkError, match=line):
        load_own_network(plain(), IMAGES, **options)


class Giving(nn.Module):
    """A network that gives its logits inside of something."""

    def __init__(self, give) -> None:
        super().__init__()
        self.inner, self.give = plain(), give

    def forward(self, images):
        return self.give(self.inner(images))


@pytest.mark.parametrize(
    ("give", "output"),
    [
        (lambda z: (z, z + 1), "auto"),
        (lambda z: (z + 1, z), "1"),
        (lambda z: [z], "auto"),
        (lambda z: {"logits": z, "features": z + 1}, "auto"),
        (lambda z: {"out": z}, "auto"),
        (lambda z: {"scores": z, "aux": z + 1}, "scores"),
        (lambda z: SimpleNamespace(logits=z), "auto"),
        (lambda z: SimpleNamespace(head=z), "head"),
        (lambda z: {"deep": z}, "deep"),
    ],
)
def test_logits_are_found_where_the_network_gives_them(give, output) -> None:
    found = load_own_network(Giving(give), IMAGES, output=output).network(IMAGES)
    assert torch.equal(found, plain()(IMAGES))


@pytest.mark.parametrize(
    ("give", "output", "line"),
    [
        (lambda z: {"a": z, "b": z}, "auto", "gives a dict with a, b"),
        (lambda z: {"a": z}, "b", "dict that it gives has no 'b'"),
        (lambda z: (z,), "3", "tuple that it gives has no '3'"),
        (lambda z: None, "auto", "gives a NoneType"),
        (lambda z: z.mean(1), "auto", r"logits must be \(2, K\)"),
        (lambda z: z[..., None], "auto", r"logits must be \(2, K\)"),
        (lambda z: z / 0, "auto", "NaN or infinity"),
        (lambda z: z.softmax(1), "auto", "it gives probabilities"),
        (lambda z: z - z.mean(0), "auto", "depends on the images beside it"),
        (lambda z: z + torch.rand(()), "auto", "answers otherwise each time"),
    ],
)
def test_outputs_that_are_no_logits_are_said(give, output, line) -> None:
    with pytest.raises(NetworkError, match=line):
        load_own_network(Giving(give), IMAGES, output=output)


def test_probabilities_become_logits_and_one_number_two() -> None:
    soft = Giving(lambda z: z.softmax(1))
    found = load_own_network(soft, IMAGES, output="probabilities").network(IMAGES)
    assert torch.allclose(found.softmax(1), plain()(IMAGES).softmax(1), atol=1e-6)
    single = load_own_network(Giving(lambda z: z[:, :1]), IMAGES)
    assert single.classes == 2
    logits = single.network(IMAGES)
    assert torch.allclose(
        logits.softmax(1)[:, 1], plain()(IMAGES)[:, 0].sigmoid(), atol=1e-6
    )


def test_images_that_the_network_cannot_take_are_said() -> None:
    with pytest.raises(NetworkError, match=r"cannot take images of \(2, 1, 8, 8\)"):
        load_own_network(plain(), IMAGES[:, :1])


def test_compiled_spread_and_half_networks_are_measured_as_they_are_inside() -> None:
    compiled = load_own_network(torch.compile(plain()), IMAGES)
    assert torch.equal(compiled.network(IMAGES), plain()(IMAGES))
    assert "compiled" in compiled.remarks[0]
    inner = nn.Sequential(torch.compile(plain()), nn.Identity())
    assert "Its 0 was compiled" in load_own_network(inner, IMAGES).remarks[0]
    spread = load_own_network(nn.DataParallel(plain()), IMAGES)
    assert "wrapped" in spread.remarks[0]
    half = load_own_network(plain().half(), IMAGES)
    assert "float16: they are measured in float32" in half.remarks[0]
    assert torch.allclose(half.network(IMAGES), plain()(IMAGES), atol=1e-2)


def test_the_network_is_one_chain_where_it_is_one() -> None:
    """So that bounds can walk through it, normalisation included."""
    from robustbook.measure.bounds import certified

    found = load_own_network(plain(), IMAGES, mean=(0.5,), std=(0.5,)).network
    assert certified(found, IMAGES, found(IMAGES).argmax(1), epsilon=1e-6).all()


def test_a_library_network_gets_its_number_of_classes() -> None:
    images = torch.rand(2, 3, 32, 32)
    found = load_own_network("torchvision:squeezenet1_1", images, classes=7)
    assert found.classes == 7
    assert found.network[0].running_mean.tolist() == pytest.approx(own.IMAGENET[0])
