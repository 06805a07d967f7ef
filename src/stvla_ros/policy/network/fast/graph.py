"""Functions of tensors, captured once as CUDA graphs and replayed.

A denoising step is some hundred small kernels, and on a GPU launching them takes longer than running them. A graph
launches the kernels of all steps at once. It always reads and writes the same memory, so arguments are copied in and
results out.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3
"""Runs before the capture, in which libraries choose kernels and allocate workspaces (PyTorch's advice)."""

CAPACITY = 8
"""Graphs kept, one per combination of shapes; instructions of different lengths have different shapes."""

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
Replay = Callable[[], None]
Capture = Callable[[Callable[[], Tensors], torch.device], tuple[Replay, Tensors]]


def capture_cuda(work: Callable[[], Tensors], device: torch.device) -> tuple[Replay, Tensors]:
    """Capture ``work``, which takes no arguments and must not wait for the GPU.

    Returns:
        A function that runs it again, and the tensors with its results.

    Raises:
        RuntimeError: It does something that cannot be captured.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU
            results = work()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay, results


class CapturedGraph:
    """A function captured for one combination of shapes, with its own memory for arguments and results."""

    def __init__(self, function: Function, arguments: Sequence[Tensor], capture: Capture) -> None:
        self.arguments = [argument.clone(memory_format=torch.contiguous_format) for argument in arguments]
        self.replay, self.results = capture(lambda: function(*self.arguments), arguments[0].device)

    def __call__(self, arguments: Sequence[Tensor]) -> Tensors:
        for place, argument in zip(self.arguments, arguments):
            place.copy_(argument)
        self.replay()
        return tuple(result.clone() for result in self.results)


class GraphedFunction:
    """Calls a function by replaying its graphs, or directly if it cannot be captured.

    Attributes:
        refused: Why the capture failed; every later call is direct. None if it has not failed.
    """

    def __init__(self, function: Function, capture: Capture = capture_cuda, capacity: int = CAPACITY) -> None:
        """Captures nothing before the first call.

        Args:
            function: From tensors to a tuple of tensors, with the same operations for the same shapes.
            capture: Captures work, as :func:`capture_cuda` does.
            capacity: Number of graphs kept: the last used ones.
        """
        self.function, self.capture, self.capacity = function, capture, capacity
        self.refused: str | None = None
        self._recordings: OrderedDict[tuple, CapturedGraph] = OrderedDict()

    def __call__(self, *arguments: Tensor) -> Tensors:
        recording = None if self.refused is not None else self._recording(arguments)
        return self.function(*arguments) if recording is None else recording(arguments)

    def __len__(self) -> int:
        return len(self._recordings)

    def _recording(self, arguments: Tensors) -> CapturedGraph | None:
        key = tuple((argument.shape, argument.dtype, argument.device) for argument in arguments)
        if key not in self._recordings:
            try:
                self._recordings[key] = CapturedGraph(self.function, arguments, self.capture)
            except RuntimeError as error:
                self.refused = str(error).partition("\n")[0]
                warnings.warn(f"No CUDA graph; calls are direct and slower: {self.refused}", stacklevel=4)
                self._recordings.clear()
                return None
        self._recordings.move_to_end(key)
        while len(self._recordings) > self.capacity:
            self._recordings.popitem(last=False)
        return self._recordings[key]
