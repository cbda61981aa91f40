"""The Keras side of keras_ensemble.py: networks one after another, written as a Keras user would; prints JSON.

Run by an interpreter that has Keras: ``python keras_networks.py rows.npz settings.json``.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops


def complementary_erf(z):
    """Complementary error function of the backend in use (Keras has only the error function)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.erfc(z)
    import jax

    return jax.lax.erfc(z)


def gaussian(floor):
    """Negative log likelihood of a Gaussian head."""

    def loss(y, raw):
        scale = ops.softplus(raw[:, 1]) + floor
        z = (y[:, 0] - raw[:, 0]) / scale
        return ops.mean(0.5 * z * z + ops.log(scale)) + 0.5 * math.log(2 * math.pi)

    return loss


def bounded(components, margin, floor):
    """Negative log likelihood of a truncated mixture of normals in widened-logit space."""
    limit = math.log((1 + margin) / margin)
    start = ops.convert_to_tensor(np.linspace(-1, 1, components, dtype="float32") - 1)

    def below(z):
        return 0.5 * complementary_erf(-z / math.sqrt(2.0))

    def loss(y, raw):
        loc, scale, logits = ops.split(raw, 3, axis=-1)
        loc, scale = limit * ops.tanh((loc + start) / limit), ops.softplus(scale) + floor
        mass = ops.maximum(below((limit - loc) / scale) - below((-limit - loc) / scale), 1e-12)
        u = ops.log(y + margin) - ops.log(1 - y + margin)
        z = (u - loc) / scale
        parts = ops.log_softmax(logits, axis=-1) - ops.log(scale) - ops.log(mass) - 0.5 * z * z
        slope = math.log(1 + 2 * margin) - ops.log((y[:, 0] + margin) * (1 - y[:, 0] + margin))
        return -ops.mean(ops.logsumexp(parts, axis=-1) + slope) + 0.5 * math.log(2 * math.pi)

    return loss


def network(settings, member):
    """Return one compiled model of the architecture in ``settings``."""
    starts = ["fan-in"] * 5 if settings["initial"] == "fan-in" else ["normal"] * 3 + ["truncated"] * 2

    def kernel(inputs):
        kind = starts[member % 5]
        if kind == "fan-in":
            return keras.initializers.RandomUniform(-(inputs**-0.5), inputs**-0.5)
        return (
            keras.initializers.RandomNormal(0, 0.2) if kind == "normal" else keras.initializers.TruncatedNormal(0, 0.05)
        )

    widths = [settings["features"], *settings["hidden"]]
    model = keras.Sequential([layers.Input((widths[0],))])
    for inputs, units in itertools.pairwise(widths):
        model.add(layers.Dense(units, activation="relu", kernel_initializer=kernel(inputs)))
        if settings["batch_norm"]:
            model.add(layers.BatchNormalization())
        model.add(layers.Dropout(settings["dropout"]))
    head = dict(settings["head"])
    model.add(layers.Dense(settings["outputs"], kernel_initializer=kernel(widths[-1])))
    loss = (
        gaussian(head["floor"])
        if head["kind"] == "gaussian"
        else bounded(head["components"], head["margin"], head["floor"])
    )
    model.compile(
        optimizer=keras.optimizers.Adam(settings["learning_rate"], global_clipnorm=settings["clip_norm"], epsilon=1e-8),
        loss=loss,
        jit_compile=settings["jit"],
        steps_per_execution=settings["steps_per_execution"],
    )
    return model


class Clock(keras.callbacks.Callback):
    """Notes when each epoch ends."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_epoch_end(self, epoch, logs=None):
        """Note the time."""
        del epoch, logs
        self.ends.append(time.perf_counter())


def main():
    """Train, print seconds in all, seconds of an epoch once compiled, and each network's last validation loss."""
    rows, settings = np.load(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    train, valid = (rows["x"], rows["y"][:, None]), (rows["x_valid"], rows["y_valid"][:, None])
    start, used, losses, epochs = time.perf_counter(), time.process_time(), [], []
    for member in range(settings["members"]):
        keras.utils.set_random_seed(settings["seed"] + member)
        clock = Clock()
        found = network(settings, member).fit(
            *train,
            batch_size=settings["batch_size"],
            epochs=settings["epochs"],
            validation_data=valid,
            callbacks=[clock],
            verbose=0,
        )
        losses.append(float(found.history["val_loss"][-1]))
        epochs += np.diff(clock.ends[1:]).tolist()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
    answer = {
        "seconds": seconds,
        "cpu": used,
        "epoch": float(np.median(epochs)),
        "losses": losses,
        "versions": versions,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
