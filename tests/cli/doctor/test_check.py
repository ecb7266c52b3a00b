"""One finding."""

from trivet.cli.doctor.check import Check, bad, ok, warn


def test_what_is_in_place_is_nobodys_to_fix() -> None:
    assert ok("port", "is free") == Check("ok", "port", "is free", "", "")


def test_what_is_not_in_place_is_the_operators_to_fix_unless_it_is_said() -> None:
    assert warn("disk", "little", "df -h").whose == "operator"
    assert bad("target a", "500", "wait", "upstream") == Check("bad", "target a", "500", "wait", "upstream")
