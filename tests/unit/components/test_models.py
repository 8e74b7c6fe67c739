"""Four models over one set of inputs: trained form, serving twin and ONNX say the same; each is what its paper says."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tidegate_components.models.arrays import integer_ids, read_set, to_arrays
from tidegate_components.models.config import Architecture, ConfigError, parse_config, read_config, with_settings
from tidegate_components.models.dcn_v2 import DCNv2
from tidegate_components.models.deepfm import DeepFM
from tidegate_components.models.dlrm import DLRM
from tidegate_components.models.fitting import fit_inputs
from tidegate_components.models.inputs import TrainingSetError
from tidegate_components.models.layers import Seen, Shape
from tidegate_components.models.scoring import Scorer
from tidegate_components.models.tables import jagged
from tidegate_components.packaging.onnx_export import export_onnx, onnx_scores
from tidegate_components.training.gathering import gather
from tidegate_components.training.learner import alone
from tidegate_components.training.loop import fit
from tidegate_components.training.rows import ParquetRows
from tidegate_components.training.steps import score
from unit.components.ranking_case import NAMES, config, sets, table


@pytest.mark.parametrize("name", NAMES)
def test_trained_form_twin_and_onnx_agree_for_known_unknown_and_missing(name: str, tmp_path: Path) -> None:
    train, valid = sets(tmp_path)
    said = config(name)
    learner_of = []

    def build(*args):  # type: ignore[no-untyped-def]
        learner_of.append(alone(*args))
        return learner_of[-1]

    fitted = fit([train], [valid], said, build)
    twin = fitted.scorer
    assert twin is not None
    rows, _ = read_set(valid, twin.inputs)
    trained = score(learner_of[0], ParquetRows([valid], twin.inputs), twin.inputs, "fp32").scores
    np.testing.assert_allclose(twin.scores(rows.ids, rows.dense), trained, atol=1e-6)
    export_onnx(twin, tmp_path / "model.onnx", rows)
    np.testing.assert_allclose(onnx_scores(tmp_path / "model.onnx", rows.ids, rows.dense), trained, atol=1e-5)
    assert (rows.ids < 0).any()
    assert np.isnan(rows.dense).any()


def test_a_saved_twin_reads_back_as_it_was(tmp_path: Path) -> None:
    train, valid = sets(tmp_path)
    said = config("wide_deep")
    learner = alone(fit_inputs(said, [train]), said, None)
    twin = gather(learner, fit_inputs(said, [train]), said.model)
    assert twin is not None
    twin.save(tmp_path / "model")
    rows, _ = read_set(valid, twin.inputs)
    again = Scorer.load(tmp_path / "model")
    assert again.inputs == twin.inputs
    assert np.array_equal(again.scores(rows.ids, rows.dense), twin.scores(rows.ids, rows.dense))


def seen(fields: int = 4, dim: int = 8, numbers: int = 3) -> Seen:
    torch.manual_seed(2)
    return Seen(torch.randn(5, fields, dim), torch.randn(5), torch.randn(5, numbers))


def test_deepfm_sums_every_pair_of_fields_and_numbers() -> None:
    given, net = seen(), DeepFM(Shape(4, 8, 3), Architecture(name="deepfm", embedding_dim=8, hidden=(4,)))
    vectors = [*given.vectors.unbind(1), *(given.numbers[:, i : i + 1] * net.number_vectors[i] for i in range(3))]
    expected = sum((a * b).sum(dim=1) for a, b in combinations(vectors, 2))
    torch.testing.assert_close(net.pairs(given), expected)


def test_dcn_v2_crosses_as_equation_one_says() -> None:
    said = Architecture(name="dcn_v2", embedding_dim=8, hidden=(4,), cross_layers=2)
    given, net = seen(), DCNv2(Shape(4, 8, 3), said)
    first = torch.cat([given.vectors.flatten(1), given.numbers], dim=1)
    crossed = first
    for layer in net.cross:
        crossed = first * (crossed @ layer.weight.T + layer.bias) + crossed
    deep = net.deep(first)
    torch.testing.assert_close(net(given), net.top(torch.cat([crossed, deep], dim=1))[:, 0])


def test_dlrm_reads_each_dot_product_once() -> None:
    given, net = seen(), DLRM(Shape(4, 8, 3), Architecture(name="dlrm", embedding_dim=8, hidden=(4,), bottom=(6,)))
    assert net.bottom is not None
    dense = net.bottom(given.numbers)
    vectors = [dense, *given.vectors.unbind(1)]
    products = torch.stack([(vectors[i] * vectors[j]).sum(1) for i in range(5) for j in range(i)], dim=1)
    torch.testing.assert_close(net(given), net.top(net.over(torch.cat([dense, products], dim=1)))[:, 0])


def test_the_fused_update_is_row_wise_adagrad_on_the_summed_gradient(tmp_path: Path) -> None:
    """Duchi et al. 2011 with one sum of squares for a row: w -= lr g / (sqrt(mean g^2) + eps), against plain torch."""
    train, _ = sets(tmp_path)
    said = config("dcn_v2")
    inputs = fit_inputs(said, [train])
    learner = alone(inputs, said, None)
    rows = torch.zeros(len(learner.slots), 2, dtype=torch.int64)
    before = learner.shards[0].weights.clone()
    values = learner.model.tables(jagged(learner.slots, rows)).values()
    pull = torch.randn_like(values)
    (values * pull).sum().backward()
    gradient = pull[:, :8].sum(dim=0)
    expected = before[0] - 0.1 * gradient / (gradient.square().mean().sqrt() + 1e-8)
    torch.testing.assert_close(learner.shards[0].weights[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learner.shards[0].weights[1:], before[1:], msg="other rows stay")


def test_texts_become_ids_that_any_client_can_make() -> None:
    ids = integer_ids(pa.chunked_array([["a", None, "zürich", "a"]]))
    assert ids.tolist() == [0xE6C632B61E964E1F & (2**63 - 1), -1, ids[2], ids[0]]
    coded = integer_ids(pa.chunked_array([pa.array(["a", None, "zürich", "a"]).dictionary_encode()]))
    assert coded.tolist() == ids.tolist()


def test_of_a_long_list_the_last_ids_are_read(tmp_path: Path) -> None:
    rows = table(3).set_column(7, "seen", pa.array([[1_000_003 * n for n in range(9)], None, []]))
    train, _ = sets(tmp_path)
    inputs = fit_inputs(config(), [train])
    found = to_arrays(rows, inputs, tmp_path / "rows.parquet").ids[:, inputs.columns_of("seen")]
    assert found.tolist() == [[1_000_003 * n for n in range(4, 9)], [-1] * 5, [-1] * 5]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"model": {"name": "fm"}}, "model.name is 'fm', expected 'wide_deep', 'deepfm'"),
        ({"model": {"embedding_dim": 10}}, "model.embedding_dim is 10, expected a multiple of 4"),
        ({"inputs": {"categorical": [{"column": "a", "lookup": "hash"}]}}, "rows: a hash needs the number of rows"),
        ({"inputs": {"sequence": [{"column": "a", "pooling": "attention"}]}}, "target: attention needs the name"),
        ({"model": {"name": "dlrm"}, "inputs": {"crosses": [{"of": ["a", "b"]}]}}, "dlrm has no linear part"),
        (
            {"training": {"learning_rate": float("inf")}},
            "training.learning_rate is inf, expected a finite",
        ),
        ({"training": {"seed": -1}}, "training.seed is -1, expected a value greater than or equal to 0"),
        ({"model": {"hidden": [0]}}, "model.hidden.0 is 0"),
        ({"inputs": {"categorical": ["a"], "multi_hot": ["a"]}}, "two inputs are called a: give one of them a name"),
        ({"inputs": {"sequence": [{"column": "a", "shares": "b"}]}}, "shares of a: there is no input called b"),
        (
            {"training": {"epoch": 3}},
            "training.epoch is 3, expected nothing: there is no such field; perhaps epochs is meant",
        ),
    ],
)
def test_a_wrong_configuration_names_its_field(said: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(said)
    assert words in str(error.value)


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: file is"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"training\.rate is 1, expected the dotted path of a field"):
        with_settings(config(), {"training.rate": 1})


def test_a_declared_column_that_is_missing_is_named(tmp_path: Path) -> None:
    train, _ = sets(tmp_path)
    said = parse_config({"inputs": {"categorical": ["shop"]}})
    with pytest.raises(TrainingSetError, match="a column shop, which the configuration declares"):
        fit_inputs(said, [train])
    with pytest.raises(TrainingSetError, match=r"tags is 'list<.*', expected one id in each row"):
        fit_inputs(parse_config({"inputs": {"categorical": ["tags"]}}), [train])
    with pytest.raises(TrainingSetError, match="city is 'string', expected numbers"):
        fit_inputs(parse_config({"inputs": {"numeric": ["city"]}}), [train])
    with pytest.raises(TrainingSetError, match="expected integers, or lookup"):
        fit_inputs(parse_config({"inputs": {"categorical": ["city"]}}), [train])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"numeric": ["label", "price"]}, "label is the label or the weight and an input too"),
        ({"numeric": ["price", "price"]}, "numeric names price twice"),
    ],
)
def test_inputs_that_hold_the_answer_or_stand_twice_are_refused(inputs: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({"inputs": inputs})


def test_integers_given_as_texts_are_refused(tmp_path: Path) -> None:
    """Their hashes would all be unknown ids, and nobody would see it."""
    train, _ = sets(tmp_path)
    inputs = fit_inputs(config(), [train])
    rows = table(5)
    texts = rows.set_column(rows.column_names.index("user"), "user", rows["user"].cast(pa.string()))
    with pytest.raises(TrainingSetError, match="user is 'string', expected integers, as the model learned them"):
        to_arrays(texts, inputs, train)
