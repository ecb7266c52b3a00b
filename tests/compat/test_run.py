"""The runner: what it reads and writes; and one whole run of it, with the `openai` client that is installed here."""

import json

import pytest

from tests.compat.run import Row, document, main, read, table

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><skipped message="no"/></testcase>
<testcase name="c"><failure message="assert 1 == 2&#10;more">...</failure></testcase>
<testcase name="d"><error/></testcase>
</testsuite></testsuites>"""


def row(*why: str) -> Row:
    return Row("x", "x 1.0", "hit", 2, 1, failed=len(why), requests=5, hits=3, seconds=0.5, why=why)


def test_a_report_is_counted_and_what_failed_is_named() -> None:
    assert read(REPORT) == (1, 1, ["c: assert 1 == 2", "d: no message"])
    assert read("<testsuites/>") == (0, 0, [])


def test_a_table_has_a_line_for_each_pass_and_for_each_failure() -> None:
    lines = table([row(), row("t: broken")]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["x", "x", "1.0", "hit", "2", "1", "0", "5", "3", "0.5"],
        ["x", "x", "1.0", "hit", "2", "1", "1", "5", "3", "0.5"],
        ["x", "hit:", "t:", "broken"],
    ]


def test_the_same_as_json() -> None:
    (told,) = json.loads(document([row("t: broken")]))["rows"]
    assert (told["client"], told["pass"], told["failed"], told["why"]) == ("x", "hit", 1, ["t: broken"])


def test_a_client_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nobody"])
    assert ended.value.code == 2
    assert "no such client: nobody" in capsys.readouterr().err


def test_a_client_that_is_not_here_is_refused_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["langchain", "openai", "--here"])
    assert ended.value.code == 2
    assert "langchain-openai, langchain-tests; leave --here out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_openai_client_holds_in_every_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openai", "--here", "--json"]) == 0
    rows = {told["pass"]: told for told in json.loads(capsys.readouterr().out)["rows"]}
    assert list(rows) == ["off", "miss", "hit"]
    assert rows["off"]["hits"] == 0
    assert rows["off"]["passed"] == rows["miss"]["passed"] == rows["hit"]["passed"] > 20
    assert rows["hit"]["hits"] > rows["miss"]["hits"]
