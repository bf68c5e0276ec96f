"""Writes a network's generated weights to the files that Keras' users have: `keras_files.py` reads a task (JSON).

`weights` becomes an .h5 without the classifier, as keras.applications publishes it (Keras 2); `model` a whole saved
model with the head (a folder's name may tell the format: .keras).
"""

from __future__ import annotations

from keras_networks import body, with_head
from side import read_task, tell

if __name__ == "__main__":
    task = read_task()
    model = body(task["case"], task["rows"]["body"])
    if task.get("weights"):
        model.save_weights(task["weights"])
    if task.get("model"):
        with_head(model, task["rows"]["head"]).save(task["model"])
    tell({})
