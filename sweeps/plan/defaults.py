"""The default job and its quick version, as tables of RunSpec's dotted fields."""

from typing import Any

DEFAULT_FIELDS: dict[str, Any] = {
    "data.name": "scenes",
    "data.variant": "simple",
    "data.height": 48,
    "data.width": 64,
    "data.num_train": 400,
    "data.num_validation": 100,
    "data.num_test": 100,
    "network.architecture": "full_sharing",
    "network.encoder": "test_efficientnet",
    "network.encoder_stride": 4,
    "network.decoder_widths": (64, 48, 32, 24, 16, 8),
    "epochs": 16,
    "batch_size": 8,
    "optimizer.learning_rate": 2.5e-3,
    "optimizer.schedule": "linear",
    "optimizer.warmup_share": 0.1,
    "method_options.increase_rate": 0.02,
}
"""One run of the default job; what is not named here has RunSpec's own default."""

DEFAULT_TASKS: tuple[str, ...] = ("depth", "segmentation")
DEFAULT_METHODS: tuple[str, ...] = ("lsb", "fixed")
DEFAULT_DIVISIONS: int = 6
"""Priorities in sixths; without the corners of the simplex, five pairs."""
DEFAULT_SEEDS: int = 2

QUICK_FIELDS: dict[str, Any] = {
    "data.num_train": 64,
    "data.num_validation": 16,
    "data.num_test": 16,
    "epochs": 2,
}
"""What `--quick` sets: enough to see every station work, too little to learn anything."""
QUICK_DIVISIONS: int = 4
QUICK_SEEDS: int = 1
