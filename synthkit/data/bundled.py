"""The public example tables that ship with the package.

Knows their names and where the package keeps them. They are real people's rows, published for research
and teaching; each folder's ATTRIBUTION.md names source, licence and every change.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from synthkit.domain.documents import schema_from_toml
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

TITLES = {
    "diabetes": "Diabetes in eight groups of US hospitals, 1999-2008",
    "heart": "Heart disease in four hospitals, 1981-1987",
    "gbsg2": "Breast cancer, time to recurrence, German trial of 1984-1989",
    "rossi": "Time to arrest after release from prison, Maryland, 1970s",
    "lung": "Advanced lung cancer, time to death, North Central Cancer Treatment Group",
}
TEST_FILE = "test.csv.gz"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One bundled data set: a file per hospital, or one file, all of one schema.

    `test` holds patients of no hospital file, for evaluation; None where there are none. `attribution`
    is Markdown and has to accompany every copy of the rows.
    """

    name: str
    title: str
    schema: Schema
    sites: dict[str, Path]
    test: Path | None
    attribution: str


def example(name: str) -> Example:
    """The example of that name: `diabetes` or `heart`, or for survival `gbsg2`, `rossi` or `lung`.

    Raises:
        InputError: There is no such example.
    """
    if name not in TITLES:
        raise InputError(f"there is no example {shown(name)}", fix=f"one of {', '.join(TITLES)}")
    folder = Path(str(files("synthkit.data.examples") / name))
    tables = sorted(folder.glob("*.csv.gz"))
    test = folder / TEST_FILE
    return Example(
        name=name,
        title=TITLES[name],
        schema=schema_from_toml((folder / "schema.toml").read_text("utf-8"), f"{name}/schema.toml"),
        sites={path.name.removesuffix(".csv.gz"): path for path in tables if path.name != TEST_FILE},
        test=test if test in tables else None,
        attribution=(folder / "ATTRIBUTION.md").read_text("utf-8"),
    )
