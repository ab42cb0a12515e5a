"""Records of the output topics as lines for people."""

from __future__ import annotations

from types import SimpleNamespace

from cdp_stream.cli.tail import audience_line, dead_letter_line, destination_line, ledger_line, trait_line

RECORD = SimpleNamespace(topic="crm", partition=0, offset=9)


def test_a_merge_in_the_ledger() -> None:
    row = {"seq": "s", "decision": "profiles_merged", "profile_id": "use_a", "absorbed": ["use_b"], "now": "then",
           "identifiers": [{"type": "email", "id": "ana@example.org\x1b"}]}  # fmt: skip
    assert r"then  profiles_merged  use_a  email:ana@example.org\x1b  absorbs use_b" == ledger_line(RECORD, row)


def test_a_refused_topology_in_the_ledger() -> None:
    row = {"decision": "topology_applied", "violation": "refused: x", "now": "then", "topology_version": "aa"}
    assert "then  topology_applied  (refused: x)  topology aa" == ledger_line(RECORD, row)


def test_an_exit_of_an_absorbed_profile() -> None:
    row = {"now": "then", "profile_id": "use_a", "change": "exited", "audience_key": "big", "cause": "absorbed",
           "into": "use_b", "external_ids": {"user_id": ["u1", "u2"]}}  # fmt: skip
    assert "then  use_a  exited big (absorbed into use_b)  user_id:u1 user_id:u2" == audience_line(RECORD, row)


def test_a_trait_change() -> None:
    row = {
        "now": "then",
        "profile_id": "use_a",
        "class": "computed",
        "trait_key": "n",
        "previous": None,
        "value": "é\n",
    }
    assert r'then  use_a  computed n: null -> "é\n"' == trait_line(RECORD, row)


def test_a_destination_message_is_shown_whole() -> None:
    assert r'crm  {"userId":"u\u009b"}'.replace("\\u009b", "\\x9b") == destination_line(RECORD, {"userId": "u\x9b"})


def test_a_dead_letter() -> None:
    row = {"reason": "wrong_type", "field": "userId", "detail": "is a list", "size": 5, "now": "then",
           "source": {"topic": "events", "partition": 1, "offset": 7}}  # fmt: skip
    assert "then  #9  wrong_type userId  events/1/7  5 bytes: is a list" == dead_letter_line(RECORD, row)
