"""Distance versus the scale of the last pooling: the knob sigma moves (sigma_n only, so that no kappa does).

In units of ||x||, which is what the theorem bounds, and in units of the distance between two images, which is what may
be compared between models: a wide pooling brings different images together too.
"""

from common import Experiment, medians

EXPERIMENT = Experiment("pooling_scale", "sigma", medians("pooling_scale"))
run, draw = EXPERIMENT.run, EXPERIMENT.draw

if __name__ == "__main__":
    EXPERIMENT.main()
