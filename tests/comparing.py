"""Scenes and detectors of a stranger, for the tests of comparisons."""

from __future__ import annotations

import numpy as np
from scipy.io import savemat

DETECTORS = """
import numpy, torch

class Brightness:
    def __call__(self, cube):
        return cube.sum(1)

class Narrow(Brightness):
    def __call__(self, cube):
        if cube.shape[-1] > 20:
            raise ValueError("more than 20 columns. Cut the scene.")
        return super().__call__(cube)

class NoDefault(Brightness):
    def __init__(self, window):
        self.window = window

class Drawn:
    def __init__(self, seed=0):
        self.seed = seed

    def __call__(self, cube):
        return torch.rand(len(cube), *cube.shape[2:], generator=torch.Generator().manual_seed(self.seed))

class Arrays(Brightness):
    def __call__(self, cube):
        return super().__call__(cube).numpy()

class Flat(Brightness):
    def __call__(self, cube):
        return super().__call__(cube)[0]

class Lost(Brightness):
    def __call__(self, cube):
        return super().__call__(cube) * float("nan")

class NotCallable:
    pass

def bright(cube):
    cube -= cube.mean()
    return cube.sum(2)

def bright_tensor(cube: torch.Tensor):
    return cube.sum(1)

def broken(cube):
    return cube.no_such_method()

def deep(cube):
    return numpy.linalg.inv(cube)

number = 3
"""


def write_pair(folder, name, shape=(20, 24, 8), hole=None):
    """Write a .mat file with cube and truth; return both."""
    folder.mkdir(exist_ok=True, parents=True)
    cube, truth = make_pair(name, shape)
    if hole is not None:
        cube[hole] = np.nan
    savemat(folder / f"{name}.mat", {"data": cube, "map": truth.astype(np.uint8)})
    return cube, truth


def make_pair(name, shape=(20, 24, 8)):
    rng = np.random.RandomState(len(name))
    truth = rng.uniform(size=shape[:2]) < 0.05
    return rng.normal(10, 1, size=shape) + 2 * truth[..., None], truth
