"""The Keras side of map_networks.py: Table A2 as the authors wrote it, one step after another; prints JSON.

Run by an interpreter that has Keras and TensorFlow: ``python keras_maps.py maps.npz settings.json``.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops


def network(pixels, channels):
    """Build Table A2 of Angeloudi+2023."""
    return keras.Sequential(
        [
            keras.Input((pixels, pixels, channels)),
            *(
                layer
                for filters, size in ((32, 5), (64, 3), (64, 3))
                for layer in (
                    layers.Conv2D(filters, size, padding="same", activation="relu"),
                    layers.MaxPooling2D(2),
                    layers.BatchNormalization(),
                    layers.Dropout(0.2),
                )
            ),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(2, dtype="float32"),
        ]
    )


def loss(y, raw):
    """Negative log likelihood of a Gaussian head."""
    raw = ops.cast(raw, "float32")
    scale = ops.softplus(raw[:, 1]) + 1e-3
    z = (y[:, 0] - raw[:, 0]) / scale
    return ops.mean(0.5 * z * z + ops.log(scale)) + 0.5 * math.log(2 * math.pi)


def main():
    """Train some epochs, predict; print seconds per step, images per second, and the losses."""
    data = np.load(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    if settings["mixed"]:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.utils.set_random_seed(1)
    x = np.ascontiguousarray(data["maps"].transpose(0, 2, 3, 1))
    y = data["y"][:, None]
    model = network(x.shape[1], x.shape[3])
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), loss=loss, jit_compile=False)
    size = settings["batch"]
    model.fit(x[: 2 * size], y[: 2 * size], batch_size=size, epochs=1, verbose=0)
    times, losses = [], []
    steps = len(x) // size
    for _ in range(settings["epochs"]):
        start = time.perf_counter()
        found = model.fit(x[: steps * size], y[: steps * size], batch_size=size, epochs=1, verbose=0)
        times.append((time.perf_counter() - start) / steps)
        losses.append(float(found.history["loss"][0]))
    model.predict(x[:size], batch_size=size, verbose=0)
    start = time.perf_counter()
    model.predict(x, batch_size=size, verbose=0)
    rate = len(x) / (time.perf_counter() - start)
    facts = {"step": float(np.median(times)), "rate": rate, "losses": losses, "parameters": model.count_params()}
    print(json.dumps(facts))


main()
