"""Tag a folder of photos the usual way: Keras's image_dataset_from_directory, predict, a CSV."""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras
import numpy as np

NETWORKS = {
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
    "legacy_xception": keras.applications.Xception,
    "mobilenetv2_100": keras.applications.MobileNetV2,
}
name, size, folder, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
photos = keras.utils.image_dataset_from_directory(
    folder, labels=None, image_size=(size, size), batch_size=32, shuffle=False
)
base = NETWORKS[name](weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
model = keras.Sequential(
    [keras.layers.Rescaling(1 / 127.5, offset=-1), base, keras.layers.Dense(13, activation="sigmoid")]
)
model.compile(jit_compile=False)  # with XLA, which Keras would take for itself, it takes longer
np.savetxt(out, model.predict(photos, verbose=0), delimiter=",")
