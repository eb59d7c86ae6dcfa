"""The scikit-learn face: the network's own features, pipelines, clones, grid searches, refusals."""

import numpy as np
import pytest
import torch

import stability as st

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

ARCH = st.Architecture((st.Layer(3, 1.5, 2), st.Layer(3, 2.0, 2)), None, front_end=st.front_ends.MeanRemoval())


@pytest.fixture(scope="module")
def data():
    found = st.images.dataset("fashion")
    return found.images[:, :, 2:26, 2:26][:, :, ::2, ::2].numpy(), found.labels.numpy()


@pytest.mark.parametrize(
    "head", [LogisticRegression(C=10.0, max_iter=500), LinearSVC(C=10.0)], ids=lambda h: type(h).__name__
)
def test_a_pipeline_with_a_linear_model_is_far_above_chance(data, head):
    x, y = data
    pipeline = make_pipeline(st.CKNTransformer(ARCH, (8, 16)), head).fit(x[:150], y[:150])
    assert pipeline.score(x[150:], y[150:]) > 0.5
    assert pipeline[:-1].transform(x[:2]).dtype == np.float32


def test_features_are_those_of_the_network_in_the_area_weighted_norm(data):
    x = data[0][:20]
    for given, size in ((x, None), (x.reshape(20, -1), (12, 12))):
        face = st.CKNTransformer(ARCH, (4, 6), dtype=np.float64, size=size, random_state=3).fit(given)
        images = torch.from_numpy(x)
        network = st.CKN.fit(ARCH, images, filters=(4, 6), generator=torch.Generator().manual_seed(3))
        assert torch.allclose(face.ckn_.anchors[1], network.anchors[1], rtol=1e-10)
        features = torch.from_numpy(face.transform(given))
        assert torch.allclose(features @ features.T, st.kernel_matrix(network, images), rtol=1e-10)


def test_signals_clones_and_searches(data):
    x, y = data
    face = st.CKNTransformer(ARCH, (4, 6), anchors=st.anchors.RandomPatches())
    assert clone(face).get_params() == face.get_params()
    search = GridSearchCV(
        make_pipeline(face, LogisticRegression(max_iter=300)), {"ckntransformer__filters": [(2, 2), (4, 6)]}, cv=2
    ).fit(x[:60], y[:60])
    assert search.best_params_["ckntransformer__filters"] in [(2, 2), (4, 6)]
    assert st.CKNTransformer(ARCH, (2, 3)).fit_transform(np.random.default_rng(0).random((5, 1, 16))).shape == (5, 12)


@pytest.mark.parametrize(
    ("change", "x", "message"),
    [
        ({}, np.zeros((4, 144)), "give size"),
        ({"size": (12, 12)}, np.zeros((4, 100)), "rows of C x 12 x 12"),
        ({}, np.array([["a"]]), "real numbers"),
        ({"filters": (2,)}, np.zeros((4, 1, 12, 12)), "filters must have"),
    ],
)
def test_wrong_arguments_are_told(change, x, message):
    with pytest.raises(ValueError, match=message):
        st.CKNTransformer(**({"architecture": ARCH, "filters": (2, 2)} | change)).fit(x)


def test_features_have_names(data):
    transformer = st.CKNTransformer(ARCH, (2, 2)).fit(data[0][:4])
    names = transformer.get_feature_names_out()
    assert len(names) == transformer.transform(data[0][:2]).shape[1]
    assert names[0] == "ckntransformer0"
    frame = transformer.set_output(transform="pandas").transform(data[0][:2])
    assert list(frame.columns) == list(names)


def test_other_images_and_unfitted_transformers_are_told(data):
    with pytest.raises(NotFittedError, match="fitted before"):
        st.CKNTransformer(ARCH, (2, 2)).transform(data[0])
    with pytest.raises(ValueError, match="as in fit"):
        st.CKNTransformer(ARCH, (2, 2)).fit(data[0][:4]).transform(np.zeros((1, 1, 16, 16)))
