"""Partitions go where their state is, and the shares stay even."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.stream.assignor import Holding, share_out

members = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(
        Holding,
        generation=st.integers(-1, 3),
        owned=st.lists(st.integers(0, 9), unique=True).map(tuple),
        stored=st.lists(st.integers(0, 9), unique=True).map(tuple),
    ),
    min_size=1,
)


@given(members, st.integers(1, 10))
def test_every_partition_has_one_member_and_shares_are_even(holdings: dict[str, Holding], count: int) -> None:
    shares = share_out(range(count), holdings)
    assert list(range(count)) == sorted(partition for share in shares.values() for partition in share)
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    assert holdings.keys() == shares.keys()


@given(members, st.integers(1, 10), st.randoms())
def test_the_order_of_members_and_partitions_never_matters(
    holdings: dict[str, Holding], count: int, draw: object
) -> None:
    shuffled = list(holdings.items())
    partitions = list(range(count))
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    draw.shuffle(partitions)  # type: ignore[attr-defined]
    assert share_out(range(count), holdings) == share_out(partitions, dict(shuffled))


@given(st.sets(st.sampled_from("abcdef"), min_size=1), st.integers(1, 10))
def test_a_second_round_moves_nothing(names: set[str], count: int) -> None:
    first = share_out(range(count), dict.fromkeys(names, Holding()))
    again = {name: Holding(generation=1, owned=tuple(share)) for name, share in first.items()}
    assert first == share_out(range(count), again)


@given(st.sets(st.sampled_from("abcdef"), min_size=2), st.integers(1, 10), st.data())
def test_one_that_leaves_moves_only_its_own(names: set[str], count: int, data: st.DataObject) -> None:
    before = share_out(range(count), dict.fromkeys(names, Holding()))
    gone = data.draw(st.sampled_from(sorted(names)))
    left = {name: Holding(1, tuple(share)) for name, share in before.items() if name != gone}
    after = share_out(range(count), left)
    for name, holding in left.items():
        assert set(holding.owned) <= set(after[name])


@given(st.sets(st.sampled_from("abcde"), min_size=1), st.integers(1, 10))
def test_one_that_joins_takes_no_more_than_its_share(names: set[str], count: int) -> None:
    before = share_out(range(count), dict.fromkeys(names, Holding()))
    holdings = {name: Holding(1, tuple(share)) for name, share in before.items()} | {"f": Holding()}
    after = share_out(range(count), holdings)
    moved = sum(len(set(before[name]) - set(after[name])) for name in names)
    assert moved == len(after["f"])


def test_a_partition_without_an_owner_goes_to_the_state_on_disk() -> None:
    holdings = {
        "a": Holding(1, owned=(0,), stored=(0,)),
        "b": Holding(1, owned=(1,), stored=(1, 2, 3)),
        "c": Holding(stored=(2,)),
    }
    assert {"a": [0], "b": [1, 3], "c": [2]} == share_out(range(4), holdings)


def test_of_two_that_claim_to_own_a_partition_the_later_generation_is_right() -> None:
    holdings = {"a": Holding(4, owned=(0, 1)), "b": Holding(5, owned=(1,))}
    assert {"a": [0], "b": [1]} == share_out(range(2), holdings)
