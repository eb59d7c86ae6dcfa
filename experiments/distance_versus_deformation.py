"""Distance versus displacement at fixed gradient: the knob a moves, b and H stay.

Translations (b = H = 0), and smooth fields of a fixed gradient carried further and further by a constant. Exact CKN,
finite CKN, linear control, a CNN of the same architecture with random and with trained weights.
"""

from common import Experiment, medians

EXPERIMENT = Experiment("distance_versus_deformation", "a", medians("asked_displacement_norm"))
run, draw = EXPERIMENT.run, EXPERIMENT.draw

if __name__ == "__main__":
    EXPERIMENT.main()
