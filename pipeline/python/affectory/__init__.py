"""Features, runs and predictions of Affectory in Python.

    import affectory

    demo = affectory.open("demo")                             # prints what there is
    train = demo.features("hjcag", split="train")             # a torch Dataset; also .to_pandas() and others
    affectory.run("hjcag").predictions()                      # pandas
    affectory.predict("hjcag.bundle", "clip.mp4", text="Hello")

Nothing here extracts or trains: the commands `affectory extract` and `affectory train` do.
"""

from pipeline.errors import AffectoryError, InputError, MachineError
from pipeline.python.dataset import Dataset, open
from pipeline.python.features import Features, collate
from pipeline.python.predict import predict
from pipeline.python.run import Run, run

__all__ = [
    "AffectoryError",
    "Dataset",
    "Features",
    "InputError",
    "MachineError",
    "Run",
    "collate",
    "open",
    "predict",
    "run",
]
