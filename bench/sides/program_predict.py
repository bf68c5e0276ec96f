"""The class of one picture, as a user of Keras writes it: `program_predict.py MODEL PICTURE`."""

import json
import sys

import keras
import tensorflow as tf

model = keras.models.load_model(sys.argv[1], compile=False)
picture = tf.io.decode_image(tf.io.read_file(sys.argv[2]), channels=3, expand_animations=False)
x = keras.applications.resnet50.preprocess_input(tf.image.resize(picture, [224, 224])[tf.newaxis])
probabilities = tf.nn.softmax(model.predict(x, verbose=0)[0]).numpy()
print(json.dumps(probabilities.tolist()))
