"""What is said of the time that is left."""

from __future__ import annotations

from unittest import mock

from fers.training import log as log_module
from fers.training.log import Log


def entry(epoch: int) -> dict:
    return {
        **{"epoch": epoch, "loss": 1.0, "terms": {"sim": 1.0}, "held_out": None, "lr": 1e-4, "seconds": 60.0},
        "patches_per_second": 2.0,
    }


def test_an_epochs_line_says_how_long_the_others_take_with_all_that_is_done_between_them(tmp_path, capsys):
    clock = mock.Mock(side_effect=[1000.0, 1600.0, 2200.0, 2800.0])  # ten minutes an epoch, one of them for steps
    with mock.patch.object(log_module.time, "perf_counter", clock):
        log = Log(tmp_path, 0, 40)
        for epoch in (1, 2, 3, 40):
            log.write(entry(epoch))
        log.close()
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert first.endswith("about 39 min left to epoch 40")
    assert second.endswith("about 3 h left to epoch 40")  # 38 epochs of the mean of the two durations that are known
    assert third.endswith("about 6 h left to epoch 40") and "left" not in last
