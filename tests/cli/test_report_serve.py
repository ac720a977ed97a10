import signal
import socket
import time
import urllib.request

from ..loop import Loop, Spawner


def test_reports_are_served_until_ctrl_c(spawner: Spawner, untouched: Loop) -> None:
    running = spawner.start(untouched.root, "report", "--serve", "--port", "0")
    out = running.folder / "out"
    while not (out.exists() and out.read_text().endswith("\n")):
        time.sleep(0.02)
    url = out.read_text().split()[0]
    with urllib.request.urlopen(url, timeout=30) as page:
        assert "There is no cycle yet" in page.read().decode()
    running.send(signal.SIGINT)
    ran = running.wait()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{url} (Ctrl-C ends it)\nended\n"


def test_a_port_in_use_is_told_in_one_line(spawner: Spawner, untouched: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = spawner.run(untouched.root, "report", "--serve", "--port", str(port))
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"port {port} cannot be used" in ran.err
    assert "name another one with --port" in ran.err
