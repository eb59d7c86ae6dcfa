"""Distance versus the patch size at fixed scales: the knob kappa moves, in every layer.

The bound of fields with a gradient is linear in kappa_rms; the measured distance need not follow.
"""

from common import Experiment, medians

EXPERIMENT = Experiment("patch_size", "kappa", medians("patch_size"))
run, draw = EXPERIMENT.run, EXPERIMENT.draw

if __name__ == "__main__":
    EXPERIMENT.main()
