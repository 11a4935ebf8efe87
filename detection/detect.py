"""Detect anomalies in a scene of one's own: from a file or an array to a score map and a list of targets.

The steps, for one scene: choose bands, plan blocks, range, background, scores, threshold, targets, products.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import FersError
from data.readers import open_scene
from data.readers.emit import mask_file_of
from detection.bands import ChosenBands, choose_bands
from detection.blocks import Plan, PlanError, make_plan, parse_size
from detection.executors import cluster, thread_pool
from detection.maps import DEFAULT_METHOD, METHODS, Job, Network, networks
from detection.masks import read_left_out
from detection.networks import choose_device
from detection.products.place import Place
from detection.records import make_records, read_surroundings
from detection.result import DetectResult, Counts
from detection.streaming import Statistics, Store, Stream, combine_maps, merged, robust_keep, without_network
from detection.targets import find_targets, threshold_for_count
from detection.thresholds import Tail, choose_threshold
