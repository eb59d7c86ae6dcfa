r"""Training a small network on labelled images, and its weights on disk with what is needed to repeat it.

    loss = mean over the batch of -log softmax(scores)_label,    minimised by Adam

Batches, and what an augmentation draws, come from an explicit generator and nothing else is random, so that a seed
gives the same weights bit for bit on one thread, also when the training was interrupted and went on from its state on
disk.
"""

from stability.training.augmentations import Augmentation as Augmentation
from stability.training.augmentations import ShiftAndFlip as ShiftAndFlip
from stability.training.classifier import Classifier as Classifier
from stability.training.classifier import accuracy as accuracy
from stability.training.heads import ExactHead as ExactHead
from stability.training.heads import StochasticHead as StochasticHead
from stability.training.history import History as History
from stability.training.loop import train as train
from stability.training.schedules import Constant as Constant
from stability.training.schedules import Cosine as Cosine
from stability.training.schedules import Schedule as Schedule
from stability.training.weights import checkpoint_digest as checkpoint_digest
from stability.training.weights import load as load
from stability.training.weights import save as save
