"""The small sweep that several test files use."""

import stability as st

ARCH = st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0)))


def spec(**changes) -> st.SweepSpec:
    values = {
        "images": st.ImagesSpec(name="fashion", count=2, size=(16, 16)),
        "architecture": ARCH,
        "vary": {"front_end": [None, st.front_ends.MeanRemoval()], "layers.-1.pooling_scale": [2, 4]},
        "deformations": [
            st.FourierSpec(cutoff=2, displacement_norm=[0.5, 1.0]),
            st.FourierSpec(cutoff=2, displacement_norm=1.0, jacobian_norm=0.1, shift=(1.0, 0.0)),
            st.TranslationSpec(displacement_norm=[1.0, 2.0], angles=3),
        ],
        "fields": 2,
    }
    return st.SweepSpec(**(values | changes))
