"""The feature networks: shapes, exact counts, what is evaluated, weights of other programs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import TrainingError, WeightsError
from visagist.stylize.brought import NETWORKS, FeatureNetwork, adopted, known_as
from visagist.stylize.features import VGG16, VGG19, CaffeNet, Entrance, Features, GoogLeNet, SqueezeNet, gram


def net_of(name: str, convention: str = "caffe") -> Features:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name](convention=convention)


@pytest.mark.parametrize(
    ("name", "convention", "all_of_it", "used"),
    [
        ("vgg19", "caffe", 20_024_384, 12_944_960),
        ("vgg16", "torchvision", 14_714_688, 9_995_072),
        ("googlenet", "caffe", 5_973_552, 4_529_472),
        ("googlenet", "torchvision", 5_592_624, 4_246_848),
        ("caffenet", "caffe", 2_334_080, 2_334_080),
        ("squeezenet1_1", "torchvision", 722_496, 120_416),
    ],
)
def test_parameters(name: str, convention: str, all_of_it: int, used: int) -> None:
    with torch.device("meta"):
        net = NETWORKS[name](convention=convention)
    assert net.count(net.layers) == sum(p.numel() for p in net.parameters()) == all_of_it
    assert net.count([*net.style, *net.content]) == used
    assert sum(net.content.values()) == pytest.approx(1)
    assert sum(net.style.values()) == pytest.approx(1)


def test_the_layers_of_the_sheet() -> None:
    assert VGG19.content == VGG16.content == {"conv4_2": 1.0}
    assert tuple(VGG19.style) == ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    assert CaffeNet.content == {"conv4": 1.0}
    assert tuple(CaffeNet.style) == ("conv1", "conv2", "conv3", "conv4", "conv5")
    assert GoogLeNet.content == {"conv2/3x3": 2e-4, "inception_3a/output": 1 - 2e-4}
    assert tuple(GoogLeNet.style) == (
        "conv1/7x7_s2", "conv2/3x3", "inception_3a/output", "inception_4a/output", "inception_5a/output",
    )  # fmt: skip


def test_shapes_of_vgg19() -> None:
    with torch.device("meta"):
        found = VGG19()(torch.zeros(1, 3, 512, 512), VGG19.style)
    assert [tuple(v.shape[1:]) for v in found.values()] == [
        (64, 512, 512), (128, 256, 256), (256, 128, 128), (512, 64, 64), (512, 32, 32),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_picture_it_takes(name: str) -> None:
    net = net_of(name)
    side = net.least
    (deepest,) = net(torch.zeros(1, 3, side, side), net.layers[-1:]).values()
    assert min(deepest.shape[2:]) >= 1


def test_nothing_deeper_than_asked_for_is_evaluated() -> None:
    net = net_of("vgg19")
    met: list[str] = []
    for name, block in net.blocks.items():
        block.register_forward_hook(lambda *_, name=name: met.append(name))
    found = net(torch.zeros(1, 3, 32, 32), ["conv3_1", "conv1_2"])
    assert set(found) == {"conv1_2", "conv3_1"}
    assert met == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    assert net(torch.zeros(1, 3, 32, 32), []) == {}
    with pytest.raises(ValueError, match="conv9"):
        net(torch.zeros(1, 3, 32, 32), ["conv9"])


def test_features_are_those_behind_the_relu_and_gradients_reach_the_picture() -> None:
    for name in NETWORKS:
        net = net_of(name)
        x = (torch.rand(1, 3, 96, 80) * 2 - 1).requires_grad_()
        found = net(x, net.layers)
        assert tuple(found) == net.layers
        assert all(bool((v >= 0).all()) for v in found.values())
        sum(v.sum() for v in found.values()).backward()
        assert x.grad is not None
        assert float(x.grad.abs().sum()) > 0
        assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in net.parameters())


def test_the_entrance_is_what_the_trainers_fed() -> None:
    x = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)  # red 255, green 127.5, blue 0
    caffe = Entrance("caffe")(x).flatten().tolist()
    assert caffe == pytest.approx([0 - 104.00698793, 127.5 - 116.66876762, 255 - 122.67891434], abs=1e-3)
    torchvision = Entrance("torchvision")(x).flatten().tolist()
    assert torchvision == pytest.approx([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0 - 0.406) / 0.225], abs=1e-5)


def test_gram_is_the_mean_of_products() -> None:
    x = torch.randn(2, 3, 4, 5)
    wanted = torch.einsum("bihw,bjhw->bij", x, x) / 20
    torch.testing.assert_close(gram(x), wanted)
    torch.testing.assert_close(gram(torch.cat([x, x], 3)), wanted)  # more of the same changes nothing


def test_pools_may_average_and_the_window_over_the_edge_is_caffes() -> None:
    x = torch.rand(1, 3, 17, 17)
    sizes = {c: VGG16(convention=c)(x, ["conv2_1"])["conv2_1"].shape[2] for c in ("caffe", "torchvision")}
    assert sizes == {"caffe": 9, "torchvision": 8}
    net = net_of("vgg16")
    average = VGG16(convention="caffe", pools="average")
    average.load_state_dict(net.state_dict())
    before = net(x, ["conv1_2"])["conv1_2"]
    conv = net.blocks["conv2_1"]
    assert isinstance(conv, nn.Sequential)
    wanted = conv[2](conv[1](F.avg_pool2d(before, 2, 2, ceil_mode=True)))
    torch.testing.assert_close(average(x, ["conv2_1"])["conv2_1"], wanted)


# ---- weights of other programs


def foreign(name: str, convention: str) -> dict[str, Tensor]:
    """A file as the other program has it, filled with random numbers."""
    net = net_of(name, convention)
    column = 0 if convention == "caffe" else 1
    convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    made: dict[str, Tensor] = {}
    for names, conv in zip(known_as(net), convolutions, strict=True):
        made[f"{names[column]}.weight"] = torch.randn_like(conv.weight)
        assert conv.bias is not None
        made[f"{names[column]}.bias"] = torch.randn_like(conv.bias)
    return made


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("convention", ["caffe", "torchvision"])
def test_names_of_caffe_and_torchvision_are_known(name: str, convention: str) -> None:
    if name == "caffenet" and convention == "torchvision":
        pytest.skip("there is none")
    theirs = foreign(name, convention)
    net = net_of(name, convention)
    rest = {"classifier.0.weight": torch.zeros(4, 4), "loss1/conv.weight": torch.zeros(1, 1, 1, 1)}
    net.load_state_dict(adopted({f"module.{k}": v for k, v in theirs.items()} | rest, net), strict=True)
    first = next(part for part in net.modules() if isinstance(part, nn.Conv2d))
    assert torch.equal(first.weight, next(iter(theirs.values())))


def test_torchvisions_numbers() -> None:
    numbers = [names[1] for names in known_as(VGG16())]
    assert numbers == [f"features.{n}" for n in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    assert [names[1] for names in known_as(VGG19())][-1] == "features.34"
    assert [names[1] for names in known_as(SqueezeNet())][-1] == "features.12.expand3x3"


def test_batch_norms_are_multiplied_into_the_convolution() -> None:
    theirs = foreign("googlenet", "torchvision")
    norm = nn.BatchNorm2d(64, eps=1e-3)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean):
            value.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    del theirs["conv1.conv.bias"]
    theirs |= {f"conv1.bn.{k}": v for k, v in norm.state_dict().items()}
    net = net_of("googlenet", "torchvision")
    net.load_state_dict(adopted(theirs, net))
    x = torch.rand(1, 3, 40, 40) * 2 - 1
    seen = F.conv2d(net.entering(x), theirs["conv1.conv.weight"], stride=2, padding=3)
    torch.testing.assert_close(net(x, ["conv1/7x7_s2"])["conv1/7x7_s2"], F.relu(norm.eval()(seen)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("given", "wanted"), [("vgg16", "vgg19"), ("vgg19", "vgg16"), ("squeezenet1_1", "vgg16")])
@pytest.mark.parametrize("convention", ["caffe", "torchvision"])
def test_weights_of_another_network_are_refused(given: str, wanted: str, convention: str) -> None:
    with pytest.raises(WeightsError, match="another network") as raised:
        adopted(foreign(given, convention), net_of(wanted, convention))
    assert raised.value.code == "wrong-shape"


def test_the_other_convention_of_googlenet_is_another_network() -> None:
    theirs = {name.replace(".conv", ""): value for name, value in foreign("googlenet", "caffe").items()}
    with pytest.raises(WeightsError, match=r"5x5.*has shape"):
        adopted(theirs, net_of("googlenet", "torchvision"))


def test_the_recipe_makes_the_network_and_cannot_be_trained() -> None:
    nets = FeatureNetwork(network="squeezenet1_1").networks()
    assert isinstance(nets["features"], SqueezeNet)
    with pytest.raises(TrainingError, match="convert"):
        FeatureNetwork().stages()
    assert isinstance(FeatureNetwork(network="caffenet").networks()["features"], CaffeNet)
    for network, convention in (("vgg11", ""), ("caffenet", "torchvision"), ("vgg16", "keras")):
        with pytest.raises(ValueError, match=r"choose|caffe"):
            FeatureNetwork(network=network, convention=convention)
    with pytest.raises(ValueError, match="pool"):
        FeatureNetwork(pools="min").networks()
