"""CSV and parquet: headers, labels, splits, words, and cells that are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from vaekit.data import open_data
from vaekit.errors import VaekitError

RNG = np.random.default_rng(0)


def test_csv_with_header_and_named_label(tmp_path):
    rows = RNG.normal(size=(30, 3))
    lines = ["age;height;mass;species"] + [
        ";".join([*map(repr, map(float, r)), "ab"[i % 2]]) for i, r in enumerate(rows)
    ]
    (tmp_path / "t.csv").write_text("\ufeff" + "\n".join(lines) + "\n\n", encoding="utf-8")
    data = open_data(tmp_path / "t.csv", whole=True)
    assert data.contract.columns == ("age", "height", "mass") and data.contract.labels == ("a", "b")
    assert np.allclose(data.train.x, rows) and data.contract.kind == "real"
    assert len(data.contract.divisor) == 3
    with pytest.raises(VaekitError, match="did you mean 'species'"):
        open_data(tmp_path / "t.csv", labels="spceies")


def test_csv_without_header_and_split_column(tmp_path):
    np.savetxt(tmp_path / "n.csv", RNG.poisson(2, (20, 4)), fmt="%d", delimiter=",")
    contract = open_data(tmp_path / "n.csv").contract
    assert contract.kind == "counts" and sum(contract.rows.values()) == 20
    lines = ["a,b,split", *(f"{i * 0.5},{i},{'test' if i < 5 else 'train'}" for i in range(20))]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    assert open_data(tmp_path / "s.csv").contract.rows["test"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,\n4,5\n6,7\n", "line 3, column 'b' is empty"),
        ("a,b\n1,2\n3,4\n4,x\n6,7\n", "line 4, column 'b' is 'x'"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, the first has 2"),
        ("a,b\n1,2\n3,nan\n5,6\n", r"row 1 \(counted from 0\), column 'b' holds NaN"),
        ("a,b\n1,2\n3,inf\n5,6\n", r"row 1 \(counted from 0\), column 'b' holds an infinite value"),
        ("a,b\n", "no rows"),
        ("\n\n", "is empty"),
    ],
)
def test_bad_cells_are_named_by_line_and_column(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(VaekitError, match=message):
        open_data(tmp_path / "t.csv")


def test_words_are_categories_and_come_back_as_words(tmp_path):
    lines = [
        "colour,shape",
        *(f"{['red', 'green', 'blue'][i % 3]},{['round', 'flat'][i % 2]}" for i in range(30)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = open_data(tmp_path / "t.csv", whole=True)
    contract = data.contract
    assert (contract.kind, contract.levels, contract.shape) == ("categories", 2, (2,))
    assert [",".join(row) for row in contract.words(data.train.x)] == lines[1:]
    (tmp_path / "new.csv").write_text("shape,colour\nflat,green\n")
    new = open_data(tmp_path / "new.csv", contract=contract, whole=True)
    assert contract.words(new.train.x).tolist() == [["green", "flat"]]
    (tmp_path / "new.csv").write_text("shape,colour\nflat,violet\n")
    with pytest.raises(VaekitError, match="column 'colour' has 'violet'"):
        open_data(tmp_path / "new.csv", contract=contract, whole=True)


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="the tables extra is not installed")
    import pyarrow.parquet as parquet

    x = RNG.normal(size=(30, 2))
    vectors = arrow.array(list(x), arrow.list_(arrow.float64()))
    parquet.write_table(arrow.table({"v": vectors, "label": ["a", "b"] * 15}), tmp_path / "t.parquet")
    data = open_data(tmp_path / "t.parquet", whole=True)
    assert np.allclose(data.train.x, x) and data.contract.labels == ("a", "b")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(VaekitError, match="not a readable parquet"):
        open_data(tmp_path / "t.parquet")
