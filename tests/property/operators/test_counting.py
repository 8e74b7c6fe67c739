"""Counts by interval are what the requests were, whatever resets and restarts lie between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tidegate_operators.rollout.counting import Series, increases, windows
from tidegate_operators.rollout.steps import grid_floor

GROWTH = st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=12)


def _counter(growth: list[tuple[int, bool]], start: int) -> tuple[float, ...]:
    """A counter that grows by each number, restarting from zero first where the flag says so."""
    values = [float(start)]
    for number, restarted in growth:
        values.append(float(number) if restarted else values[-1] + number)
    return tuple(values)


@given(growth=GROWTH, start=st.integers(0, 1000))
def test_what_a_series_shows_is_counted_per_series_with_resets(growth: list[tuple[int, bool]], start: int) -> None:
    values = _counter(growth, start)
    found = increases([Series("a", values)], "a", len(values))
    for before, after, counted, (number, restarted) in zip(values, values[1:], found, growth, strict=False):
        hidden = restarted and number >= before  # a reset that looks like growth cannot be told from growth
        assert counted == (after - before if hidden else number)


@given(growth=GROWTH)
def test_a_series_that_appears_counts_from_zero_when_others_were_scraped(growth: list[tuple[int, bool]]) -> None:
    points = len(growth) + 1
    stable = Series("s", tuple(float(k) for k in range(points)))
    born = Series("c", (None, *_counter(growth, 0)[1:]))
    assert increases([stable, born], "c", points)[0] == born.values[1]
    assert increases([born], "c", points)[0] is None


def test_absent_events_are_zero_and_absent_trials_missing() -> None:
    grid = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=10 * k) for k in range(3)]
    trials = [Series("s", (0.0, 10.0, 20.0)), Series("c", (None, 4.0, 8.0))]
    first, second = windows("errors", grid, "s", "c", events=[], trials=trials)
    assert (first.stable.trials, first.canary.trials, first.canary.events) == (10.0, 4.0, 0.0)
    (missing, _) = windows("errors", grid, "s", "x", events=[], trials=trials)
    assert missing.canary.trials == 0.0
    assert second.stable.trials == 10.0


def test_the_complement_counts_what_is_not_in_the_bucket() -> None:
    grid = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)]
    trials, fast = (
        [Series("s", (0.0, 10.0)), Series("c", (0.0, 10.0))],
        [Series("s", (0.0, 10.0)), Series("c", (0.0, 7.0))],
    )
    (found,) = windows("slow", grid, "s", "c", events=fast, trials=trials, complement=True)
    assert (found.stable.events, found.canary.events) == (0.0, 3.0)


@given(seconds=st.integers(0, 10**7), interval=st.integers(1, 600))
def test_the_grid_is_the_same_for_everybody(seconds: int, interval: int) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    floor = grid_floor(moment, timedelta(seconds=interval))
    assert floor <= moment < floor + timedelta(seconds=interval)
    assert floor.timestamp() % interval == 0


@given(
    growth=st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=2, max_size=12), start=st.integers(0, 1000)
)
def test_a_scrape_that_fails_loses_nothing_and_adds_nothing(growth: list[tuple[int, bool]], start: int) -> None:
    values = [float(start)]
    for number, _ in growth:
        values.append(values[-1] + number)
    gaps = [False, *(lacks for _, lacks in growth[:-1]), False]
    seen = tuple(None if lacks else value for value, lacks in zip(values, gaps, strict=True))
    other = Series("s", tuple(float(k) for k in range(len(values))))
    found = increases([Series("c", seen), other], "c", len(values))
    assert sum(each or 0.0 for each in found) == values[-1] - values[0]
