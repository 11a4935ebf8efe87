"""A synthetic benchmark in HAD100's layout: made from a seed, for use where the real archive is not at hand.

A scene is built the way an airborne spectrometer sees one. Ground cover is drawn first (``cover``): fields, roads, shore,
crowns, roofs. Each pixel gets abundances of parametric materials (``spectra``): softmax of Gaussian random fields within
a parcel, blurred by the sensor's point spread. Materials vary smoothly within a class. Terrain and shadow shade the
surface, sun and atmosphere turn reflectance into radiance, and the sensor adds noise, stripes and digital counts
(``sensor``). Anomalies are small man-made objects of materials that no background holds (``objects``): as many, as large
and as long as those in HAD100's masks.

It stands in for HAD100 in tests and examples. No number measured on it says anything about HAD100 itself.

    python -m data.synthetic data/Synthetic --seed 0 --train 48 --test 12
"""

from fers.datasets.synthetic.benchmark import (
    CROP_MARGIN,
    DEFAULT_DIFFICULTY,
    FIRST_TRAIN_INDEX,
    SyntheticScene,
    make_scene,
    write_benchmark,
)
from fers.datasets.synthetic.objects import object_statistics
from fers.datasets.synthetic.spectra import WAVELENGTHS_NM, endmembers, object_materials

__all__ = [
    "CROP_MARGIN",
    "DEFAULT_DIFFICULTY",
    "FIRST_TRAIN_INDEX",
    "WAVELENGTHS_NM",
    "SyntheticScene",
    "endmembers",
    "make_scene",
    "object_materials",
    "object_statistics",
    "write_benchmark",
]
