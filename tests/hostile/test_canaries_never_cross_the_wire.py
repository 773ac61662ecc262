"""A federation of two marked hospitals on the real code: nothing that reaches the coordinator knows a row.

`synthkit federate` in one process: real folders, agents, ledgers and Flower messages, which are serialised
to bytes at each crossing. The bytes are kept and searched, as is everything in the coordinator's folder
(checkpoint, mirror, study, model), in the sites' folders but for the table, and in all that is printed or
logged at DEBUG. North has 1,474 patients, about 1,030 of them members. False alarm: below 1e-3,
four given bytes within some megabytes of weights.
"""

from dataclasses import replace

import numpy as np
import pytest
from canary_site import (
    BROKEN_CELLS,
    CHARTS,
    FILE_MARK,
    FOLDER_MARK,
    TEXTS,
    Marks,
    broken,
    charts,
    files_below,
    found_in,
    search,
    write_charts,
)
from canary_story import POLICIES, Story
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from safetensors.numpy import load_file

from synthkit.domain.documents import schema_to_toml
from synthkit.domain.study import Study
from synthkit.errors import PeerError
from synthkit.training.artefact import new_generator
from synthkit_client.agent import SiteAgent
from synthkit_client.app import AGENT_LOG, app
from synthkit_client.site_folder import SiteFolder
from synthkit_server import local_grid
from synthkit_server.flower_adapter import task_identity
from synthkit_server.local_grid import LocalGrid
from synthkit_server.strategy import run_rounds

PATIENTS = 1474
EVERYTHING = Marks(texts=(*TEXTS, FILE_MARK), counts=(PATIENTS,))
SITE_MARKS = Marks(counts=(PATIENTS,))
"""A site's own folder names its table in `site.toml`."""

STUDY = """[study]
name = "charts-trial"
purpose = "a test"
expires = 2999-01-01

[training]
generator = "medvae-sgd"
rounds = 2
local_steps = 3
sample_rate = 0.2
noise_multiplier = 4.0
prior_noise_multiplier = 8.0
max_grad_norm = 1.0
delta = 1e-5
learning_rate = 0.01

[[roster]]
name = "north"
declared_size = 900

[[roster]]
name = "south"
declared_size = 300
"""


class Wire:
    """Every message that crossed, in either direction, as the bytes that crossed."""

    def __init__(self) -> None:
        self.crossed: dict[str, bytes] = {}
        self._send = local_grid.send_through_wire

    def __call__(self, message):
        parts = {key: nested.deflate() for key, nested in get_all_nested_objects(message).items()}
        self.crossed[f"message {len(self.crossed) + 1}"] = b"".join(parts.values())
        return self._send(message)


def region(root, *, fault: str | None = None) -> Story:
    """Two sites' folders with tables, a study and a schema; north's table broken if asked."""
    folder = root / FOLDER_MARK
    for name, patients in (("north", PATIENTS), ("south", 400)):
        (folder / "sites" / name).mkdir(parents=True)
        frame = charts(patients, seed=len(name) + patients)
        table = broken(frame, fault) if fault and name == "north" else frame
        write_charts(folder / "sites" / name / f"{FILE_MARK}.csv", table)
    (folder / "study.toml").write_text(STUDY)
    (folder / "schema.toml").write_text(schema_to_toml(CHARTS))
    policy = (POLICIES / "demo.toml").read_text("utf-8").replace("min_sites = 3", "min_sites = 2")
    (folder / "policy.toml").write_text(policy)
    return Story(folder=folder)


def federate(story: Story) -> Wire:
    wire = Wire()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_grid, "send_through_wire", wire)
        given = ("--sites", "sites", "--study", "study.toml", "--schema", "schema.toml", "-o", "out")
        story.tell("federate", "federate", *given, "--policy", "policy.toml", "--json")
    return wire


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    story = region(tmp_path_factory.mktemp("region"))
    return story, federate(story)


def test_the_federation_ran_on_the_marked_tables(played):
    """Three rounds, two sites, down and up: at least twelve messages with weights in them."""
    story, wire = played
    assert story.codes == {"federate": 0}, story.said
    assert sum(len(crossed) > 10_000 for crossed in wire.crossed.values()) >= 12
    assert 950 < members_of(story) < 1120


def members_of(story) -> int:
    return len(SiteFolder(story.folder / "sites" / "north").read_split(CHARTS).members)


