"""On CUDA, a decode step as one launch instead of hundreds, for which a small batch would wait."""

import warnings
from functools import partial

import torch


class DecodeGraphs:
    """A function of whole numbers, once captured for a few of them, as CUDA graphs.

    A graph has fixed shapes, so each number is rounded up, by half of itself at most, and a few
    graphs serve a whole batch. The rows beyond the live ones compute what nobody reads.
    """

    def __init__(self, decode, most):
        self.decode = decode
        self.most = most  # the largest of each number
        self.graphs = {}  # rounded numbers -> a function that gives the logits (rows, V)
        self.pool = None  # memory that all graphs share

    def capture(self, shape):
        # First without a graph, which makes what a graph cannot: workspaces, autocast's weights. A
        # step that is done twice is harmless.
        self.decode(*shape)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            logits = self.decode(*shape)
        self.pool = graph.pool()

        def replay():
            graph.replay()
            return logits

        return replay

    def __call__(self, rows, *others):
        """What decode(rows, *others) returns: logits (rows, V)."""
        shape = tuple(map(min, map(round_up, (rows, *others)), self.most))
        if shape not in self.graphs:
            try:
                self.graphs[shape] = self.capture(shape)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a model that waits for the device in its forward, say
                warnings.warn(f"decoding without a CUDA graph, hence slower: {error}")
                self.graphs[shape] = partial(self.decode, *shape)  # and no circle
        return self.graphs[shape]()[:rows]


def round_up(number):
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on."""
    power = 1 << (number - 1).bit_length()
    return power * 3 // 4 if number <= power * 3 // 4 else power


def use_graphs(device):
    return device.type == "cuda"
