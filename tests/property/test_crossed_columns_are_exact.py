"""For any layout: a crossed column says exactly which group of times and which event, and nothing twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.domain.crossing import crossed_layout, crossings, with_crossed
from synthkit.domain.layout import Layout, PatientStates

BARE = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def survival_layouts(draw):
    """A duration with spikes and a missing state or without, its event, and a covariate, in any order."""
    spikes, bins = draw(st.integers(0, 3)), draw(st.integers(1, 40))
    is_missing, event_missing = draw(st.booleans()), draw(st.booleans())
    time = (spikes + bins + is_missing, spikes, bins, is_missing)
    columns = {"time": time, "event": (2 + event_missing, 0, 0, event_missing), "x": (3, 0, 0, False)}
    names = draw(st.permutations(list(columns)))
    states, heads, middles, missing = zip(*(columns[name] for name in names), strict=True)
    return Layout(
        names=tuple(names),
        states=states,
        spikes=heads,
        bins=middles,
        missing=missing,
        timed=((names.index("time"), names.index("event")),),
    )


def all_rows(layout):
    return np.indices(layout.states).reshape(len(layout.states), -1).T


@BARE
@given(survival_layouts(), st.integers(1, 64))
def test_the_event_and_the_times_group_come_back(layout, groups):
    (one,) = crossings(layout, groups)
    rows = all_rows(layout)
    folded = one.fold(rows)
    group, event = one.unfold(folded)
    assert np.array_equal(event, rows[:, one.second])
    assert np.array_equal(group, np.array(one.groups)[rows[:, one.first]])
    # Every state is some row's, and two rows share one only with the same event and group.
    assert np.array_equal(np.unique(folded), np.arange(one.states))


@BARE
@given(survival_layouts(), st.integers(1, 64))
def test_groups_are_neighbouring_times_and_spikes_and_missing_stand_alone(layout, groups):
    (one,) = crossings(layout, groups)
    column = one.first
    spikes, bins = layout.spikes[column], layout.bins[column]
    assert list(one.groups) == sorted(one.groups)
    assert one.groups[:spikes] == tuple(range(spikes))
    middle = np.bincount(one.groups[spikes : spikes + bins])[spikes:]
    assert len(middle) == min(groups, bins)
    assert middle.max() - middle.min() <= 1
    if layout.missing[column]:
        assert one.groups.count(one.groups[-1]) == 1


@BARE
@given(survival_layouts(), st.integers(0, 64))
def test_the_layout_behind_the_columns_is_that_of_the_crossed_rows(layout, groups):
    crossed = crossings(layout, groups)
    wide = crossed_layout(layout, crossed)
    rows = with_crossed(PatientStates.one_row_each(all_rows(layout)), crossed).states
    assert rows.shape[1] == len(wide.states) == len(layout.states) + len(crossed)
    assert np.array_equal(rows[:, : len(layout.states)], all_rows(layout))
    assert (rows >= 0).all()
    assert (rows < np.array(wide.states)).all()
    assert wide.states[: len(layout.states)] == layout.states
    assert (wide is layout) is (groups == 0)


@pytest.mark.parametrize("timed", [((0, 0),), ((0, 2),), ((-1, 1),)])
def test_a_time_and_its_event_are_two_columns(timed):
    with pytest.raises(ValueError, match="two columns"):
        Layout(names=("time", "event"), states=(4, 2), timed=timed)
