"""Tables in Markdown."""

from thinwire.reports.markdown import markdown_head, markdown_table


def test_every_line_has_as_many_cells_and_text_stands_left():
    text = markdown_table(("name", "kind", "bits"), [("`a`", "x", "1"), ("`b`", "y", "20")], left=["kind"])
    lines = text.splitlines()
    assert {line.count("|") for line in lines} == {4}
    assert lines[1] == "| --- | --- | ---: |"
    assert lines[3] == "| `b` | y | 20 |"


def test_the_head_has_the_command_and_the_versions():
    document = {"thinwire": "0.1", "jax": "0.10", "python": "3.11", "model": "tiny", "command": "python -m eval.x"}
    head = markdown_head(document, "3 texts")
    assert "3 texts; tiny, thinwire 0.1, jax 0.10, python 3.11." in head
    assert "```sh\npython -m eval.x\n```" in head
