import os

import pytest

from shared.stack.output import Output


@pytest.fixture
def output(tmp_path):
    output = Output(tmp_path)
    yield output
    output.close()


def test_lines_bear_the_programs_name_and_go_to_its_log(output, capsys):
    output.line("web", "listening")
    output.line("worker", "")
    output.line("web", "100 % %s")

    assert capsys.readouterr().out == "web      │ listening\nweb      │ 100 % %s\n"
    assert output.tail("web") == ["listening", "100 % %s"]
    assert output.tail("worker") == [""]
    assert output.tail("unknown") == []


def test_quiet_output_shows_only_what_is_bad(tmp_path, capsys):
    output = Output(tmp_path, show_programs=False)
    output.line("web", "listening")
    output.say("waiting")
    output.say("web died", bad=True)
    output.close()

    assert capsys.readouterr().out == "darkroom │ web died\n"


def test_it_goes_on_when_nobody_listens_any_more(output, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr("sys.stdout", broken)
        output.line("web", "one")
        output.line("web", "two")
        monkeypatch.undo()

    assert output.tail("web") == ["one", "two"]
