"""A site whose site.toml names a database and a query trains, splits and audits as from its file."""

import shutil
import tomllib

import numpy as np
import pytest
from hospital import found
from pandas.testing import assert_frame_equal
from small_ward import WARD
from sql_desk import store_file

from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.errors import InputError
from synthkit_client.site_folder import SiteFolder

QUERIES = """table = "URL"
query = "SELECT * FROM visits"
patients = "URL"
patients_query = "SELECT * FROM people"
"""
SECRET = "GEHEIM-4711"  # noqa: S105 - planted


def into_database(folder, *, query="SELECT * FROM patients", name="ward.db"):
    """The hospital's file becomes a table; the file goes."""
    site = folder / "site.toml"
    assert tomllib.loads(site.read_text())["site"]["table"] == "patients.csv"
    if (folder / "patients.csv").exists():
        store_file(folder / "ward.db", "patients", folder / "patients.csv")
        (folder / "patients.csv").unlink()
    address = f'table = "sqlite:///{folder}/{name}?key={SECRET}"\nquery = "{query}"'
    site.write_text(site.read_text().replace('table = "patients.csv"', address))
    return SiteFolder(folder)


def test_the_split_is_that_of_the_file(tmp_path):
    hospital = found(tmp_path / "a")
    before = SiteFolder(hospital.path).read_split(WARD)
    after = into_database(hospital.path).read_split(WARD)
    for part in ("members", "holdout", "reference"):
        left, right = getattr(before, part), getattr(after, part)
        assert_frame_equal(left.frame, right.frame)
        assert np.array_equal(left.lots, right.lots)


def test_a_round_is_answered_from_it(tmp_path):
    hospital = found(tmp_path / "a").ready()
    into_database(hospital.path)
    reply = hospital.agent().answer(hospital.request())
    assert reply.weights
    assert SECRET not in (hospital.path / "ledger.jsonl").read_text()


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("SELECT * FROM nothing", "ward.db"),
        ("", "ward.db"),
        ("SELECT 1 AS a", "ward.db"),
        ("SELECT 1", "no.db"),
    ],
)
def test_what_fails_names_the_site_and_no_address(tmp_path, query, name):
    folder = into_database(found(tmp_path / "a").path, query=query, name=name)
    with pytest.raises(InputError) as caught:
        folder.read_split(WARD)
    assert str(caught.value).startswith("north/database: ")
    assert SECRET not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_records_and_their_patients_are_two_queries(tmp_path):
    made = simulate(standard_process(visits_mean=3, most_visits=6), 80, seed=4)
    write_sequences(made, tmp_path / "records.csv", patients=tmp_path / "patients.csv")
    sites = {}
    for name, lines in (
        ("files", 'table = "records.csv"\npatients = "patients.csv"'),
        ("queries", QUERIES.replace("URL", f"sqlite:///{tmp_path}/ward.db")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        split = "[split]\nmembers = 0.6\nholdout = 0.2\nreference = 0.2\nseed = 1"
        settings = f'[site]\nname = "north"\ndeclared_size = 80\n{lines}\n{split}\n'
        (folder / "site.toml").write_text(settings, encoding="utf-8")
        sites[name] = SiteFolder(folder)
    for table, file in (("visits", "records.csv"), ("people", "patients.csv")):
        store_file(tmp_path / "ward.db", table, tmp_path / file)
        shutil.copy(tmp_path / file, tmp_path / "files" / file)
    one, other = (sites[name].read_record_split(made.schema) for name in ("files", "queries"))
    for part in ("members", "holdout", "reference"):
        left, right = getattr(one, part), getattr(other, part)
        assert np.array_equal(left.codes, right.codes)
        assert np.array_equal(left.patient_starts, right.patient_starts)
        assert_frame_equal(left.statics, right.statics)
