from ..loop import Loop, Spawner


def test_the_verdict_is_printed_as_markdown(spawner: Spawner, turned_twice: Loop) -> None:
    newest = spawner.run(turned_twice.root, "report", "--markdown")
    assert (newest.code, newest.err) == (0, "")
    assert newest.out.startswith("## Release 2: the gate passed cycle 2\n")
    assert newest.out == spawner.run(turned_twice.root, "report", "--markdown", "2").out
    assert spawner.run(turned_twice.root, "report", "1", "--markdown").out.startswith("## Release 1: ")


def test_what_cannot_be_told_is_one_line(spawner: Spawner, turned_twice: Loop) -> None:
    gone = spawner.run(turned_twice.root, "report", "--markdown", "7")
    assert (gone.code, gone.err) == (2, "tilth: there is no finished cycle 7; run `tilth cycle` first\n")
    both = spawner.run(turned_twice.root, "report", "--markdown", "--serve")
    assert (both.code, both.out, both.err.count("\n")) == (2, "", 1)
