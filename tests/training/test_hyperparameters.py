"""What TensorBoard's HPARAMS tab tells runs apart by."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from grouprl.training.show.report import log_hyperparameters

OVERRIDES = ["advantage=rank", "lr=1e-3", "threads=1", "study=s", "hydra.run.dir=a b"]


@pytest.mark.parametrize(
    ("swept", "shown"),
    [
        (None, {"advantage": "rank", "lr": 1e-3, "threads": 1.0}),
        ({"advantage", "seed"}, {"advantage": "rank"}),
    ],
)
def test_options_of_the_command_line_or_those_that_a_study_varies(tmp_path, swept, shown):
    logger = TensorBoardLogger(str(tmp_path), name="", version="")
    log_hyperparameters(SimpleNamespace(logger=logger), OVERRIDES, {"heldout/pass@1/after": 0.5}, swept)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {key: value.string_value or value.number_value for key, value in found.items()} == shown
