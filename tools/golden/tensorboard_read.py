"""Reads the event files of a run (`tl finetune --tensorboard`) with TensorBoard itself and compares them with history.csv.

    python3 -m venv ENV && ENV/bin/pip install -r tools/golden/requirements-tensorboard.txt
    ENV/bin/python tools/golden/tensorboard_read.py RUN...

Every number of the history that is one of the run's has to be there once, as float32, under the step of its epoch, and no
other. Ends with 1 and says what differs.
"""

import csv
import os
import sys

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Column of history.csv -> folder and tag, as src/train/tensorboard.ts has them.
PLACES = {
    "train_loss": ("train", "epoch_loss"),
    "train_hard_loss": ("train", "epoch_hard_loss"),
    "train_soft_loss": ("train", "epoch_soft_loss"),
    "train_accuracy": ("train", "epoch_accuracy"),
    "val_loss": ("validation", "epoch_loss"),
    "val_accuracy": ("validation", "epoch_accuracy"),
    "lr": ("train", "epoch_learning_rate"),
}


def expected(run):
    """What the history holds: (folder, tag) -> [(step, value)]."""
    found = {}
    with open(os.path.join(run, "history.csv"), newline="") as file:
        for row in csv.DictReader(file):
            for column, place in PLACES.items():
                if row.get(column):  # empty where there is no number
                    found.setdefault(place, []).append((int(row["epoch"]), float(numpy.float32(row[column]))))
    return found


def read(run):
    """What TensorBoard reads: (folder, tag) -> [(step, value)]."""
    root = os.path.join(run, "tensorboard")
    found = {}
    for folder in sorted(os.listdir(root)):
        accumulator = EventAccumulator(os.path.join(root, folder), size_guidance={"scalars": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            found[(folder, tag)] = [(event.step, event.value) for event in accumulator.Scalars(tag)]
    return found


def main(runs):
    faults = 0
    for run in runs:
        wanted, found = expected(run), read(run)
        for place in sorted(set(wanted) | set(found)):
            if wanted.get(place) != found.get(place):
                faults += 1
                print(f"{run}: {'/'.join(place)}: {found.get(place)}, expected {wanted.get(place)}")
        count = sum(len(values) for values in found.values())
        print(f"{run}: {count} numbers under {len(found)} tags: {', '.join('/'.join(place) for place in sorted(found))}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
