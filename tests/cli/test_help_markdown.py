"""The page of all help."""

from pathlib import Path

from click.testing import CliRunner

from trivet.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_in_docs_is_what_the_commands_say() -> None:
    """If this fails: trivet help-markdown > docs/cli.md."""
    result = CliRunner().invoke(cli, ["help-markdown"], prog_name="trivet")
    assert result.exit_code == 0
    assert PAGE.read_text() == result.output


def test_commands_below_commands_are_on_the_page() -> None:
    output = CliRunner().invoke(cli, ["help-markdown"], prog_name="trivet").output
    assert "\n## trivet keys create\n" in output
    assert "help-markdown [" not in output
