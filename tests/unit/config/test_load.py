"""A topology from disk: YAML and its traps, variables of the environment, and what must never be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdp_stream.config.load import FILE_BYTES_MAX, load_topology
from cdp_stream.config.topology import Topology, canonical, topology_version
from cdp_stream.errors import TopologyError

SMALL = "space: shop\nsources: [{name: web, topic: shop.events}]\n"


def load(folder: Path, text: str | bytes, **environ: str) -> Topology:
    file = folder / "topology.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_topology(folder, environ)


def problems_of(folder: Path, text: str | bytes, **environ: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        load(folder, text, **environ)
    assert str(folder / "topology.yaml") == caught.value.file
    return [str(problem) for problem in caught.value.problems]


def test_a_folder_and_its_file_are_the_same_topology(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL) == load_topology(tmp_path / "topology.yaml", {})


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert "shop" == load(tmp_path, b"\xef\xbb\xbf" + SMALL.encode()).space


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read: No such file"):
        load_topology(tmp_path / "none", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("space: shop\nsources: [\n", "line 3, column 1: while parsing a flow node"),
        ("space: shop\n\tsources: []\n", "line 2, column 1: while scanning for the next token"),
        ("space: a\nspace: b\n", "line 2, column 1: the key 'space' is given twice"),
        ("a: &a [*a]\n", "line 1, column 8: an alias inside the very value"),
        ("space: !!python/name:os.system x\n", "line 1, column 8: could not determine a constructor"),
        (b"space: shop\nname: \xff\n", "line 2: is not UTF-8"),
        ("space: a\nname: \x07\n", "line 2: holds a character that YAML forbids"),
        ("space: 2020-13-45\n", "holds a value that YAML cannot read"),
        ("[" * 60 + "]" * 60, "line 1, column 51: nested deeper than 50"),
        ("[" * 500_000, "line 1, column 51: nested deeper than 50"),
        ("- space: shop\n", "should be a mapping of keys to values, beginning with 'space'"),
        ("", "should be a mapping of keys to values, beginning with 'space'"),
        ("#" * (FILE_BYTES_MAX + 1), "is larger than 1000000 bytes"),
    ],
    ids=range(13),
)
def test_a_file_that_is_not_usable_yaml_is_refused_with_its_place(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    problems = problems_of(tmp_path, text)
    assert [True] == [problem.startswith(expected) for problem in problems], problems


def test_all_keys_given_twice_are_reported(tmp_path: Path) -> None:
    text = SMALL + "identity:\n  merges_max: 1\n  merges_max: 2\npartitions: 1\npartitions: 2\n"
    assert [
        "line 5, column 3: the key 'merges_max' is given twice",
        "line 7, column 1: the key 'partitions' is given twice",
    ] == problems_of(tmp_path, text)


def test_aliases_that_would_grow_without_measure_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert ["line 5, column 5: aliases make this value too large"] == problems_of(tmp_path, "\n".join(lines))


def test_an_alias_used_with_measure_and_a_merge_key_are_fine(tmp_path: Path) -> None:
    text = """
space: shop
sources: [{name: web, topic: shop.events}]
destinations:
  - &crm {name: crm, topic: shop.crm, send: &calls [track]}
  - {<<: *crm, name: ads, topic: shop.ads}
  - {name: mail, topic: shop.mail, send: *calls}
"""
    assert [("track",)] * 3 == [destination.send for destination in load(tmp_path, text).destinations]


def test_variables_are_filled_from_the_environment_with_their_defaults(tmp_path: Path) -> None:
    text = "space: shop-${STAGE}\nsources: [{name: web, topic: '${TOPIC:-shop.events}', enabled: '${ON:-true}'}]\n"
    topology = load(tmp_path, text + "partitions: ${P:-4}\n", STAGE="dev", TOPIC="")
    assert ("shop-dev", "shop.events", True, 4) == (
        topology.space,
        topology.sources[0].topic,
        topology.sources[0].enabled,
        topology.partitions,
    )


def test_every_variable_without_a_value_is_reported_with_its_path(tmp_path: Path) -> None:
    text = "space: ${SPACE}\nsources: [{name: web, topic: '${TOPIC}'}]\n"
    assert [
        "space: the environment variable SPACE is not set; set it, or write ${SPACE:-default}",
        "sources[0].topic: the environment variable TOPIC is not set; set it, or write ${TOPIC:-default}",
    ] == problems_of(tmp_path, text)


def test_a_variable_without_a_proper_name_is_reported(tmp_path: Path) -> None:
    assert ["space: holds '${' without a variable's name; write ${NAME} or ${NAME:-default}"] == problems_of(
        tmp_path, "space: ${1X}\n"
    )


def test_a_value_from_the_environment_is_not_read_as_a_variable_again(tmp_path: Path) -> None:
    text = "space: shop\nsources: [{name: web, topic: t, write_key: '${KEY}'}]\n"
    key = load(tmp_path, text, KEY="${OTHER}").sources[0].write_key
    assert key is not None
    assert "${OTHER}" == key.get_secret_value()


def test_values_from_the_environment_are_never_shown(tmp_path: Path) -> None:
    text = (
        "space: '${A}'\nsources: [{name: '${A}', topic: '${A}', write_key: '${A}'}]\n"
        "audiences: [{key: '${A}', definition: '${A}', destinations: ['${A}']}]\n"
        "destinations: [{name: '${A}', topic: out}]\n"
    )
    topology = load(tmp_path, text, A="hidden1")
    assert "hidden1" == topology.audiences[0].name
    assert "hidden1" not in repr(topology) + str(topology)


def test_problems_show_variables_as_they_were_written(tmp_path: Path) -> None:
    text = (
        "space: '${A}'\nsources: [{name: '${A}', topic: '${A}'}, {name: '${A}', topic: '${A}', enabled: '${A}'}]\n"
        "identity: {blocked_values: [{pattern: '${A}'}], dedupe_horizon: '${A}', demotion: '${A}'}\n"
        "audiences: [{key: '${A}', definition: '${A}', destinations: ['${A}'], historical: '${A}'}]\n"
        "partitions: ${A}\n"
    )
    problems = problems_of(tmp_path, text, A="(?=Hidden secret")
    assert len(problems) >= 12
    assert [] == [problem for problem in problems if "idden" in problem or "(?=" in problem]
    assert "partitions: ${A} should be a whole number" in problems


def test_a_write_key_stays_a_placeholder_in_the_canonical_form(tmp_path: Path) -> None:
    text = "space: shop\nsources: [{name: web, topic: t, write_key: '${KEY}'}]\n"
    first, second = load(tmp_path, text, KEY="one"), load(tmp_path, text, KEY="two")
    assert "${KEY}" == canonical(first)["sources"][0]["write_key"]
    back = Topology.from_canonical(canonical(first))
    assert topology_version(first) == topology_version(second) == topology_version(back)
