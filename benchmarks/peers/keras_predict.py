"""Times Keras 3 on ready photos: for each line on stdin, a run, whose seconds it prints."""

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras
import numpy as np

NETWORKS = {
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
    "legacy_xception": keras.applications.Xception,
}
photos = np.load(sys.argv[2])
base = NETWORKS[sys.argv[1]](weights=None, include_top=False, pooling="avg", input_shape=photos.shape[1:])
outputs = keras.layers.Dense(13, activation="sigmoid")(base.output)
model = keras.Model(base.input, outputs)
model.compile(jit_compile=False)  # with XLA, which Keras would take for itself, it takes longer
for _ in sys.stdin:
    began = time.perf_counter()
    model.predict(photos / np.float32(127.5) - 1, batch_size=len(photos), verbose=0)
    print(time.perf_counter() - began, flush=True)