def with_members(marks: Marks, story) -> Marks:
    """The marks, and the number of members that this very federation has."""
    return replace(marks, counts=(*marks.counts, members_of(story)))


def test_no_byte_that_crossed_holds_a_mark(played):
    assert search(played[1].crossed, with_members(EVERYTHING, played[0])) == {}


def test_nothing_the_coordinator_keeps_holds_a_mark(played):
    kept = files_below(played[0].folder / "out")
    names = {"checkpoint/mirror.jsonl", "checkpoint/state.json", "model/model.json", "study.json"}
    assert names <= set(kept)
    assert search(kept, with_members(EVERYTHING, played[0])) == {}


def test_the_arrays_the_coordinator_keeps_are_the_parameters_and_nothing_else(played):
    """Parsed, not searched: a count among the weights would be a whole number above all others."""
    for path in (played[0].folder / "out").rglob("*.safetensors"):
        values = np.concatenate([array.ravel() for array in load_file(path).values()])
        assert not np.isin(values, (PATIENTS, members_of(played[0]))).any()


def test_what_is_said_and_logged_holds_no_mark(played):
    assert search(played[0].said, with_members(EVERYTHING, played[0])) == {}


def test_a_sites_own_papers_hold_no_row_id_or_count(played):
    """Ledger, approval, optimiser state, stored replies: everything in the folder but the table itself."""
    kept = files_below(played[0].folder / "sites", but=(f"{FILE_MARK}.csv",))
    assert {"north/ledger.jsonl", "north/policy.signed.json"} <= set(kept)
    assert any(name.endswith("state.safetensors") for name in kept)
    assert any("/replies/" in name for name in kept)
    assert search(kept, with_members(SITE_MARKS, played[0])) == {}


@pytest.mark.parametrize("fault", BROKEN_CELLS)
def test_a_site_whose_table_does_not_fit_says_one_word_and_logs_no_cell(tmp_path, fault):
    story = region(tmp_path, fault=fault)
    wire = federate(story)
    assert story.codes == {"federate": 7}, story.said
    assert any(b"refusal" in crossed and b"input" in crossed for crossed in wire.crossed.values())
    assert b"north: input" in story.said["federate.err"]
    assert search(wire.crossed, EVERYTHING) == {}
    assert search(files_below(story.folder / "out"), EVERYTHING) == {}
    assert search(story.said, SITE_MARKS) == {}
    kept = files_below(story.folder / "sites", but=(f"{FILE_MARK}.csv",))
    assert search(kept, SITE_MARKS) == {}


def test_the_sites_own_log_names_the_column_and_the_line(tmp_path):
    """So that the silence above is not a person's loss: the reason is in `agent.log` at the site."""
    story = region(tmp_path, fault="an unknown category")
    path = story.folder / "sites" / "north"
    assert federate(story).crossed
    hospital = SiteFolder(path)
    (study,) = (path / "studies").iterdir()
    plan_file = hospital.read_json(study / "study.json")["document"]
    weights = initial_weights(Study.from_json(plan_file))
    grid = LocalGrid({"north": app}, node_configs={"north": {"site-dir": str(path)}})
    with task_identity(run_id=1), pytest.raises(PeerError, match="north: input"):
        run_rounds(grid, Study.from_json(plan_file), weights, sites=grid.sites)
    log = (path / AGENT_LOG).read_bytes()
    assert b"column sex, row 18 (line 19)" in log
    assert found_in(log, SITE_MARKS) == []


def test_the_tap_sees_what_an_agent_would_leak(tmp_path, monkeypatch):
    """An agent that names a patient as its site: the mark is in the bytes, and the search finds it."""
    story = region(tmp_path)
    honest = SiteAgent.answer

    def leaky(self, request):
        return replace(honest(self, request), signature=f"{TEXTS[0]}-7000013")

    monkeypatch.setattr(SiteAgent, "answer", leaky)
    wire = federate(story)
    assert story.codes == {"federate": 7}
    assert {mark for marks in search(wire.crossed, EVERYTHING).values() for mark in marks} == {TEXTS[0]}
    assert search(story.said, EVERYTHING) == {}, "the coordinator does not repeat what it refuses"


def initial_weights(study):
    plan = study.plan
    return new_generator(plan.generator, study.schema, plan.hyperparameters, seed=0).get_weights()
