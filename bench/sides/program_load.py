"""Published weights into a network, as a user of Keras writes it: `program_load.py APPLICATION FILE.h5`.

Prints the sum of the first kernel's magnitudes, to compare by.
"""

import sys

import keras
import numpy as np

model = getattr(keras.applications, sys.argv[1])(weights=None, include_top=False, pooling="avg")
model.load_weights(sys.argv[2])
print([float(np.abs(model.get_weights()[0], dtype=np.float64).sum())])
