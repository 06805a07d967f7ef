"""Recording of functions; with CUDA, that recordings give the same results."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.fast.graph import GraphedFunction
from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.values import NetworkInput, Noise

SMALL = NetworkConfig(
    image_px=32, width=30, heads=2, visual="nano", visual_stride=4, text="words", vocabulary=9, subsample_factor=4
)
VARIANTS = {
    "flow": replace(SMALL, steps=2),
    "diffusion": replace(
        SMALL, denoiser="ddpm", steps=3, rotary="normalised", modulate_kv=False, subsampler="farthest"
    ),
    "shared scene": replace(SMALL, shared_scene=True, visual_cloud=True, path_channels=True),
}
WAITING = {"_local_scalar_dense", "nonzero", "lift_fresh", "lift_fresh_copy", "_unique2", "masked_select", "equal"}
"""Operations that copy between the GPU and the host, which no graph can hold."""

Work = Callable[[], tuple[torch.Tensor, ...]]


class FakeGraph:
    """Records like a CUDA graph: work runs once, later its results are written to the same memory."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Work, device: torch.device) -> tuple[Callable[[], None], tuple[torch.Tensor, ...]]:
        self.recorded += 1
        results = work()

        def replay() -> None:
            self.replayed += 1
            for place, value in zip(results, work()):
                place.copy_(value)

        return replay, results


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def doubled(x: torch.Tensor) -> tuple[torch.Tensor]:
    return (x * 2,)


def build(config: NetworkConfig) -> KeyposeNetwork:
    torch.manual_seed(0)
    network = KeyposeNetwork(config, [[-0.1, -0.5, 0.7], [0.6, 0.5, 1.5]])
    for name, parameter in network.named_parameters():
        if "adaln" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def observe(config: NetworkConfig, device: str = "cpu") -> NetworkInput:
    image = torch.rand(1, config.cameras, 3, config.image_px, config.image_px, device=device)
    history = torch.rand(1, config.history, config.hands, 8, device=device)
    path_m = torch.rand(1, 7, 3, device=device)
    return NetworkInput(image, image.flip(-1), torch.randint(0, 9, (1, 5), device=device), history, path_m)


def test_one_recording_per_shape() -> None:
    graph = FakeGraph()
    call = GraphedFunction(doubled, graph)
    for size in (2, 2, 3, 2):
        x = torch.rand(size)
        assert torch.equal(call(x)[0], 2 * x)
    assert (graph.recorded, graph.replayed) == (2, 4)


def test_results_do_not_change_with_the_next_call() -> None:
    call = GraphedFunction(doubled, FakeGraph())
    first = call(torch.ones(2))[0]
    call(torch.zeros(2))
    assert first.tolist() == [2.0, 2.0]


def test_latest_recordings_are_kept() -> None:
    graph = FakeGraph()
    call = GraphedFunction(doubled, graph, capacity=2)
    for size in (1, 2, 1, 3, 1, 2):
        call(torch.rand(size))
    assert len(call) == 2
    assert graph.recorded == 4


def test_what_cannot_be_recorded_is_called() -> None:
    def refuse(work: Work, device: torch.device) -> tuple[Callable[[], None], tuple[torch.Tensor, ...]]:
        raise RuntimeError("operation not permitted when stream is capturing\nlong story")

    call = GraphedFunction(doubled, refuse)
    with pytest.warns(UserWarning, match="No CUDA graph; .*not permitted when stream is capturing$"):
        assert call(torch.ones(1))[0] == 2
    assert call.refused == "operation not permitted when stream is capturing"
    assert call(torch.ones(1))[0] == 2


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_recordings_of_the_network(config: NetworkConfig) -> None:
    plain, noise = build(config), Noise.draw(config, 1, torch.Generator().manual_seed(0))
    direct, recorded = FastKeyposeNetwork(plain), FastKeyposeNetwork(plain, graphs=True)
    graph = FakeGraph()
    for call in recorded.graphs:
        call.capture = graph
    for _ in range(2):
        inputs = observe(config)
        assert torch.equal(recorded.predict(inputs, noise), direct.predict(inputs, noise))
    assert (graph.recorded, graph.replayed) == (2, 4)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_nothing_waits_for_the_host(config: NetworkConfig) -> None:
    fast, inputs = FastKeyposeNetwork(build(config)), observe(config)
    words, noise = fast.words(inputs.text), Noise.draw(config, 1)
    with torch.no_grad(), Operations() as seen:
        scene = fast._encode(inputs.rgb, inputs.xyz_m, inputs.history, words, inputs.path_m)
        fast._sample(*scene, noise.start, noise.steps)
    assert "baddbmm" in seen.names
    assert not seen.names & WAITING


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_everything_is_on_one_device(config: NetworkConfig) -> None:
    """The meta device stands in for a GPU: tensors of the CPU do not mix with it, and it has no values to wait for."""
    fast, inputs = FastKeyposeNetwork(build(config).to("meta"), graphs=False), observe(config, "meta")
    noise = Noise.draw(config, 1, device="meta")
    with torch.no_grad():
        scene = fast._encode(inputs.rgb, inputs.xyz_m, inputs.history, fast.encoder.words(inputs.text), inputs.path_m)
        assert fast._sample(*scene, noise.start, noise.steps)[0].shape == (1, 1, 1, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_graphs(config: NetworkConfig, dtype: torch.dtype) -> None:
    plain = build(config).cuda()
    fast = FastKeyposeNetwork(plain, dtype=dtype)
    for _ in range(3):
        inputs, noise = observe(config, "cuda"), Noise.draw(config, 1, device="cuda")
        found, wanted = fast.predict(inputs, noise), plain.predict(inputs, noise)
        close = 1e-4 if dtype == torch.float32 else 0.1
        assert (found[..., :3] - wanted[..., :3]).abs().max() < close
    assert [call.refused for call in fast.graphs] == [None, None]
    assert [len(call) for call in fast.graphs] == [1, 1]
