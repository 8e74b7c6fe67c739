"""A training run, declared in one YAML file: what the model reads, how it is built, how it learns."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tidegate_api.errors import TidegateError, expectation

__all__ = [
    "Architecture",
    "Categorical",
    "Config",
    "ConfigError",
    "Cross",
    "Data",
    "Declared",
    "MultiHot",
    "NumericInput",
    "Schedule",
    "Sequence",
    "Sparse",
    "Training",
    "parse_config",
    "read_config",
    "with_settings",
]


class ConfigError(TidegateError):
    """A training configuration that is not one."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_Width = Annotated[int, Field(ge=1)]


class Architecture(_Part):
    """The model over the embeddings: which one, and its widths.

    `cross_layers` and `cross_rank` (0: full matrices) are read by dcn_v2, `bottom` by dlrm only. fbgemm wants embedding
    dimensions in multiples of four.
    """

    name: Literal["wide_deep", "deepfm", "dcn_v2", "dlrm"] = "wide_deep"
    embedding_dim: int = Field(default=16, ge=4, le=1024, multiple_of=4)
    hidden: tuple[_Width, ...] = Field(default=(256, 128), min_length=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    cross_layers: int = Field(default=3, ge=1)
    cross_rank: int = Field(default=0, ge=0)
    bottom: tuple[_Width, ...] = (64,)


class NumericInput(_Part):
    """A number, standardized over the training set; `log1p` first takes log(1 + max(x, 0))."""

    column: str
    transform: Literal["log1p", "standard"] = "standard"
    missing: float = 0.0
    """Raw value that stands for a null or NaN."""


class _Ids(_Part):
    """How raw ids become rows of a table.

    identity: an id below `rows` (default: the greatest of the training set + 1) has its own row. vocabulary: every id
    seen `min_count` times has. hash: the id is folded into `rows` by a universal hash. Whatever has no row of its own
    shares `buckets` rows, learned by showing a share of the known ids (`unknown_share`) as unknown.
    """

    lookup: Literal["identity", "hash", "vocabulary"] = "identity"
    rows: int | None = Field(default=None, ge=1, le=2**31 - 1)
    buckets: int = Field(default=1, ge=1)
    min_count: int = Field(default=1, ge=1)
    unknown_share: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _hash_has_rows(self) -> Self:
        if self.lookup == "hash" and self.rows is None:
            raise ValueError("rows: a hash needs the number of rows that it folds ids into")
        return self


class Categorical(_Ids):
    """One id, integer or text. A null has a row of its own."""

    column: str
    name: str = ""


class MultiHot(_Ids):
    """Several ids without order: a list column, or `columns` with one id each. No ids: the vector of zeros."""

    name: str = ""
    column: str = ""
    columns: tuple[str, ...] = ()
    max_length: int = Field(default=16, ge=1, le=1024)
    """Ids of a list column that are read: the last ones."""
    pooling: Literal["sum", "mean"] = "sum"
    none: int = -1
    """This id is no id (beside every negative one)."""
    shares: str = ""
    """Name of another input whose table is read."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.column) == bool(self.columns):
            raise ValueError("column or columns: give one list column, or several columns with an id each")
        return self


class Sequence(MultiHot):
    """Ids in the order of time, newest last, such as the items that a user clicked.

    attention: softmax(q . k / sqrt(dim)) over the ids, where q is the vector of the input named by `target`.
    """

    pooling: Literal["sum", "mean", "attention"] = "mean"  # type: ignore[assignment]
    target: str = ""

    @model_validator(mode="after")
    def _attention_has_a_target(self) -> Self:
        if self.pooling == "attention" and not self.target:
            raise ValueError("target: attention needs the name of the input that is looked for")
        return self


class Cross(_Part):
    """The product of categorical inputs, hashed into `rows` weights of the linear part (phi of Wide & Deep)."""

    of: tuple[str, ...] = Field(min_length=2)
    rows: int = Field(default=100_000, ge=1, le=2**31 - 1)


def _columns(many: MultiHot) -> tuple[str, ...]:
    return (one,) if (one := many.column) else tuple(many.columns)


class Declared(_Part):
    """What the model reads. `views`: every number that a feature view put into the training set, by its kind."""

    label: str = "label"
    weight: str = ""
    """Column of row weights, such as the correction of negative down-sampling; none: all rows alike."""
    numeric: tuple[NumericInput, ...] = ()
    categorical: tuple[Categorical, ...] = ()
    multi_hot: tuple[MultiHot, ...] = ()
    sequence: tuple[Sequence, ...] = ()
    crosses: tuple[Cross, ...] = ()
    views: bool = False

    @model_validator(mode="after")
    def _each_has_a_name_of_its_own(self) -> Self:
        many = (*self.multi_hot, *self.sequence)
        names = [one.name or one.column for one in self.categorical]
        names += [one.name or one.column or one.columns[0] for one in many]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two inputs are called {twice[0]}: give one of them a name of its own (name: ...)")
        columns = [one.column for one in self.numeric]
        read = {*columns, *(one.column for one in self.categorical), *(c for one in many for c in _columns(one))}
        if self.label in read or (self.weight and self.weight in read):
            told = self.label if self.label in read else self.weight
            raise ValueError(f"{told} is the label or the weight and an input too: the model would read the answer")
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ValueError(f"numeric names {twice[0]} twice")
        for one in many:
            for field in ("shares", "target"):
                wanted = getattr(one, field, "")
                if wanted and wanted not in names:
                    raise ValueError(f"{field} of {one.name or one.column}: there is no input called {wanted}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, given: Any) -> Any:
        """`numeric: [I1, I2]` and `categorical: [C1]` say the columns only."""
        if not isinstance(given, dict):
            return given
        spread = {
            kind: [{"column": one} if isinstance(one, str) else one for one in given[kind]]
            for kind in ("numeric", "categorical", "multi_hot", "sequence")
            if isinstance(given.get(kind), list | tuple)
        }
        return {**given, **spread}


class Sparse(_Part):
    """The optimizer of the tables, fused into the backward pass (no dense gradients of tables, ever)."""

    optimizer: Literal["rowwise_adagrad", "adagrad", "sgd"] = "rowwise_adagrad"
    learning_rate: float = Field(default=0.02, gt=0)


class Schedule(_Part):
    """Factor on both learning rates: a linear rise over `warmup_steps`, then as `kind` says down to `floor`."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    floor: float = Field(default=0.0, ge=0, le=1)


class EarlyStopping(_Part):
    """Stop after `patience` epochs without a better figure on the validation set."""

    metric: Literal["logloss", "auc"] = "logloss"
    patience: int = Field(default=2, ge=1)


class Ranking(_Part):
    """A pairwise loss, `weight` times, beside LogLoss, between the rows of a batch that compete.

    Those have the same id in the input `within`: a user or a request. It raises what orders a list (GAUC, NDCG), at
    some cost to what compares lists (AUC, LogLoss). Of several ranks each pairs its own rows.
    """

    within: str
    weight: float = Field(default=1.0, gt=0)


class Training(_Part):
    """How it learns. `batch_size` is that of all ranks; `refit` learns anew from both sets once epochs are known."""

    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=4096, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    sparse: Sparse = Sparse()
    schedule: Schedule = Schedule()
    ranking: Ranking | None = None
    early_stopping: EarlyStopping = EarlyStopping()
    seed: int = Field(default=7, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = Field(default=None, ge=1)
    refit: bool = False
    max_forgetting: float = Field(default=0.05, ge=0)
    """Of an update: how much the LogLoss on rows that the model before was judged by may rise."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """A checkpoint after so many steps, and after every epoch; 0: after epochs only."""


class Data(_Part):
    """Where the sets lie, for commands that are not told: Parquet files or folders."""

    train: Path
    valid: Path


class Config(_Part):
    """All of a training run. `inputs` left out: the columns that Tidegate's own sample join writes."""

    name: str = Field(default="ctr-ranker", pattern=r"^[A-Za-z0-9][\w.-]*$")
    model: Architecture = Architecture()
    inputs: Declared | None = None
    training: Training = Training()
    data: Data | None = None

    @property
    def label(self) -> str:
        """The label's column."""
        return self.inputs.label if self.inputs else "label"

    @property
    def weight(self) -> str:
        """The column of row weights, "" where there is none."""
        return self.inputs.weight if self.inputs else ""

    @model_validator(mode="after")
    def _crosses_are_read(self) -> Self:
        if self.inputs and self.inputs.crosses and self.model.name not in {"wide_deep", "deepfm"}:
            raise ValueError(f"inputs.crosses: {self.model.name} has no linear part; use wide_deep or deepfm")
        return self


def read_config(path: Path) -> Config:
    """Parse a YAML file. Raises ConfigError that names file and field."""
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            resource=f"training configuration {path.name}", field="file", value=str(path),
            expected=f"a readable YAML file ({str(error).splitlines()[0]})", remedy="check the path and the file",
        ) from error  # fmt: skip
    return parse_config(data or {}, path.name)


def parse_config(data: Any, origin: str = "") -> Config:
    """The configuration of plain data. Raises ConfigError with the first fault."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise _first_fault(error, origin) from error


def _first_fault(error: ValidationError, origin: str) -> ConfigError:
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"]) or "the file"
    value = fault.get("input") if not isinstance(fault.get("input"), dict) else sorted(fault["input"])
    expected, remedy = expectation(fault), "correct it; docs/training.md lists the fields"
    if fault["type"] == "extra_forbidden":
        remedy = _meant(str(fault["loc"][-1])) or remedy
    return ConfigError(
        resource=f"training configuration {origin}".strip(), field=field, value=value, expected=expected, remedy=remedy
    )


def _meant(name: str) -> str:
    """The field that was probably meant."""
    parts = Config.model_json_schema()["$defs"].values()
    known = {field for part in parts for field in part.get("properties", {})} | set(Config.model_fields)
    near = difflib.get_close_matches(name, known, 1)
    return f"perhaps {near[0]} is meant" if near else ""


def with_settings(config: Config, settings: dict[str, Any]) -> Config:
    """The configuration with values put in by dotted path, such as `training.learning_rate`. Raises ConfigError."""
    data = config.model_dump(mode="json")
    for path, value in settings.items():
        *parents, last = path.split(".")
        part: Any = data
        for parent in parents:
            part = part.get(parent) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            raise ConfigError(
                resource="training configuration", field=path, value=value, expected="the dotted path of a field",
                remedy="see docs/training.md, for example training.learning_rate or model.embedding_dim",
            )  # fmt: skip
        part[last] = value
    return parse_config(data)
